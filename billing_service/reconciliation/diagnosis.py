"""From both truths of one organization to what does not fit between them. Pure: nothing is read or written."""

from collections.abc import Iterable
from datetime import datetime

from ..documents.finding import SEVERITIES
from ..plans import Plans
from ..stripe_gateway import LiveSubscription
from ..subscriptions.comparison import Difference, access_severity, due_plan, field_differences
from ..subscriptions.observation import MARKER, belongs
from ..subscriptions.selection import choose, live_ones
from ..subscriptions.statuses import ENDED, LIVE, effective_plan, holds
from ..subscriptions.stored_row import StoredRow
from .money import money_of
from .picture import Divergence, Picture, live_evidence, unlisted, value_text

# What a run finds, and resolves when it does not find it again.
KINDS = (
    "missing_in_db",
    "canceled_here_live_there",
    "missing_in_stripe",
    "several_live_subscriptions",
    "organization_conflict",
    "plan_unresolved",
    "status",
    "plan",
    "price",
    "period",
    "cancel_intent",
    "customer",
    "org_plan",
    "usage_extras",
    "overridden",
)
KIND_OF = {
    "status": "status",
    "stripe_plan": "plan",
    "plan": "plan",
    "price_id": "price",
    "quantity": "price",
    "current_period_start": "period",
    "current_period_end": "period",
    "cancel_at_period_end": "cancel_intent",
    "cancel_at": "cancel_intent",
    "stripe_customer_id": "customer",
}
# One lost change is one finding: what differs along with the first of these is told by it.
LEADERS = {"status": ("plan", "price", "period"), "plan": ("price", "period"), "price": ("period",)}


def diagnose(picture: Picture, plans: Plans, now: datetime) -> tuple[Divergence, ...]:
    """All that does not fit in the picture, the gravest first."""
    found = [*_of_stripe(picture, plans, now)] if picture.looked else [*_own_plan(picture, plans, now)]
    found += [*_org_plan(picture, plans), *_usage_extras(picture), *_overridden(picture, plans, now)]
    return tuple(sorted(found, key=lambda each: SEVERITIES.index(each.severity)))


def _of_stripe(picture: Picture, plans: Plans, now: datetime) -> Iterable[Divergence]:
    row, own = picture.row, picture.row.stripe_subscription_id if picture.row else None
    mine = [each for each in picture.found if row is None or belongs(each, row)]
    live = live_ones(mine)
    shown = next((each for each in mine if each.id == own), None)
    surplus = [each for each in live if each.id != own]
    bills_own = shown is not None and shown.status in LIVE
    if strangers := [each for each in picture.found if each not in mine]:
        yield _conflict(picture, strangers)
    if surplus and not bills_own:
        yield _missing_in_db(picture, choose(live), plans, now)
    elif own in picture.gone and row and row.status not in (None, *ENDED):
        yield _missing_in_stripe(picture, row)
    elif shown is not None and row is not None:
        yield from _fields(picture, row, shown, plans, now)
    elif row is not None and own is None:
        yield from _own_plan(picture, plans, now)
    if len(live) > 1:
        yield _several(picture, live, surplus if bills_own else live[1:])


def _fields(
    picture: Picture, row: StoredRow, shown: LiveSubscription, plans: Plans, now: datetime
) -> Iterable[Divergence]:
    if shown.status in ENDED and row.status in ENDED:
        yield from _own_plan(picture, plans, now)
        return
    resolution = plans.resolve(shown.items)
    by_kind: dict[str, list[Difference]] = {}
    for each in field_differences(row, shown, resolution.plan, plans, now):
        by_kind.setdefault(KIND_OF.get(each.field, "status"), []).append(each)
    if shown.status in LIVE and resolution.plan is None:
        # Without a plan nothing can be said of what it should be; the rest is compared all the same.
        yield _unresolved(picture, shown, resolution.price_id)
    for kind, own, others in _led(by_kind, shown.status in ENDED or row.status in ENDED):
        yield _difference(picture, row, shown, kind, own, others, plans)


def _led(by_kind: dict[str, list[Difference]], over: bool) -> Iterable[tuple[str, list[Difference], list[Difference]]]:
    """Each kind that is told by itself, with its own differences and those that only follow from it."""
    leader = next((kind for kind in LEADERS if kind in by_kind), None)
    followers = [*by_kind] if over and leader == "status" else LEADERS.get(leader or "", ())
    for kind, own in by_kind.items():
        if kind == leader:
            yield kind, own, [each for name in followers if name != kind for each in by_kind.get(name, ())]
        elif leader is None or kind not in followers:
            yield kind, own, []


def _difference(
    picture: Picture,
    row: StoredRow,
    shown: LiveSubscription,
    kind: str,
    own: list[Difference],
    others: list[Difference],
    plans: Plans,
) -> Divergence:
    every = [*own, *others]
    if kind == "status" and row.status in ENDED and shown.status in LIVE:
        kind = "canceled_here_live_there"
    said = frozenset(f"{shown.id} {each.field}={value_text(each.live)}" for each in own)
    bills, grants = shown.status in LIVE, row.plan != plans.free
    return Divergence(
        kind=kind,
        severity=min((each.severity for each in every), key=SEVERITIES.index),
        organization=picture.organization,
        customer=shown.customer,
        subscriptions=(shown.id,),
        stored={each.field: each.stored for each in every},
        live={each.field: each.live for each in every},
        evidence=frozenset({unlisted(shown.id)}) if shown.status == "canceled" else said,
        told=frozenset(f"{each.field}={value_text(each.live)}" for each in every),
        money_at_risk=money_of([shown]) if bills != grants else (),
    )


def _missing_in_db(picture: Picture, found: LiveSubscription | None, plans: Plans, now: datetime) -> Divergence:
    assert found is not None
    row, plan = picture.row, plans.resolve(found.items).plan
    granted = row.plan if row else plans.free
    live = {"stripe_subscription_id": found.id, "status": found.status, "plan": plan}
    return Divergence(
        kind="missing_in_db",
        severity="medium" if row and row.status in LIVE else "critical",
        organization=picture.organization,
        customer=found.customer,
        subscriptions=(found.id,),
        stored={"stripe_subscription_id": row.stripe_subscription_id, "status": row.status, "plan": row.plan}
        if row
        else {},
        live=live | {"stripe_customer_id": found.customer},
        evidence=frozenset({live_evidence(found.id)}),
        money_at_risk=money_of([found]) if granted == plans.free else (),
    )


def _missing_in_stripe(picture: Picture, row: StoredRow) -> Divergence:
    return Divergence(
        kind="missing_in_stripe",
        severity="high" if row.status in LIVE else "medium",
        organization=picture.organization,
        customer=row.stripe_customer_id,
        subscriptions=(row.stripe_subscription_id,),
        stored={"status": row.status, "plan": row.plan},
        live={"status": None},
        evidence=frozenset({unlisted(row.stripe_subscription_id)}),
    )


def _several(picture: Picture, live: tuple[LiveSubscription, ...], surplus: Iterable[LiveSubscription]) -> Divergence:
    return Divergence(
        kind="several_live_subscriptions",
        severity="high",
        organization=picture.organization,
        customer=live[0].customer,
        subscriptions=tuple(each.id for each in live),
        stored={},
        live={"statuses": [each.status for each in live]},
        evidence=frozenset(live_evidence(each.id) for each in surplus),
        money_at_risk=money_of(surplus),
    )


def _conflict(picture: Picture, strangers: list[LiveSubscription]) -> Divergence:
    named = [each.metadata.get(MARKER) for each in strangers]
    return Divergence(
        kind="organization_conflict",
        severity="high",
        organization=picture.organization,
        customer=strangers[0].customer,
        subscriptions=tuple(each.id for each in strangers),
        stored={},
        live={"organization_ids": named},
        evidence=frozenset(f"{each.id} names {each.metadata.get(MARKER)}" for each in strangers),
    )


def _unresolved(picture: Picture, shown: LiveSubscription, price_id: str | None) -> Divergence:
    return Divergence(
        kind="plan_unresolved",
        severity="high",
        organization=picture.organization,
        customer=shown.customer,
        subscriptions=(shown.id,),
        stored={},
        live={"price_id": price_id},
        evidence=frozenset({f"{shown.id} has the price {price_id}"}),
    )


def _own_plan(picture: Picture, plans: Plans, now: datetime) -> Iterable[Divergence]:
    """The row's own fields come to another plan than it has."""
    row = picture.row
    if row is None or (due := due_plan(row, plans, now)) == row.plan:
        return
    yield Divergence(
        kind="plan",
        severity=access_severity(due, row.plan, plans),
        organization=picture.organization,
        customer=row.stripe_customer_id,
        subscriptions=tuple(filter(None, (row.stripe_subscription_id,))),
        stored={"plan": row.plan},
        live={"plan": due},
        evidence=frozenset({f"{row.plan} where {due} is due"}),
    )


def _org_plan(picture: Picture, plans: Plans) -> Iterable[Divergence]:
    """Access control reads the organization's plan; only we may write it."""
    due = picture.row.plan if picture.row else plans.free
    if picture.organization is None or not picture.exists or (picture.plan or plans.free) == due:
        return
    yield Divergence(
        kind="org_plan",
        severity=access_severity(due, picture.plan, plans),
        organization=picture.organization,
        customer=picture.row.stripe_customer_id if picture.row else None,
        subscriptions=(),
        stored={"organization_plan": picture.plan, "plan": due},
        live={},
        evidence=frozenset({f"the organization has {picture.plan}, the row {due}"}),
    )


def _usage_extras(picture: Picture) -> Iterable[Divergence]:
    """What an organization has of extras, or used in a week, is not what its own records come to."""
    books = picture.books
    if books is None or not books.evidence:
        return
    # Units that were paid for and cannot be used weigh more than those that can and were not.
    units = books.balance_off or books.lots_off
    # How much it is off, not what it is: that moves with each use, and would be news each time.
    off = {"extras_balance_off": books.balance_off, "lots_off": books.lots_off, "weeks_off": books.weeks_off}
    yield Divergence(
        kind="usage_extras",
        severity="critical" if units < 0 else "high" if units else "medium",
        organization=picture.organization,
        customer=picture.row.stripe_customer_id if picture.row else None,
        subscriptions=(),
        stored={name: value for name, value in off.items() if value},
        live={},
        evidence=books.evidence,
    )


def _overridden(picture: Picture, plans: Plans, now: datetime) -> Iterable[Divergence]:
    row = picture.row
    if row is None or row.override is None or not holds(row.override, now):
        return
    due = effective_plan(
        plans, now, override=None, status=row.status, suspended_at=row.suspended_at, stripe_plan=row.stripe_plan
    )
    told = {"plan": row.override.plan, "until": row.override.until, "actor": row.override.actor}
    yield Divergence(
        kind="overridden",
        severity="info",
        organization=picture.organization,
        customer=row.stripe_customer_id,
        subscriptions=(),
        stored=told,
        live={"plan": due},
        evidence=frozenset({f"overridden to {row.override.plan}"}),
    )
