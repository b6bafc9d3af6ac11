"""Stripe's objects as small frozen values, read from either API shape (before and after 2025-03-31).

Times are aware UTC, amounts are minor units. A key that Stripe did not send is not in `present`.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

from ..observability import mask

Value = TypeVar("Value")


@dataclass(frozen=True)
class Read(Generic[Value]):
    """What Stripe answered. By Stripe's clock the object was read between `as_of` (Date minus duration) and
    `seen_until` (Date, cut off to the second).
    """

    value: Value
    as_of: datetime
    request_id: str | None = None
    seen_until: datetime | None = None


@dataclass(frozen=True)
class LiveItem:
    """One item of a subscription. `unit_amount` is in minor units of `currency`, None for tiered prices and for those
    of a fraction of a unit, which `exact_amount` has.
    """

    price_id: str | None
    price_metadata: dict[str, str]
    quantity: int | None
    unit_amount: int | None
    currency: str | None
    interval: str | None
    interval_count: int
    period_start: datetime | None
    period_end: datetime | None
    exact_amount: Decimal | None = None


@dataclass(frozen=True)
class LiveSubscription:
    """A subscription as Stripe shows it (https://docs.stripe.com/api/subscriptions/object)."""

    id: str
    customer: str
    status: str
    created: datetime
    items: tuple[LiveItem, ...]
    current_period_start: datetime | None
    current_period_end: datetime | None
    cancel_at_period_end: bool
    cancel_at: datetime | None
    canceled_at: datetime | None
    ended_at: datetime | None
    schedule: str | None
    latest_invoice: str | None
    metadata: dict[str, str]
    present: frozenset[str] = field(repr=False)


@dataclass(frozen=True)
class LiveCustomer:
    """A customer; of a deleted one Stripe tells the id and nothing else."""

    id: str
    deleted: bool
    email: str | None = None
    name: str | None = None
    delinquent: bool | None = None
    balance: int | None = None
    currency: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LiveCharge:
    """A charge; `amount_refundable` is what is left, in minor units. `refunds`: None if they were not asked for."""

    id: str
    amount: int
    amount_refunded: int
    amount_refundable: int
    currency: str
    status: str
    created: datetime
    disputed: bool
    refunded: bool
    failure_code: str | None
    failure_message: str | None
    payment_intent: str | None
    customer: str | None
    metadata: dict[str, str] = field(default_factory=dict)
    refunds: tuple["LiveRefund", ...] | None = None

    @property
    def amount_paid(self) -> int:
        """What was captured, refunded since or not."""
        return self.amount_refunded + self.amount_refundable or self.amount


@dataclass(frozen=True)
class LiveRefund:
    """A refund, in any status: pending, requires_action, succeeded, failed or canceled. `amount` is minor units."""

    id: str
    amount: int
    currency: str
    status: str | None
    charge: str | None
    payment_intent: str | None
    reason: str | None
    created: datetime
    metadata: dict[str, str]
    failure_reason: str | None = None


@dataclass(frozen=True)
class LiveCheckoutSession:
    """A Checkout Session; `payment_status` is paid, unpaid or no_payment_required, `amount_total` minor units."""

    id: str
    mode: str
    status: str | None
    payment_status: str
    customer: str | None
    subscription: str | None
    payment_intent: str | None
    client_reference_id: str | None
    metadata: dict[str, str]
    amount_total: int | None
    currency: str | None
    created: datetime
    # Before discounts and taxes: what the lines cost.
    amount_subtotal: int | None = None


@dataclass(frozen=True)
class LiveDispute:
    """A dispute of a charge, or a bank's inquiry (status `warning_...`); `amount` is minor units, fees not in it.

    `withdrawn`: the money was taken for it, and is not back.
    """

    id: str
    charge: str
    payment_intent: str | None
    amount: int
    currency: str
    status: str
    reason: str
    created: datetime
    withdrawn: bool = False


def at(seconds: int | float | None) -> datetime | None:
    """Stripe's Unix seconds as a time."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def id_of(reference: Any) -> str | None:
    """The id behind a reference, which may be expanded into the object."""
    return reference.get("id") if isinstance(reference, dict) else reference


def subscription(raw: dict[str, Any]) -> LiveSubscription:
    """Read a subscription of either shape; the period is the item's, then the top level's."""
    items = tuple(_item(each) for each in (raw.get("items") or {}).get("data") or ())
    present = frozenset(raw)
    starts = [item.period_start for item in items if item.period_start]
    ends = [item.period_end for item in items if item.period_end]
    if starts or ends:
        present |= {"current_period_start", "current_period_end"}
    created = at(raw["created"])
    assert created is not None
    return LiveSubscription(
        id=raw["id"],
        customer=id_of(raw["customer"]) or "",
        status=raw["status"],
        created=created,
        items=items,
        current_period_start=max(starts) if starts else at(raw.get("current_period_start")),
        current_period_end=min(ends) if ends else at(raw.get("current_period_end")),
        cancel_at_period_end=bool(raw.get("cancel_at_period_end")),
        cancel_at=at(raw.get("cancel_at")),
        canceled_at=at(raw.get("canceled_at")),
        ended_at=at(raw.get("ended_at")),
        schedule=id_of(raw.get("schedule")),
        latest_invoice=id_of(raw.get("latest_invoice")),
        metadata=dict(raw.get("metadata") or {}),
        present=present,
    )


def _item(raw: dict[str, Any]) -> LiveItem:
    price = raw.get("price") or raw.get("plan") or {}
    recurring = price.get("recurring") or price
    return LiveItem(
        price_id=price.get("id"),
        price_metadata=dict(price.get("metadata") or {}),
        quantity=raw.get("quantity"),
        unit_amount=price.get("unit_amount", price.get("amount")),
        currency=price.get("currency"),
        interval=recurring.get("interval"),
        interval_count=recurring.get("interval_count") or 1,
        period_start=at(raw.get("current_period_start")),
        period_end=at(raw.get("current_period_end")),
        exact_amount=Decimal(price["unit_amount_decimal"]) if price.get("unit_amount_decimal") else None,
    )


def _words(text: str | None) -> str | None:
    # People write card numbers and worse wherever there is room.
    return None if text is None else mask(text)


def customer(raw: dict[str, Any]) -> LiveCustomer:
    """Read a customer, deleted or not."""
    if raw.get("deleted"):
        return LiveCustomer(id=raw["id"], deleted=True)
    return LiveCustomer(
        id=raw["id"],
        deleted=False,
        email=raw.get("email"),
        name=_words(raw.get("name")),
        delinquent=raw.get("delinquent"),
        balance=raw.get("balance"),
        currency=raw.get("currency"),
        metadata=dict(raw.get("metadata") or {}),
    )


def charge(raw: dict[str, Any]) -> LiveCharge:
    """Read a charge; only captured money of a succeeded charge can be refunded."""
    captured = raw.get("amount_captured", raw["amount"]) if raw["status"] == "succeeded" else 0
    refunded = raw.get("amount_refunded") or 0
    created = at(raw["created"])
    assert created is not None
    return LiveCharge(
        id=raw["id"],
        amount=raw["amount"],
        amount_refunded=refunded,
        amount_refundable=max(0, captured - refunded),
        currency=raw["currency"],
        status=raw["status"],
        created=created,
        disputed=bool(raw.get("disputed")),
        refunded=bool(raw.get("refunded")),
        failure_code=raw.get("failure_code"),
        failure_message=_words(raw.get("failure_message")),
        payment_intent=id_of(raw.get("payment_intent")),
        customer=id_of(raw.get("customer")),
        metadata=dict(raw.get("metadata") or {}),
        refunds=tuple(refund(each) for each in raw["refunds"]["data"]) if raw.get("refunds") else None,
    )


def refund(raw: dict[str, Any]) -> LiveRefund:
    """Read a refund; failed and canceled ones gave no money back."""
    return LiveRefund(
        id=raw["id"],
        amount=raw["amount"],
        currency=raw["currency"],
        status=raw.get("status"),
        charge=id_of(raw.get("charge")),
        payment_intent=id_of(raw.get("payment_intent")),
        reason=raw.get("reason"),
        created=datetime.fromtimestamp(raw["created"], UTC),
        metadata=dict(raw.get("metadata") or {}),
        failure_reason=raw.get("failure_reason"),
    )


def checkout_session(raw: dict[str, Any]) -> LiveCheckoutSession:
    """Read a Checkout Session; customer, subscription and payment intent may be there only once it is complete."""
    return LiveCheckoutSession(
        id=raw["id"],
        mode=raw["mode"],
        status=raw.get("status"),
        payment_status=raw["payment_status"],
        customer=id_of(raw.get("customer")),
        subscription=id_of(raw.get("subscription")),
        payment_intent=id_of(raw.get("payment_intent")),
        client_reference_id=raw.get("client_reference_id"),
        metadata=dict(raw.get("metadata") or {}),
        amount_total=raw.get("amount_total"),
        currency=raw.get("currency"),
        created=datetime.fromtimestamp(raw["created"], UTC),
        amount_subtotal=raw.get("amount_subtotal"),
    )


def dispute(raw: dict[str, Any]) -> LiveDispute:
    """Read a dispute."""
    return LiveDispute(
        id=raw["id"],
        charge=id_of(raw["charge"]) or "",
        payment_intent=id_of(raw.get("payment_intent")),
        amount=raw["amount"],
        currency=raw["currency"],
        status=raw["status"],
        reason=raw["reason"],
        created=datetime.fromtimestamp(raw["created"], UTC),
        withdrawn=sum(each["amount"] for each in raw.get("balance_transactions") or ()) < 0,
    )
