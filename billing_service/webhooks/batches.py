"""Replaying many events: a batch is frozen, held by one process at a time, cancelled, and comes to an end.

What happens to one of its items stands in batch_items.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from mongoengine import QuerySet
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from .. import outbox
from ..documents import EPOCH, OutboxSignal, ReplayBatch, ReplayItem, database_now, in_transaction
from ..documents.replay_batch import OPEN_BATCH_STATES
from ..errors import BatchEnded, BatchNotFound, SelectionChanged
from ..observability import log
from ..operations import Outcome, Running
from . import selection as selections
from .selection import Selection

STATUS_URL = "/api/admin/billing/webhook/replay-batch/"
LEASE = timedelta(seconds=15)
# So many processes in a row that disappeared with the batch, none of which brought an item to its end.
LEASE_LOSSES = 10
KEPT = timedelta(days=365)
STOP_AFTER = 5
LOT = 2_000


class BatchLost(Exception):
    """The batch was taken over, cancelled or ended meanwhile; whoever gets this wrote nothing."""


def foretell(selection: Selection, token: str) -> Outcome:
    """What a batch of the selection would replay; writes nothing."""
    count, is_limited = selections.count(selection)
    return Outcome(
        {
            "count": count,
            "is_limited": is_limited,
            "unfit": selections.count_unfit(selection),
            "sample": selections.ordered(selection, selections.SAMPLE),
            "selection": token,
            "valid_until": selection.at + selections.VALID,
        }
    )


def start(running: Running, selection: Selection, *, confirm: int, stop_after: int) -> Outcome:
    """Freeze what is selected, in its order, as a batch that a worker takes up; once for a selection.

    Raises SelectionExpired, SelectionChanged.
    """
    if known := ReplayBatch.objects(selection=selection.digest).first():
        return _started(running, known)
    selections.refuse_old(selection, running.clock())
    events = selections.ordered(selection)
    if len(events) != confirm:
        raise SelectionChanged(
            f"{confirm} events were confirmed, {len(events)} are selected now: some were handled meanwhile, or the "
            "number is not that of the dry run. Ask for a dry run and look again. Nothing was replayed.",
            count=len(events),
            confirmed=confirm,
        )
    batch = _made(running, selection, len(events), stop_after)
    # Items of a batch that is not stored, because its process died here, are nobody's, and removed in a year.
    _freeze(batch, events)
    try:
        return in_transaction(lambda: _started(running, batch.save(force_insert=True)))
    except DuplicateKeyError:  # somebody runs the same selection at this moment
        ReplayItem.objects(batch=batch.pk).delete()
        return _started(running, ReplayBatch.objects(selection=selection.digest).get())


def _started(running: Running, batch: ReplayBatch) -> Outcome:
    running.record.parameters = {**running.record.parameters, "batch_id": str(batch.pk)}
    outcome = Outcome(_named(batch) | {"count": batch.total}, status=202)
    running.complete(outcome)
    return outcome


def _named(batch: ReplayBatch) -> dict[str, Any]:
    return {"batch_id": str(batch.pk), "state": batch.state, "status_url": f"{STATUS_URL}{batch.pk}"}


def describe(batch: ReplayBatch) -> dict[str, Any]:
    """The batch as plain values, with its progress."""
    stored = {name: batch[name] for name in batch._fields_ordered if name not in ("id", "selection", "expires_at")}
    ended = batch.succeeded + batch.failed + batch.skipped + batch.refused
    waits = batch.waiting_for and not batch.held and batch.state in OPEN_BATCH_STATES
    return stored | _named(batch) | {"done": ended, "waiting_until": batch.next_at if waits else None}


def _made(running: Running, selection: Selection, total: int, stop_after: int) -> ReplayBatch:
    now = database_now()
    return ReplayBatch(
        id=ObjectId(),
        filter=dict(selection.wanted),
        selection=selection.digest,
        selected_at=selection.at,
        total=total,
        state="queued",
        stop_after=stop_after,
        actor=running.asked.actor,
        note=running.asked.note,
        operation=running.record.pk,
        created_at=now,
        next_at=now,
        expires_at=now + KEPT,
    )


def _freeze(batch: ReplayBatch, events: list[dict[str, Any]]) -> None:
    rows = [
        {
            "batch": batch.pk,
            "position": position,
            "event_id": each["event_id"],
            "type": each["type"],
            "organization": each.get("organization"),
            "created": each["created"],
            "state": "pending",
            "expires_at": batch.expires_at,
        }
        for position, each in enumerate(events)
    ]
    for first in range(0, len(rows), LOT):
        ReplayItem._get_collection().insert_many(rows[first : first + LOT], ordered=False)


def find(batch_id: ObjectId) -> ReplayBatch:
    """The batch. Raises BatchNotFound."""
    batch = ReplayBatch.objects(id=batch_id).first()
    if batch is None:
        raise BatchNotFound(f"There is no batch {batch_id}.")
    return batch


def organization_of(batch_id: ObjectId) -> ObjectId | None:
    """Whose events the batch was limited to; None also if there is no such batch."""
    batch = ReplayBatch.objects(id=batch_id).only("filter").first()
    return batch.filter.get("org_id") if batch else None


def find_all(state: str | None) -> QuerySet:
    """Batches, of one state if given."""
    # The bound makes the index of the order count, too, when no state is given.
    return ReplayBatch.objects(created_at__gte=EPOCH, **({"state": state} if state else {}))


def find_items(batch_id: ObjectId, *, state: str | None, after: int, limit: int) -> list[ReplayItem]:
    """Items in the order of the batch that come after a position (-1: all of them). Raises BatchNotFound."""
    find(batch_id)
    wanted = {"batch": batch_id, "position__gt": after} | ({"state": state} if state else {})
    return list(ReplayItem.objects(**wanted).order_by("position").limit(limit))


def foretell_cancel(batch_id: ObjectId) -> Outcome:
    """What cancelling would change. Raises BatchNotFound, BatchEnded."""
    batch = find(batch_id)
    _refuse_ended(batch)
    return _cancelled(batch, changed=batch.state in ("queued", "running"))


def cancel(batch_id: ObjectId, *, by: str, also: Callable[[Outcome], None]) -> Outcome:
    """Begin no further item; `also` joins the transaction. One that nobody has begun ends here.

    Raises BatchNotFound, BatchEnded.
    """

    now = database_now()

    def write() -> Outcome:
        begun = {"state": "cancelling", "next_at": {"$cond": ["$held", "$next_at", now]}}
        unbegun = {"state": "cancelled", "ended_at": now, "next_at": "$$REMOVE"}
        changed = False
        for attempts, fields in ({"attempt": 0}, unbegun), ({"attempt": {"$gt": 0}}, begun):
            open_one = {"_id": batch_id, "state": {"$in": ["queued", "running"]}, **attempts}
            steps = [{"$set": fields | {"cancelled_by": {"$literal": by}}}]
            changed |= bool(ReplayBatch._get_collection().update_one(open_one, steps).modified_count)
        batch = find(batch_id)
        _refuse_ended(batch)
        outcome = _cancelled(batch, changed=changed)
        also(outcome)
        return outcome

    return in_transaction(write)


def _refuse_ended(batch: ReplayBatch) -> None:
    if batch.state not in (*OPEN_BATCH_STATES, "cancelled"):
        raise BatchEnded(f"The batch has ended: {batch.state}. There is nothing to cancel.", state=batch.state)


def _cancelled(batch: ReplayBatch, *, changed: bool) -> Outcome:
    return Outcome(_named(batch) | {"changed": ["state"] if changed else []})


def claim() -> ReplayBatch | None:
    """Take up the batch that has waited longest, under a new attempt number; None if none is due."""
    now = database_now()
    lost = {"$ifNull": ["$lease_losses", 0]}
    fields = {
        "state": {"$cond": [{"$eq": ["$state", "queued"]}, "running", "$state"]},
        "attempt": {"$add": ["$attempt", 1]},
        "lease_losses": {"$cond": ["$held", {"$add": [lost, 1]}, lost]},
        "held": True,
        "next_at": now + LEASE,
        "started_at": {"$ifNull": ["$started_at", now]},
    }
    found = ReplayBatch._get_collection().find_one_and_update(
        {"state": {"$in": list(OPEN_BATCH_STATES)}, "next_at": {"$lte": now}},
        [{"$set": fields}],
        {"_id": 1},
        sort=[("next_at", 1)],
        return_document=ReturnDocument.AFTER,
    )
    return ReplayBatch.objects(id=found["_id"]).first() if found else None


def mine(batch: ReplayBatch) -> QuerySet:
    return ReplayBatch.objects(id=batch.pk, attempt=batch.attempt, state__in=OPEN_BATCH_STATES)


def reload(batch: ReplayBatch) -> ReplayBatch:
    """The batch as it is now, if this attempt still holds it. Raises BatchLost."""
    held = mine(batch).first()
    if held is None:
        raise BatchLost
    return held


def renew(batch: ReplayBatch) -> None:
    """Hold the batch for a lease more."""
    mine(batch).update_one(set__next_at=database_now() + LEASE)


def release(batch: ReplayBatch, *, seconds: float = 0, waiting_for: str | None = None) -> None:
    """Let others go on with the batch, in so many seconds; `waiting_for` says what holds it up."""
    waits = {"set__waiting_for": waiting_for, "inc__waits": 1} if waiting_for else {}
    # A cancelled one need not wait: what is left to do asks nobody.
    later = database_now() + timedelta(seconds=seconds)
    mine(batch).update_one(set__held=False, set__next_at=later, **waits)
    if seconds:
        mine(batch).filter(state="cancelling").update_one(set__next_at=database_now())


def end(batch: ReplayBatch, state: str, reason: str | None = None) -> None:
    """Bring the batch to its end. Raises BatchLost."""
    now = database_now()
    fields = {"set__state": state, "set__stop_reason": reason, "set__ended_at": now, "set__held": False}

    def write() -> None:
        if not mine(batch).update_one(unset__next_at=True, unset__waiting_for=True, **fields):
            raise BatchLost
        if state == "stopped":
            outbox.put([_told_of_stop(batch, reason, now)])

    in_transaction(write)
    log.info("replay_batch_ended", batch_id=str(batch.pk), state=state, reason=reason)


def _told_of_stop(batch: ReplayBatch, reason: str | None, now: datetime) -> OutboxSignal:
    names = ("total", "succeeded", "failed", "refused", "skipped", "actor")
    facts = {"batch_id": str(batch.pk), "reason": reason} | {name: batch[name] for name in names}
    return outbox.signal("replay_batch_stopped", f"replay_batch_stopped:{batch.pk}", now=now, facts=facts)


def count_due() -> int:
    """How many batches could be taken up now."""
    return ReplayBatch.objects(state__in=OPEN_BATCH_STATES, next_at__lte=database_now()).count()


def seconds_to_next() -> float | None:
    """How long until a batch can be taken up that nobody holds: 0 is now; None if there is none."""
    free = ReplayBatch.objects(state__in=OPEN_BATCH_STATES, held=False).order_by("next_at").only("next_at").first()
    return None if free is None else max(0.0, (free.next_at - database_now()).total_seconds())
