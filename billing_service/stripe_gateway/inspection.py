"""What an installation is checked by at Stripe: what the key may read, and prices. All of it only reads."""

from dataclasses import dataclass

import stripe

from ..errors import BillingError
from .answers import path_of
from .client import StripeGateway
from .shapes import Read


@dataclass(frozen=True)
class Right:
    """What a key needs of one collection of Stripe's: the gateway's calls that read it, and those that change it."""

    collection: str
    reads: tuple[str, ...]
    changes: tuple[str, ...] = ()
    # Only the doctor reads it.
    optional: bool = False


RIGHTS = (
    Right("account", ("account",)),
    Right("customers", ("customer", "customers_by_email")),
    Right(
        "subscriptions",
        ("subscription", "subscriptions_of", "newest_subscriptions_of", "subscriptions_page"),
        ("cancel_now", "cancel_at_period_end"),
    ),
    Right("invoices", ("invoice", "open_invoices_of")),
    Right("charges", ("charge", "charges_of", "charges_page", "charges_of_payment")),
    Right("refunds", ("refund", "refunds_of"), ("create_refund",)),
    Right("disputes", ("dispute", "disputes_of")),
    Right("checkout/sessions", ("checkout_session", "checkout_sessions_of")),
    Right("events", ("event", "events")),
    Right("webhook_endpoints", ("webhook_endpoints",), optional=True),
    Right("prices", ("price",), optional=True),
)


@dataclass(frozen=True)
class LivePrice:
    """A price; `unit_amount` is in minor units of `currency`, None for tiered prices."""

    id: str
    active: bool
    livemode: bool
    currency: str
    unit_amount: int | None
    recurring: bool


def try_right(gateway: StripeGateway, right: Right) -> None:
    """Read as little as can be read of the collection. Raises StripeMisconfigured, `lacks` among its facts, if the
    key may not."""
    params = {} if right.collection == "account" else {"limit": 1}
    gateway._get("try_right", f"/v1/{right.collection}", params)


def find_price(gateway: StripeGateway, price_id: str) -> Read[LivePrice]:
    """A price, inactive ones too; raises StripeMissing."""
    return gateway._value(gateway._get("price", path_of("prices", price_id)), _price, "price")


def _price(raw: dict) -> LivePrice:
    return LivePrice(
        id=raw["id"],
        active=bool(raw["active"]),
        livemode=bool(raw["livemode"]),
        currency=str(raw["currency"]),
        unit_amount=raw.get("unit_amount"),
        recurring=raw["type"] == "recurring",
    )


def is_key_refused(refusal: BillingError) -> bool:
    """Whether Stripe takes the key for nobody's, not only for too weak."""
    return isinstance(refusal.__cause__, stripe.AuthenticationError)
