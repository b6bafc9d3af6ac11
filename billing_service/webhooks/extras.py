"""Whether money was for prepaid extras. What it means for their ledger is not decided here.

Until there is that ledger, every event that would move it is parked by name: dead, with its reason, to be
replayed.
"""

from collections.abc import Mapping
from typing import NoReturn

from ..stripe_gateway import LiveCheckoutSession, StripeGateway

EXTRAS = "extras"
PAID = ("paid", "no_payment_required")


class ExtrasParked(Exception):
    """The event moves prepaid extras, which have no ledger here yet; nothing was credited or debited."""

    reason = "extras_unsupported"


def is_extras(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata of a session, a payment or a charge say that it is about prepaid extras."""
    return metadata.get("kind") == EXTRAS


def sold_extras(
    payment_intent: str | None, metadata: Mapping[str, str], stripe: StripeGateway
) -> LiveCheckoutSession | bool | None:
    """What tells that a charge paid for extras: the session, or True if only the charge's metadata say so.

    Falsy if nothing does. Whether the session is shown as paid does not matter: the charge is.
    """
    sessions = stripe.checkout_sessions_of(payment_intent).value if payment_intent else ()
    return next((each for each in sessions if is_extras(each.metadata)), None) or is_extras(metadata)


def park_extras(what: str, would_be: str) -> NoReturn:
    """Refuse, by name, to touch extras: `what` (a Stripe id) would be credited, debited or looked at."""
    raise ExtrasParked(
        f"{what} is about prepaid extras and would be {would_be}, which this version does not do. Nothing was "
        "booked. Keep the dead letter and replay it when extras are supported."
    )
