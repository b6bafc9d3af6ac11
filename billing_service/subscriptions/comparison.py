"""Both truths side by side: what Stripe shows of an organization, and what differs from the stored row."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..documents import Organization, Subscription
from ..errors import StripeMissing
from ..plans import Plans
from ..stripe_gateway import StripeGateway
from ..stripe_gateway.shapes import LiveCharge, LiveCustomer, LiveSubscription
from .observation import belongs
from .statuses import ENDED, LIVE, PAID_UP, effective_plan
from .stored_row import StoredRow


@dataclass(frozen=True)
class Live:
    """Stripe's truth of one organization. `missing`: the row's subscription is not there; `proven`: it is gone."""

    customer: LiveCustomer | None
    subscriptions: tuple[LiveSubscription, ...]
    payments: tuple[LiveCharge, ...]
    missing: bool = False
    proven: bool = False


@dataclass(frozen=True)
class Difference:
    """A field whose two values differ; severity is that of the finding kinds."""

    field: str
    stored: Any
    live: Any
    severity: str


def read_live(stripe: StripeGateway, row: Subscription | None) -> Live:
    """At most three requests: customer, its subscriptions, its charges; a fourth for a subscription not listed.

    Raises what the gateway raises when Stripe cannot answer.
    """
    if row is None or not (row.stripe_customer_id or row.stripe_subscription_id):
        return Live(None, (), ())
    customer = _customer(stripe, row.stripe_customer_id)
    listed: tuple[LiveSubscription, ...] = ()
    charges: tuple[LiveCharge, ...] = ()
    if customer and not customer.deleted:
        listed = stripe.newest_subscriptions_of(customer.id).value
        charges = stripe.charges_of(customer.id, limit=10).value
    own = row.stripe_subscription_id
    missing = False
    if own and own not in {each.id for each in listed}:
        try:
            listed = (*listed, stripe.subscription(own).value)
        except StripeMissing:
            missing = True
    return Live(customer, listed, charges, missing=missing, proven=missing and customer is not None)


def _customer(stripe: StripeGateway, customer_id: str | None) -> LiveCustomer | None:
    if customer_id is None:
        return None
    try:
        return stripe.customer(customer_id).value
    except StripeMissing:
        return None


def differences_of(
    organization: Organization,
    row: Subscription | None,
    live: Live | None,
    chosen: LiveSubscription | None,
    live_plan: str | None,
    plans: Plans,
    now: datetime,
) -> tuple[Difference, ...]:
    found: list[Difference] = []
    granted = row.plan if row else plans.free
    if live is not None and chosen is not None:
        found += field_differences(row, chosen, live_plan, plans, now)
    elif live is not None and live.missing and row and row.status not in (None, *ENDED):
        found.append(Difference("status", row.status, None, "high"))
    elif live is not None and row and not live.missing:
        due = due_plan(row, plans, now)
        found += [] if due == row.plan else [Difference("plan", row.plan, due, access_severity(due, row.plan, plans))]
    if row and live is not None:
        found += [
            Difference("organization", str(row.organization), each.metadata["organizationId"], "high")
            for each in live.subscriptions
            if each.id == row.stripe_subscription_id and not belongs(each, row)
        ]
    if (organization.plan or plans.free) != granted:
        severity = access_severity(granted, organization.plan, plans)
        found.append(Difference("organization.plan", organization.plan, granted, severity))
    return tuple(found)


def due_plan(row: Subscription | StoredRow, plans: Plans, now: datetime) -> str:
    """The plan that the row's own fields come to."""
    return effective_plan(
        plans,
        now,
        override=row.override,
        status=row.status,
        suspended_at=row.suspended_at,
        stripe_plan=row.stripe_plan,
    )


def access_severity(due: str, granted: str | None, plans: Plans) -> str:
    """How bad it is that access control reads `granted` where `due` is right."""
    paid, given = due != plans.free, (granted or plans.free) != plans.free
    return "critical" if paid and not given else "high" if given and not paid else "medium"


def field_differences(
    row: Subscription | StoredRow | None,
    chosen: LiveSubscription,
    live_plan: str | None,
    plans: Plans,
    now: datetime,
) -> Iterable[Difference]:
    """The fields in which the row and its subscription differ; `live_plan` is what its price means."""
    priced = plans.resolve(chosen.items).price_id
    item = next((each for each in chosen.items if each.price_id == priced), None)
    live = {
        "stripe_subscription_id": chosen.id,
        "stripe_customer_id": chosen.customer,
        "status": chosen.status,
        "stripe_plan": live_plan,
        "price_id": item.price_id if item else None,
        "quantity": item.quantity if item else None,
        "current_period_start": chosen.current_period_start,
        "current_period_end": chosen.current_period_end,
        "cancel_at_period_end": chosen.cancel_at_period_end,
        "cancel_at": chosen.cancel_at,
    }
    if live_plan is None or chosen.status not in LIVE:
        live.pop("stripe_plan")
    if live_plan is not None or chosen.status not in LIVE:
        live["plan"] = effective_plan(
            plans,
            now,
            override=row.override if row else None,
            status=chosen.status,
            suspended_at=row.suspended_at if row and chosen.status not in PAID_UP else None,
            stripe_plan=live_plan,
        )
    for name, value in live.items():
        stored = getattr(row, name) if row else None
        if stored != value and not (name == "cancel_at_period_end" and not stored and not value):
            yield Difference(name, stored, value, _severity(name, row, chosen))


def _severity(name: str, row: Subscription | StoredRow | None, chosen: LiveSubscription) -> str:
    if name in ("status", "plan", "stripe_subscription_id"):
        paid, granted = chosen.status in LIVE, bool(row and row.status in LIVE)
        return "critical" if paid and not granted else "high" if granted and not paid else "medium"
    if name in (
        "current_period_start",
        "current_period_end",
        "cancel_at_period_end",
        "cancel_at",
        "quantity",
    ):
        return "low"
    return "medium"
