"""Pausing dispatch, for all events or for those of one type: they are received and wait, nothing is lost.

Stored, so that a pause outlives restarts and holds for every process; `current` is asked before events are claimed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .. import outbox
from ..documents import DispatchPause, WebhookEvent, in_transaction
from ..documents.dispatch_pause import EVERY_TYPE
from ..documents.webhook_event import PENDING_STATES
from ..observability import log
from ..operations import Outcome

LONG = timedelta(hours=1)
REMINDER = timedelta(hours=24)
COUNT_CAP = 10_000

Also = Callable[[Outcome], None]


@dataclass(frozen=True)
class Pause:
    """One pause; `type` None means all events."""

    type: str | None
    since: datetime
    by: str
    note: str | None

    def facts(self) -> dict[str, Any]:
        """The pause as plain values."""
        return {"type": self.type, "since": self.since, "by": self.by, "note": self.note}


@dataclass(frozen=True)
class Pauses:
    """All that is paused at one moment, the oldest first."""

    entries: tuple[Pause, ...] = ()

    @property
    def everything(self) -> bool:
        return any(each.type is None for each in self.entries)

    @property
    def types(self) -> frozenset[str]:
        """The types that are paused by name."""
        return frozenset(each.type for each in self.entries if each.type is not None)

    def hold(self, event_type: str) -> bool:
        """Whether events of the type have to wait."""
        return self.everything or event_type in self.types


def current() -> Pauses:
    """What is paused now."""
    # A bound on the key makes it a read by index; the collection has a few rows at most.
    rows = DispatchPause.objects(type__gt="").order_by("type")
    found = [_pause_of(row) for row in rows]
    return Pauses(tuple(sorted(found, key=lambda each: each.since)))


def pause(event_type: str | None, *, by: str, note: str | None, now: datetime, also: Also | None = None) -> Outcome:
    """Have events of the type, or all, wait; one that is paused already stays as it was. `also` joins the
    transaction."""
    fields = {"since": now, "by": by, "note": note}

    def write() -> Outcome:
        row = {"_id": event_type or EVERY_TYPE}
        written = DispatchPause._get_collection().update_one(row, {"$setOnInsert": fields}, upsert=True)
        return _done(event_type, changed=written.upserted_id is not None, also=also)

    outcome = in_transaction(write)
    log.warning("dispatch_paused", type=event_type, actor=by, note=note, changed=outcome.answer["changed"])
    return outcome


def resume(event_type: str | None, *, by: str, also: Also | None = None) -> Outcome:
    """Lift the pause of the type, or the one of all; a pause of the other kind stays. `also` joins the
    transaction. Whoever calls it wakes a worker."""

    def write() -> Outcome:
        gone = DispatchPause._get_collection().delete_one({"_id": event_type or EVERY_TYPE})
        return _done(event_type, changed=gone.deleted_count == 1, also=also)

    outcome = in_transaction(write)
    log.warning("dispatch_resumed", type=event_type, actor=by, changed=outcome.answer["changed"])
    return outcome


def _done(event_type: str | None, *, changed: bool, also: Also | None) -> Outcome:
    pauses = [each.facts() for each in current().entries]
    outcome = Outcome(answer={"type": event_type, "changed": changed, "pauses": pauses})
    if also:
        also(outcome)
    return outcome


def waiting(each: Pause) -> int:
    """How many events wait because of the pause, counted up to COUNT_CAP."""
    wanted: dict[str, Any] = {"state__in": PENDING_STATES} | ({"type": each.type} if each.type else {})
    return WebhookEvent.objects(**wanted).limit(COUNT_CAP).count(with_limit_and_skip=True)


def warn_of_long_pauses(now: datetime) -> int:
    """Store an alert for each pause that has lasted an hour, and one more for each day of it; returns how many
    are new."""
    stored = 0
    for each in current().entries:
        if now - each.since < LONG:
            continue
        days = (now - each.since) // REMINDER
        key = f"dispatch_paused:{each.type or EVERY_TYPE}:{each.since.isoformat()}:{days}"
        facts = each.facts() | {"hours": int((now - each.since) / timedelta(hours=1))}
        new = outbox.put([outbox.signal("dispatch_paused", key, now=now, facts=facts)])
        if new:
            log.warning("dispatch_paused_for_long", type=each.type, since=each.since.isoformat(), actor=each.by)
        stored += new
    return stored


def _pause_of(row: DispatchPause) -> Pause:
    return Pause(None if row.type == EVERY_TYPE else row.type, row.since, row.by, row.note)
