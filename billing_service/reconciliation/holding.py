"""Who is at a run: one process at a time by a lease of the database's clock, and no write of an earlier one."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import ReturnDocument, UpdateOne

from ..documents import ReconciliationCandidate, ReconciliationRun, database_now, in_transaction
from ..observability import log
from ..plans import Plans
from ..stripe_gateway import StripeGateway
from . import telling

LEASE = timedelta(seconds=60)
RENEW_SECONDS = 5.0
SAMPLE = 20
# Whatever went wrong before is over.
PROGRESS: dict[str, Any] = {"failures": 0, "outages": 0, "error": None}
CANDIDATES_KEPT = timedelta(days=30)


class LostLease(Exception):
    """Somebody else goes on with the run; nothing was written."""


@dataclass(frozen=True)
class Desk:
    """What comparing needs of the running process. `confirm` is how long a difference must last; `meter_mode`: extras
    and usage are compared, too.
    """

    stripe: StripeGateway
    plans: Plans
    clock: Callable[[], datetime]
    confirm: timedelta
    meter_mode: bool = False
    tell: Callable[[ReconciliationRun], None] = lambda run: None


@dataclass(frozen=True)
class Suspect:
    """An organization, or a subscription of nobody we know, of which something may not fit.

    `evidence` is what Stripe said; without `subscriptions` Stripe need not be asked again.
    """

    organization: ObjectId | None
    subscriptions: tuple[str, ...] = ()
    evidence: frozenset[str] = frozenset()

    @property
    def subject(self) -> str:
        return str(self.organization) if self.organization else self.subscriptions[0]


@dataclass(frozen=True)
class Trouble:
    """Something that could not be compared, and why."""

    subject: str
    code: str
    detail: str

    def facts(self) -> dict[str, str]:
        return {"subject": self.subject, "code": self.code, "detail": self.detail[:300]}


class Hold:
    """A run that this process holds; `run` is what it knows of it. Threads may commit, one after the other."""

    def __init__(self, run: ReconciliationRun, desk: Desk):
        self.run = run
        self.desk = desk
        self._lock = threading.Lock()
        self._renewed_at = time.monotonic()

    @property
    def _mine(self) -> dict[str, Any]:
        return {"_id": self.run.pk, "fence": self.run.fence, "active": True}

    def pulse(self) -> None:
        """Keep the lease and tell how far it is; to be called every few seconds. Raises LostLease."""
        if time.monotonic() - self._renewed_at >= RENEW_SECONDS:
            self._renewed_at = time.monotonic()
            renewed = _runs().update_one(self._mine, [{"$set": {"lease_until": _later(LEASE)}}])
            if not renewed.matched_count:
                raise LostLease
        self.desk.tell(self.run)

    def commit(
        self,
        *,
        inc: dict[str, int] | None = None,
        sets: dict[str, Any] | None = None,
        suspects: Iterable[Suspect] = (),
        troubles: Sequence[Trouble] = (),
        also: Callable[[], dict[str, int] | None] | None = None,
    ) -> None:
        """Write a step of the run and all that belongs to it, or nothing. Raises LostLease.

        What is counted is counted with the place that was reached, so that a step that is repeated counts once.
        `also` joins the transaction, may run several times, and may return more to be counted.
        """
        suspected = list(suspects)
        counts = {name: count for name, count in (inc or {}).items() if count}
        counts["errors"] = counts.get("errors", 0) + len(troubles)

        def write() -> dict[str, int]:
            every = counts | {"candidates": _suspect(self.run.pk, suspected, self.desk)} | ((also and also()) or {})
            update: dict[str, Any] = {"$set": PROGRESS | (sets or {}), "$inc": every}
            if troubles:
                sample = {"$each": [each.facts() for each in troubles], "$slice": SAMPLE}
                update["$push"] = {"error_sample": sample}
            if not _runs().update_one(self._mine, update).matched_count:
                raise LostLease
            return every

        with self._lock:
            self._remember(in_transaction(write), sets or {})
        for each in troubles:
            log.warning("reconciliation_not_compared", run=str(self.run.pk), **each.facts())

    def _remember(self, counts: dict[str, int], sets: dict[str, Any]) -> None:
        sets = PROGRESS | sets
        for name, count in counts.items():
            field, _, kind = name.partition(".")
            if kind:
                counted = getattr(self.run, field)
                counted[kind] = counted.get(kind, 0) + count
            else:
                setattr(self.run, field, (getattr(self.run, field) or 0) + count)
        for name, value in sets.items():
            if "." not in name:
                setattr(self.run, name, value)

    def enter(self, phase: str, **sets: Any) -> None:
        """Go on with the next phase. Raises LostLease."""
        self.commit(sets={"phase": phase, "place": None, **sets})

    def end(self, state: str, error: str | None = None) -> None:
        """The run is over, and people are told of what they were not told of singly. Raises LostLease."""
        now = self.desk.clock()
        fields = {"state": state, "finished_at": now, "error": error, "next_at": None}
        gone = dict.fromkeys(("active", "lease_owner", "lease_until"), "")

        def write() -> None:
            if not _runs().update_one(self._mine, {"$set": fields, "$unset": gone}).matched_count:
                raise LostLease
            telling.sum_up(self.run, state, now)
            if state == "failed":
                telling.give_up(self.run, error, now)

        in_transaction(write)
        self.run.active = None
        self.run.state, self.run.finished_at, self.run.error = state, now, error
        if state == "failed":
            log.error("reconciliation_failed", alert=True, run=str(self.run.pk), error=error)
        log.info("reconciliation_ended", run=str(self.run.pk), state=state, **summary_of(self.run))

    def release(self, *, next_at: datetime | None = None, **sets: Any) -> None:
        """Let anybody go on, not before `next_at`."""
        fields = {"next_at": next_at, **sets}
        gone = dict.fromkeys(("lease_owner", "lease_until"), "")
        _runs().update_one(self._mine, {"$set": fields, "$unset": gone})


def take(desk: Desk) -> Hold | None:
    """Hold the active run if it is due and nobody else does."""
    now = database_now()
    free = {
        "active": True,
        "lease_until": {"$not": {"$gt": now}},
        "next_at": {"$not": {"$gt": desk.clock()}},
    }
    # A lease that is still named is of a holder that died.
    died = {"$cond": [{"$ifNull": ["$lease_owner", False]}, 1, 0]}
    lease = {
        "lease_owner": uuid.uuid4().hex,
        "lease_until": _later(LEASE),
        "fence": {"$add": ["$fence", 1]},
        "failures": {"$add": ["$failures", died]},
        "state": "running",
    }
    taken = _runs().find_one_and_update(free, [{"$set": lease}], return_document=ReturnDocument.AFTER)
    return Hold(ReconciliationRun._from_son(taken), desk) if taken else None


def summary_of(run: ReconciliationRun) -> dict[str, int]:
    """What a run came to, in numbers."""
    names = ("checked", "divergences", "errors", "new", "changed", "acknowledged", "resolved", "in_flight")
    return {name: getattr(run, name) for name in (*names, "stripe_requests", "candidates")}


def _suspect(run_id: ObjectId, suspects: Sequence[Suspect], desk: Desk) -> int:
    """Store suspects, each subject once; returns how many are new."""
    if not suspects:
        return 0
    now = desk.clock()
    fresh = {
        "first_seen_at": now,
        "due_at": now + desk.confirm,
        "restarts": 0,
        "failures": 0,
        "state": "waiting",
        "expires_at": now + CANDIDATES_KEPT,
    }
    writes = [
        UpdateOne(
            {"run": run_id, "subject": each.subject},
            {
                "$setOnInsert": fresh | {"organization": each.organization},
                "$addToSet": {
                    "seen": {"$each": sorted(each.evidence)},
                    "subscriptions": {"$each": list(each.subscriptions)},
                },
            },
            upsert=True,
        )
        for each in suspects
    ]
    return ReconciliationCandidate._get_collection().bulk_write(writes).upserted_count


def _later(span: timedelta) -> dict[str, Any]:
    return {"$add": ["$$NOW", int(span.total_seconds() * 1000)]}


def _runs() -> Any:
    return ReconciliationRun._get_collection()
