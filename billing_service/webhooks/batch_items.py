"""Carrying on with a batch, one item after another, each on the path of a single replay.

Whoever dies here leaves either an item that was not asked for, or one whose replay the ledger knows by its job id:
the next one goes on from there, and asks for none twice.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from ..documents import STORE_ERRORS, ReplayBatch, ReplayItem, WebhookEvent, database_now, in_transaction
from ..documents.replay_batch import OPEN_ITEM_STATES
from ..errors import AlreadySucceeded, BillingError, EventClosed, EventInProgress, ReplayNotFound
from ..observability import log
from . import batches, ledger
from .batches import BatchLost
from .dispatch import handle
from .failures import is_outage, message_of
from .handlers import Desk
from .renewal import renewed
from .replay import REPLAYABLE, Replayed, find_replay, prepare

RENEWAL_SECONDS = 5.0
LOOK_SECONDS = 0.1
# Somebody else is handling the item's event: looked at again later, so that the worker is free for others.
LOOKS = 20
ELSEWHERE_SECONDS = 2.0
OUTAGE_FIRST = 5.0
OUTAGE_LONGEST = 300.0
MEANWHILE: tuple[type[BillingError], ...] = (AlreadySucceeded, EventClosed, EventInProgress)


class Waits(Exception):
    """The item cannot be brought to its end now; `seconds` until it is worth a try."""

    def __init__(self, seconds: float, why: str):
        super().__init__(why)
        self.seconds, self.why = max(0.5, seconds), why


def carry_on(
    batch: ReplayBatch, desk: Desk, *, livemode: bool, stop: Callable[[], bool], pause: Callable[[float], object]
) -> str:
    """Go on with a claimed batch until it ends, waits, or `stop()`; returns ended, waits, more or lost.

    `stop` is asked between items, after the first. Raises STORE_ERRORS; then the lease runs out.
    """
    with renewed(partial(batches.renew, batch), every=RENEWAL_SECONDS, what="batch"):
        try:
            begun = False
            while not _ended(batch := batches.reload(batch)):
                if begun and stop():
                    batches.release(batch)
                    return "more"
                begun = True
                with contextlib.suppress(BatchLost):  # cancelled meanwhile, perhaps: looked at anew
                    _carry_out(batch, desk, livemode, pause)
            return "ended"
        except Waits as wait:
            batches.release(batch, seconds=wait.seconds, waiting_for=wait.why)
            return "waits"
        except BatchLost:
            log.info("replay_batch_lost", batch_id=str(batch.pk), attempt=batch.attempt)
            return "lost"


def _ended(batch: ReplayBatch) -> bool:
    """Bring the batch to its end if that has come; says whether it has."""
    item = _next_item(batch)
    if batch.state == "cancelling":
        if item and item.state == "asked":
            _leave(batch, item)
        batches.end(batch, "cancelled")
    elif reason := _reason_to_stop(batch):
        log.warning("replay_batch_stopped", batch_id=str(batch.pk), reason=reason, failures=batch.failures_in_row)
        batches.end(batch, "stopped", reason)
    elif item is None:
        batches.end(batch, "partly_failed" if batch.failed or batch.refused else "succeeded")
    else:
        return False
    return True


def _reason_to_stop(batch: ReplayBatch) -> str | None:
    if batch.lease_losses >= batches.LEASE_LOSSES:
        return "lease_losses"
    # Until one was seen to work, the one at hand is the canary.
    if batch.failures_in_row and not batch.succeeded:
        return "canary_failed"
    return "failures_in_row" if batch.failures_in_row >= batch.stop_after else None


def _next_item(batch: ReplayBatch) -> ReplayItem | None:
    return ReplayItem.objects(batch=batch.pk, state__in=OPEN_ITEM_STATES).order_by("position").first()


def _carry_out(batch: ReplayBatch, desk: Desk, livemode: bool, pause: Callable[[float], object]) -> None:
    """Bring the next item to its end. Raises Waits, BatchLost."""
    item = _next_item(batch)
    if item is None:
        return
    if item.state == "pending":
        event = _prepared(batch, item, desk, livemode)
        if event is None or not _ask(batch, item, event):
            return
    _see_to_its_end(batch, item, desk, pause)


def _prepared(batch: ReplayBatch, item: ReplayItem, desk: Desk, livemode: bool) -> WebhookEvent | None:
    """The event, fit to be asked for; None if the item has come to its end instead. Raises Waits."""
    try:
        return prepare(item.event_id, force=False, desk=desk, livemode=livemode, stored_first=True)
    except MEANWHILE as overtaken:
        _finish(batch, item, "skipped", code=overtaken.code)
    except STORE_ERRORS:
        raise
    except Exception as error:
        if is_outage(error):
            raise _outage(batch, error) from error
        if isinstance(error, BillingError):
            _finish(batch, item, "refused", code=error.code, error_message=message_of(error))
        else:
            log.error("replay_item_failed", event_id=item.event_id, exc_info=error)
            _finish(batch, item, "failed", error_class=type(error).__name__, error_message=message_of(error))
    return None


def _outage(batch: ReplayBatch, error: Exception) -> Waits:
    seconds = min(OUTAGE_FIRST * 2 ** min(batch.waits or 0, 10), OUTAGE_LONGEST)
    return Waits(getattr(error, "retry_after", None) or seconds, getattr(error, "code", type(error).__name__))


def _ask(batch: ReplayBatch, item: ReplayItem, event: WebhookEvent) -> bool:
    """Ask for the item's replay, once, whoever else is at it; False if it was overtaken. Raises BatchLost."""

    now = database_now()

    def write() -> str | None:
        # The write makes it collide with a cancel and with whoever takes the batch over.
        held = ReplayBatch.objects(id=batch.pk, attempt=batch.attempt, state="running")
        if not held.update_one(set__position=item.position):
            raise BatchLost
        job_id = ledger.ask_replay(event, actor=batch.actor, states=REPLAYABLE)
        asked = {"set__state": "asked", "set__job_id": job_id, "set__begun_at": now}
        if job_id and not ReplayItem.objects(id=item.pk, state="pending").update_one(**asked):
            raise BatchLost
        return job_id

    item.job_id = in_transaction(write)
    if item.job_id is None:
        now = WebhookEvent.objects(event_id=item.event_id).only("state").first()
        settled = {"succeeded": AlreadySucceeded.code, "closed": EventClosed.code}
        _finish(batch, item, "skipped", code=settled.get(now.state if now else "", EventInProgress.code))
    return item.job_id is not None


def _see_to_its_end(batch: ReplayBatch, item: ReplayItem, desk: Desk, pause: Callable[[float], object]) -> None:
    """Make the attempt, unless somebody else does, and record its end. Raises Waits, BatchLost."""
    for _ in range(LOOKS):
        replayed = _known(item)
        if replayed is None or replayed.state in ("succeeded", "failed"):
            return _record(batch, item, replayed)
        due_at = replayed.event.next_attempt_at
        seconds = (due_at - database_now()).total_seconds() if due_at and replayed.state == "waiting" else 0
        if seconds > 0:
            raise Waits(seconds, replayed.event.reason or "outage")
        held = ledger.claim_replay(item.event_id)
        if held is None:
            pause(LOOK_SECONDS)
        else:
            handle(held, desk, ledger.trial_of(held))
    raise Waits(ELSEWHERE_SECONDS, EventInProgress.code)


def _known(item: ReplayItem) -> Replayed | None:
    try:
        return find_replay(item.job_id)
    except ReplayNotFound:  # so many attempts were made since that its line is gone
        return None


def _record(batch: ReplayBatch, item: ReplayItem, replayed: Replayed | None) -> None:
    if replayed is None:
        _finish(batch, item, "skipped", code=ReplayNotFound.code)
    elif replayed.state == "succeeded":
        _finish(batch, item, "succeeded", outcome=replayed.outcome)
    else:
        told = {"error_class": replayed.error_class, "error_message": replayed.error_message}
        _finish(batch, item, "failed", **told)


def _leave(batch: ReplayBatch, item: ReplayItem) -> None:
    """What was asked for cannot be taken back: its end if there is one by now, else the ledger goes on with it."""
    replayed = _known(item)
    if replayed is None or replayed.state in ("succeeded", "failed"):
        _record(batch, item, replayed)
    else:
        ReplayItem.objects(id=item.pk, state="asked").update_one(set__state="left", set__ended_at=database_now())


def _finish(batch: ReplayBatch, item: ReplayItem, state: str, **told: Any) -> None:
    """Record an item's end, with the batch's progress. Raises BatchLost."""
    in_row: dict[str, Any] = {}
    if state in ("failed", "refused"):
        in_row = {"inc__failures_in_row": 1}
    elif state == "succeeded":
        in_row = {"set__failures_in_row": 0}
    facts = {f"set__{name}": value for name, value in told.items() if value is not None}
    facts["set__ended_at"] = database_now()

    def write() -> None:
        progress = {f"inc__{state}": 1, "set__waits": 0, "set__lease_losses": 0, **in_row}
        if not batches.mine(batch).update_one(unset__waiting_for=True, **progress):
            raise BatchLost
        ours = ReplayItem.objects(id=item.pk, state__in=OPEN_ITEM_STATES)
        if not ours.update_one(set__state=state, **facts):
            raise BatchLost

    in_transaction(write)
