"""Whether money was for prepaid extras. What it means for their ledger is not decided here.

Until there is that ledger, every event that would move it is parked by name: dead, with its reason, to be
replayed.
"""

from collections.abc import Iterable
from typing import NoReturn

from ..stripe_gateway import LiveCheckoutSession, StripeGateway

EXTRAS = "extras"
PAID = ("paid", "no_payment_required")


class ExtrasParked(Exception):
    """The event moves prepaid extras, which have no ledger here yet; nothing was credited or debited."""

    reason = "extras_unsupported"


def is_extras(session: LiveCheckoutSession) -> bool:
    """Whether the session sold prepaid extras."""
    return session.metadata.get("kind") == EXTRAS


def sold_extras(payment_intent: str | None, stripe: StripeGateway) -> LiveCheckoutSession | None:
    """The paid session of extras behind a payment intent, None if it was for something else."""
    if payment_intent is None:
        return None
    return first_paid(stripe.checkout_sessions_of(payment_intent).value)


def first_paid(sessions: Iterable[LiveCheckoutSession]) -> LiveCheckoutSession | None:
    """The first session of extras that is paid for."""
    return next((each for each in sessions if is_extras(each) and each.payment_status in PAID), None)


def park_extras(what: str, would_be: str) -> NoReturn:
    """Refuse, by name, to touch extras: `what` (a Stripe id) would be credited, debited or looked at."""
    raise ExtrasParked(
        f"{what} is about prepaid extras and would be {would_be}, which this version does not do. Nothing was "
        "booked. Keep the dead letter and replay it when extras are supported."
    )
