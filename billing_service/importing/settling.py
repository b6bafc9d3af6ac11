"""What became of an organization's items, written with the row that was made of them or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId
from pymongo import UpdateMany, UpdateOne

from ..documents import AdminAction, ImportItem, WebhookEvent
from ..operations import AUDIT_KEPT
from ..subscriptions import Change
from ..webhooks import ledger
from ..webhooks.ownership import wake_attached
from .group import Group
from .holding import Hold

SOURCE = "import"
DONE = {"snapshot": "", "as_of": "", "seen_until": ""}


@dataclass(frozen=True)
class End:
    """What becomes of a group. Of an imported one: the change that makes its row, and the plan that it had before."""

    group: Group
    state: str
    reason: str | None = None
    detail: str | None = None
    change: Change | None = None
    previous_plan: str | None = None


def imported(group: Group, change: Change, plans: Mapping[ObjectId, str | None]) -> End:
    """The end of a group that gets a row."""
    return End(group, "imported", change=change, previous_plan=plans.get(group.organization))


def settle(hold: Hold, ends: Sequence[End]) -> None:
    """Write the ends and count them; in the transaction of the rows. Raises LostLease."""
    writes = [write for end in ends for write in _item_writes(hold, end)]
    done = ImportItem._get_collection().bulk_write(writes)
    made = [end for end in ends if end.change is not None]
    if hold.run.apply and made:
        _audit(hold, made)
        _wake(made)
    hold.record(
        inc={
            "settled": done.modified_count,
            "organizations": len(made),
            "plans_changed": sum(end.change.updated["plan"] != end.previous_plan for end in made if end.change),
        }
    )


def _item_writes(hold: Hold, end: End) -> list[UpdateOne | UpdateMany]:
    organization = end.group.organization
    whole = {"run": hold.run.pk, "state": "pending", "organization": organization}
    told = {"reason": end.reason, "detail": (end.detail or "")[:300] or None}
    if end.change is None:
        kept = {name: value for name, value in told.items() if value}
        return [UpdateMany(whole, {"$set": {"state": end.state, **kept}, "$unset": DONE})]
    row = end.change.updated
    chosen = {"run": hold.run.pk, "stripe_subscription_id": row["stripe_subscription_id"]}
    fields = {
        "state": "imported",
        "organization": organization,
        "stripe_customer_id": row["stripe_customer_id"],
        "status": row["status"],
        "plan": row["plan"],
        "previous_plan": end.previous_plan,
    }
    # The look may have found one that was not listed: made since, or canceled.
    fresh = {"expires_at": end.group.items[0]["expires_at"]}
    first = UpdateOne(chosen, {"$set": fields, "$setOnInsert": fresh, "$unset": DONE | {"reason": ""}}, upsert=True)
    return [first, UpdateMany(whole, {"$set": {"state": "beside"}, "$unset": DONE})]


def _audit(hold: Hold, made: Sequence[End]) -> None:
    now = hold.desk.clock()
    rows = [
        AdminAction(
            operation=hold.run.pk,
            phase="outcome",
            at=now,
            actor=hold.run.actor,
            role="cli",
            action="import",
            target=str(end.group.organization),
            organization=end.group.organization,
            note=hold.run.note,
            outcome="succeeded",
            parameters={"import": str(hold.run.pk), "previous_plan": end.previous_plan},
            before=end.change.previous,
            after=end.change.updated,
            expires_at=now + AUDIT_KEPT,
        )
        for end in made
        if end.change
    ]
    AdminAction.objects.insert(rows, load_bulk=False)


def _wake(made: Sequence[End]) -> None:
    """Events that waited for somebody to say whose their subscription or customer is: this says it."""
    owners: dict[Any, ObjectId] = {}
    for end in made:
        for item in end.group.items:
            owners[item["stripe_subscription_id"]] = owners[item["stripe_customer_id"]] = end.group.organization
    names = list(owners)
    either = [{"stripe_subscription_id": {"$in": names}}, {"stripe_customer_id": {"$in": names}}]
    wanted = {"reason": ledger.UNKNOWN_OWNER, "state": {"$in": ["failed", "dead"]}, "$or": either}
    fields = {"stripe_subscription_id": 1, "stripe_customer_id": 1}
    for event in WebhookEvent._get_collection().find(wanted, fields):
        subscription, customer = event.get("stripe_subscription_id"), event.get("stripe_customer_id")
        owner = owners.get(subscription) or owners[customer]
        wake_attached(owner, subscriptions=[subscription], customers=[customer])


def totals(run_id: ObjectId) -> dict[str, Any]:
    """How many subscriptions came to which state, and the unmapped ones for which reason; from the index alone."""
    steps = [
        {"$match": {"run": run_id}},
        {"$group": {"_id": {"state": "$state", "reason": "$reason"}, "count": {"$sum": 1}}},
    ]
    states: dict[str, int] = {}
    reasons: dict[str, int] = {}
    for each in ImportItem._get_collection().aggregate(steps, hint="run_state_reason"):
        state, count = each["_id"]["state"], each["count"]
        states[state] = states.get(state, 0) + count
        if state == "unmapped":
            reasons[each["_id"]["reason"]] = count
    return {"states": states, "reasons": reasons}
