"""From items to rows: an organization at a time which of its subscriptions is its own, by the one write function.

Nearly all have one subscription that is paid up: those are decided from the list, many in one transaction. Whoever has
several, is past due, or has a row without a subscription is looked at at Stripe, as a link does.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId

from ..documents import Finding, Organization, Subscription, WebhookEvent, in_transaction
from ..documents.finding import OPEN_STATES
from ..errors import PlanUnresolved
from ..observability import log
from ..scans import Stop, attend
from ..subscriptions import Change, LostRace, commit_all
from ..subscriptions.decision import decide
from ..subscriptions.observation import Observation
from ..subscriptions.selection import choose
from ..subscriptions.statuses import ENDED
from ..webhooks.ownership import known_owners
from . import looking, settling
from .group import Group, groups_of
from .holding import Hold

BATCH = 400
# Who lost that often in a row is looked at one by one: mostly another look around shows what was in the way.
RACES = 3
LOOKERS = 4


@dataclass
class Sorted:
    """What is to be done with each group of a batch."""

    decided: list[tuple[Group, Change]] = field(default_factory=list)
    ended: list[settling.End] = field(default_factory=list)
    looked_at: list[Group] = field(default_factory=list)


@dataclass
class Around:
    """What the database knows beside the groups of a batch."""

    rows: dict[ObjectId, Subscription]
    others: dict[ObjectId, ObjectId]
    newest: dict[str, Any]
    with_findings: set[ObjectId]
    plans: dict[ObjectId, str | None]


def write_rows(hold: Hold, stop: Stop) -> None:
    """Decide what is pending, until nothing is or it is time to stop; then the import is over."""
    races = 0
    while not stop():
        groups = groups_of(hold.run.pk, BATCH)
        if not groups:
            hold.end("completed", **settling.totals(hold.run.pk))
            return
        around = _look_around(groups)
        sorted_out = _sort_out(hold, groups, around)
        races = 0 if _write(hold, sorted_out, around) else races + 1
        if races >= RACES:
            sorted_out.looked_at += [group for group, _ in sorted_out.decided]
        _look_at(hold, sorted_out.looked_at, around)
        hold.pulse()


def _look_around(groups: Sequence[Group]) -> Around:
    """A number of reads that does not grow with the groups."""
    organizations = [group.organization for group in groups]
    every = [(group, live) for group in groups for live in group.found]
    holders = known_owners([(live.id, live.customer) for _, live in every])
    return Around(
        rows={row.organization: row for row in Subscription.objects(organization__in=organizations)},
        others={
            group.organization: holder
            for (group, _), holder in zip(every, holders, strict=True)
            if holder not in (None, group.organization)
        },
        newest=_newest_events([live.id for _, live in every]),
        with_findings=set(
            Finding.objects(organization__in=organizations, state__in=OPEN_STATES).scalar("organization")
        ),
        plans=dict(Organization.objects(id__in=organizations).scalar("id", "plan")),
    )


def _newest_events(subscriptions: list[str]) -> dict[str, Any]:
    steps = [
        {"$match": {"stripe_subscription_id": {"$in": subscriptions}}},
        {"$group": {"_id": "$stripe_subscription_id", "created": {"$max": "$created"}}},
    ]
    return {each["_id"]: each["created"] for each in WebhookEvent._get_collection().aggregate(steps)}


def _sort_out(hold: Hold, groups: Iterable[Group], around: Around) -> Sorted:
    result = Sorted()
    for group in groups:
        row, other = around.rows.get(group.organization), around.others.get(group.organization)
        if row is not None and row.stripe_subscription_id:
            result.ended.append(settling.End(group, "kept", detail=f"its row has {row.stripe_subscription_id}"))
        elif other is not None:
            told = f"here it is organization {other}'s"
            result.ended.append(settling.End(group, "unmapped", "customer_shared", told))
        elif row is not None or not _is_plain(group):
            result.looked_at.append(group)
        else:
            try:
                result.decided.append((group, _decide(hold, group, around)))
            except PlanUnresolved as refusal:
                result.ended.append(settling.End(group, "unmapped", refusal.code, refusal.detail))
    return result


def _is_plain(group: Group) -> bool:
    """Whether the list alone decides: one that has not ended at most, and no need to know since when it is unpaid."""
    chosen = choose(group.found)
    going_on = [each for each in group.found if each.status not in ENDED]
    return not group.cut and len(going_on) <= 1 and chosen is not None and chosen.status != "past_due"


def _decide(hold: Hold, group: Group, around: Around) -> Change:
    """The row as it would be after a look; the list may be minutes old, which a newer event that is known says."""
    desk, chosen = hold.desk, choose(group.found)
    assert chosen is not None
    item = group.item_of(chosen)
    seen = Observation(
        chosen=chosen,
        as_of=item["as_of"],
        seen_until=item["seen_until"],
        found=tuple(group.found),
        customer_deleted=group.is_deleted(chosen),
        # Findings of the organization are settled by a look that is complete, one by one: few have any.
        complete=group.organization in around.with_findings,
    )
    row = Subscription(organization=group.organization, plan=desk.plans.free, version=0)
    known = [around.newest[each.id] for each in group.found if each.id in around.newest]
    return decide(
        row,
        seen,
        plans=desk.plans,
        now=desk.clock(),
        source=settling.SOURCE,
        newest_created=max(known, default=None),
        strict_plan=True,
    )


def _write(hold: Hold, sorted_out: Sorted, around: Around) -> bool:
    """All that is decided in one transaction; False: another writer was first, and nothing was written."""
    decided = sorted_out.decided
    ends = [*sorted_out.ended, *(settling.imported(group, change, around.plans) for group, change in decided)]
    if not ends:
        return True

    def also() -> None:
        settling.settle(hold, ends)

    try:
        with hold.lock:
            if hold.run.apply and decided:
                commit_all([change for _, change in decided], now=hold.desk.clock(), also=also)
            else:
                in_transaction(also)
    except LostRace:
        log.info("import_race_lost", run=str(hold.run.pk), organizations=len(decided))
        return False
    return True


def _look_at(hold: Hold, groups: Sequence[Group], around: Around) -> None:
    """Look at each at Stripe, some at a time. Raises what is not one organization's own matter."""
    if not groups:
        return
    with ThreadPoolExecutor(LOOKERS, thread_name_prefix=hold.noun) as pool:
        lookers = [pool.submit(looking.look_at, hold, group, around.plans) for group in groups]
        attend(hold, lookers, lambda: [each.cancel() for each in lookers])
