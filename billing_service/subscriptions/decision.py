"""From a stored row and what Stripe showed to the row's next state. Pure: nothing is read or written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from ..documents import Candidate, Override, Subscription
from ..errors import PlanUnresolved
from ..plans import Plans, Resolution
from ..stripe_gateway.shapes import LiveSubscription
from .observation import Observation
from .statuses import ENDED, LIVE, PAID_UP, effective_plan, holds

# How far Stripe's clocks and its lagging reads may be apart before a snapshot is believed.
DOUBT = timedelta(seconds=10)

# Written with every look; alone they are not a change that anybody is told of.
BOOKKEEPING = frozenset({"as_of", "seen_until", "synced_at", "synced_from", "verify_at", "version"})

# What an import brings has long been so. Told as a change it would congratulate every customer on their upgrade.
TAKEN_OVER = frozenset({"import"})


@dataclass(frozen=True)
class Signal:
    """Something the SaaS or people are told, once per transition."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Noticed:
    """A finding that the decision brings to light."""

    kind: str
    severity: str
    stripe_subscription_ids: tuple[str, ...]
    live: dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What a decision makes of a row. `previous` and `updated` are whole subscription objects."""

    organization: ObjectId
    row: Subscription
    previous: dict[str, Any] | None
    updated: dict[str, Any]
    values: Mapping[str, Any]
    signals: tuple[Signal, ...] = ()
    noticed: tuple[Noticed, ...] = ()
    complete: bool = False
    ended: frozenset[str] = frozenset()
    shown: frozenset[str] = frozenset()
    priced: bool = False
    # Units per week of the updated plan; None: the plan file does not know the plan.
    quota: int | None = None

    @property
    def changed(self) -> list[str]:
        """The names of the fields that differ, bookkeeping left out."""
        before = self.previous or {}
        return sorted(
            name for name, value in self.updated.items() if name not in BOOKKEEPING and before.get(name) != value
        )


def decide(
    row: Subscription,
    seen: Observation | None,
    *,
    plans: Plans,
    now: datetime,
    source: str,
    newest_created: datetime | None = None,
    strict_plan: bool = False,
    overdue_since: datetime | None = None,
    imposed: Mapping[str, Any] | None = None,
) -> Change:
    """The row's next state. `seen` None: nothing was read, only what time itself changes is decided.

    `newest_created` is the newest known event time of the subscriptions that were shown or asked for. With
    `strict_plan` a live subscription whose price means no plan raises PlanUnresolved, otherwise the plan is kept
    and told of. A past_due that began at `overdue_since` or before is suspended.
    `imposed` are fields that an admin decides: the override.
    """
    values: dict[str, Any] = {"synced_at": now, "synced_from": source}
    resolution: Resolution | None = None
    if seen is not None:
        resolution = _resolve(seen.chosen, plans, strict_plan)
        values |= _snapshot(row, seen, resolution)
        values["verify_at"] = _verify_at(seen, newest_created, now)
        values["candidates"] = _candidates(row, seen, in_doubt=values["verify_at"] is not None)
        values["customer_deleted_at"] = _customer_deleted_at(row, seen, now)
        if resolution and resolution.plan:
            values["stripe_plan"] = resolution.plan
        elif seen.chosen is not None and seen.chosen.status in LIVE:
            values["stripe_plan"] = _kept_plan(row)
    if overdue_since and _is_overdue(row, values, overdue_since):
        values["suspended_at"] = now
    values |= imposed or {}
    if (override := values.get("override", row.override)) and not holds(override, now):
        values["override"] = None
    after = {
        name: values.get(name, getattr(row, name)) for name in ("override", "status", "suspended_at", "stripe_plan")
    }
    unresolved = resolution is not None and resolution.plan is None and after["status"] in LIVE
    values["plan"] = effective_plan(plans, now, **after)
    return _change(
        row,
        seen,
        values,
        plans,
        resolution if unresolved else None,
        bool(resolution and resolution.ambiguous),
    )


def _is_overdue(row: Subscription, values: Mapping[str, Any], overdue_since: datetime) -> bool:
    names = ("status", "past_due_since", "suspended_at")
    status, since, suspended_at = (values.get(name, getattr(row, name)) for name in names)
    return status == "past_due" and suspended_at is None and since is not None and since <= overdue_since


def _customer_deleted_at(row: Subscription, seen: Observation, now: datetime) -> datetime | None:
    """Since when the row's customer is known to be deleted; a look that did not ask keeps what was known of it."""
    known = row.customer_deleted_at if seen.chosen is None or seen.chosen.customer == row.stripe_customer_id else None
    return {True: known or now, False: None, None: known}[seen.customer_deleted]


def _kept_plan(row: Subscription) -> str | None:
    """What an unresolved price leaves in force: the plan that Stripe granted until now, none if it granted none.

    A plan of the past must not come back with a subscription whose price nobody can read.
    """
    return row.stripe_plan if row.pk and row.status in LIVE and row.suspended_at is None else None


def _change(
    row: Subscription,
    seen: Observation | None,
    values: dict[str, Any],
    plans: Plans,
    unresolved: Resolution | None,
    ambiguous: bool,
) -> Change:
    previous = row.describe() if row.pk else None
    updated = row.describe() | {name: _plain(value) for name, value in values.items()} | {"version": row.version + 1}
    return Change(
        organization=row.organization,
        row=row,
        previous=previous,
        updated=updated,
        values=values,
        signals=() if updated["synced_from"] in TAKEN_OVER else _signals(row, updated, plans, unresolved),
        noticed=_noticed(seen, unresolved, ambiguous),
        complete=bool(seen and seen.complete),
        ended=_ended(row, seen),
        shown=frozenset(each.id for each in seen.found) if seen else frozenset(),
        priced=bool(seen and seen.chosen),
        quota=plans.quota(updated["plan"]),
    )


def _ended(row: Subscription, seen: Observation | None) -> frozenset[str]:
    """The subscriptions that were seen to be over, not merely not seen."""
    if seen is None:
        return frozenset()
    gone = {row.stripe_subscription_id} if seen.gone else set()
    return frozenset({each.id for each in seen.found if each.status in ENDED} | gone)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [each.describe() for each in value]
    return value.describe() if isinstance(value, Override) else value


def _verify_at(seen: Observation, newest_created: datetime | None, now: datetime) -> datetime | None:
    """When to look once more, because this look may have shown what was before the newest event."""
    looked_at = seen.as_of or now
    return newest_created + 2 * DOUBT if newest_created and looked_at < newest_created + DOUBT else None


def _snapshot(row: Subscription, seen: Observation, resolution: Resolution | None) -> dict[str, Any]:
    if seen.chosen is None:
        return {"status": "canceled"} if seen.gone else {}
    chosen, same = seen.chosen, seen.chosen.id == row.stripe_subscription_id
    priced = resolution.price_id if resolution else None
    values = _fields(chosen, priced, everything=not same)
    values |= _payment_state(row, seen, same)
    later = row.as_of if same and row.as_of and seen.as_of and row.as_of > seen.as_of else seen.as_of
    values["as_of"] = later
    values["seen_until"] = max((each for each in (same and row.seen_until, seen.seen_until) if each), default=None)
    return values


def _fields(chosen: LiveSubscription, priced: str | None, *, everything: bool) -> dict[str, Any]:
    """A key that Stripe did not send keeps the stored value; a key sent as null clears it."""
    item = next((each for each in chosen.items if each.price_id == priced), None)
    values: dict[str, Any] = {
        "stripe_subscription_id": chosen.id,
        "stripe_customer_id": chosen.customer,
        "stripe_created_at": chosen.created,
        "status": chosen.status,
    }
    sent = {
        "current_period_start": chosen.current_period_start,
        "current_period_end": chosen.current_period_end,
        "cancel_at_period_end": chosen.cancel_at_period_end,
        "cancel_at": chosen.cancel_at,
    }
    values |= {name: value for name, value in sent.items() if everything or name in chosen.present}
    if item or everything:
        values |= {"price_id": item.price_id if item else None, "quantity": item.quantity if item else None}
    return values


def _payment_state(row: Subscription, seen: Observation, same: bool) -> dict[str, Any]:
    assert seen.chosen is not None
    if seen.chosen.status in PAID_UP:
        return {"past_due_since": None, "suspended_at": None}
    if seen.chosen.status == "past_due":
        return {"past_due_since": seen.past_due_evidence} | ({} if same else {"suspended_at": None})
    return {} if same else {"past_due_since": None, "suspended_at": None}


def _candidates(row: Subscription, seen: Observation, *, in_doubt: bool) -> list[Candidate]:
    """What else has not ended. One that was not shown is kept while the look is in doubt: its read may lag."""
    if not seen.complete:
        return list(row.candidates)
    own = seen.chosen.id if seen.chosen else row.stripe_subscription_id
    hidden = sorted(each for each in seen.unseen if each != own) if in_doubt else []
    customers = {each.stripe_subscription_id: each.stripe_customer_id for each in row.candidates}
    return [
        Candidate(stripe_subscription_id=each.id, stripe_customer_id=each.customer)
        for each in sorted(seen.others, key=lambda each: each.id)
    ] + [Candidate(stripe_subscription_id=each, stripe_customer_id=customers.get(each)) for each in hidden]


def _resolve(chosen: LiveSubscription | None, plans: Plans, strict: bool) -> Resolution | None:
    if chosen is None:
        return None
    resolution = plans.resolve(chosen.items)
    if resolution.plan is None and chosen.status in LIVE and strict:
        raise PlanUnresolved(
            f"The price {resolution.price_id} of {chosen.id} stands for no plan in the plan file, and its metadata "
            "names none. Nothing was written. Add the price to the file BILLING_PLANS names, then repeat.",
            priceId=resolution.price_id,
            stripeSubscriptionId=chosen.id,
        )
    return resolution


def _signals(
    row: Subscription, updated: dict[str, Any], plans: Plans, unresolved: Resolution | None
) -> tuple[Signal, ...]:
    signals = []
    before = row.plan if row.pk else plans.free
    if before != updated["plan"]:
        up = plans.rank(updated["plan"]) > plans.rank(before)
        signals.append(
            Signal(
                "plan_changed",
                {"from": before, "to": updated["plan"], "direction": "upgrade" if up else "downgrade"},
            )
        )
    if updated["status"] != row.status:
        facts = {
            "from": row.status,
            "to": updated["status"],
            "stripe_subscription_id": updated["stripe_subscription_id"],
        }
        if updated["status"] in ("past_due", "unpaid"):
            signals.append(Signal("payment_failed", facts))
        if updated["status"] in ENDED and row.status is not None:
            signals.append(Signal("subscription_expired", facts))
    told = (row.stripe_subscription_id, row.price_id, row.status in LIVE)
    if unresolved and told != (updated["stripe_subscription_id"], unresolved.price_id, True):
        signals.append(Signal("plan_unresolved", {"price_id": unresolved.price_id}))
    return tuple(signals)


def _noticed(seen: Observation | None, unresolved: Resolution | None, ambiguous: bool) -> tuple[Noticed, ...]:
    if seen is None:
        return ()
    noticed = []
    chosen = (seen.chosen.id,) if seen.chosen else ()
    if len(seen.live) > 1:
        ids = tuple(each.id for each in seen.live)
        noticed.append(Noticed("several_live_subscriptions", "high", ids, {"statuses": [e.status for e in seen.live]}))
    if seen.conflicting:
        ids = tuple(each.id for each in seen.conflicting)
        named = [each.metadata.get("organizationId") for each in seen.conflicting]
        noticed.append(Noticed("organization_conflict", "high", ids, {"organization_ids": named}))
    if unresolved:
        noticed.append(Noticed("plan_unresolved", "high", chosen, {"price_id": unresolved.price_id}))
    elif ambiguous:
        noticed.append(
            Noticed(
                "plan_ambiguous",
                "medium",
                chosen,
                {"price_id": seen.chosen.items[0].price_id if seen.chosen else None},
            )
        )
    return tuple(noticed)
