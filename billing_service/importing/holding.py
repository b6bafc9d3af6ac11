"""Who is at an import: one process at a time by a lease of the database's clock, and no write of an earlier one."""

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument

from ..documents import AdminAction, ImportRun, database_now, in_transaction
from ..observability import log
from ..operations import AUDIT_KEPT
from ..plans import Plans
from ..stripe_gateway import StripeGateway

LEASE = timedelta(seconds=60)
# What others of its threads count, and what their progress ends.
COUNTED = ("listed", "settled", "organizations", "stripe_requests", "failures", "outages")
RENEW_SECONDS = 5.0
# Whatever went wrong before is over.
PROGRESS: dict[str, Any] = {"failures": 0, "outages": 0, "error": None}


class LostLease(Exception):
    """Somebody else goes on with the import; nothing was written."""


@dataclass(frozen=True)
class Desk:
    """What importing needs of the running process, and who wants it: None, whoever began."""

    stripe: StripeGateway
    plans: Plans
    clock: Callable[[], datetime]
    tell: Callable[[ImportRun], None] = lambda run: None
    actor: str | None = None
    note: str | None = None


class Hold:
    """An import that this process holds; `run` is what it knows of it, its numbers as of the last beat."""

    def __init__(self, run: ImportRun, desk: Desk):
        self.run = run
        self.desk = desk
        # Of threads that commit: the run's document is one, and would make them wait for each other in the database.
        self.lock = threading.Lock()
        self._renewed_at = self._told_at = time.monotonic()

    @property
    def _mine(self) -> dict[str, Any]:
        return {"_id": self.run.pk, "fence": self.run.fence, "active": True}

    def pulse(self) -> None:
        """Keep the lease and tell how far it is; to be called every few seconds. Raises LostLease."""
        now = time.monotonic()
        if now - self._renewed_at >= RENEW_SECONDS:
            self._renewed_at = now
            if not runs().update_one(self._mine, [{"$set": {"lease_until": _later(LEASE)}}]).matched_count:
                raise LostLease
        if now - self._told_at >= 0.5:
            self._told_at = now
            self.refresh()
            self.desk.tell(self.run)

    def refresh(self) -> None:
        """Read the numbers again; windows and place are this process's own."""
        fresh = ImportRun.objects(id=self.run.pk).only(*COUNTED).first()
        if fresh is None:
            raise LostLease
        for name in COUNTED:
            setattr(self.run, name, getattr(fresh, name))

    def record(self, *, inc: dict[str, int] | None = None, sets: dict[str, Any] | None = None) -> None:
        """Write a step to the run, inside the transaction of all that belongs to it. Raises LostLease.

        What is counted is counted with what was done, so that a step that is repeated counts once.
        """
        update: dict[str, Any] = {"$set": PROGRESS | (sets or {})}
        if counts := {name: count for name, count in (inc or {}).items() if count}:
            update["$inc"] = counts
        if not runs().update_one(self._mine, update).matched_count:
            raise LostLease

    def commit(self, write: Callable[[], dict[str, int] | None], **step: Any) -> None:
        """Carry out `write` and record the step, or nothing; what `write` returns is counted, too."""

        def both() -> None:
            inc = (step.get("inc") or {}) | (write() or {})
            self.record(inc=inc, sets=step.get("sets"))

        with self.lock:
            in_transaction(both)

    def adopt(self) -> None:
        """Name who goes on with it now for all that it makes from here on. Raises LostLease."""
        run, desk = self.run, self.desk
        if desk.actor is None or (desk.actor, desk.note or run.note) == (run.actor, run.note):
            return
        run.actor, run.note = desk.actor, desk.note
        self.commit(lambda: audit(run, "intent", desk.clock()), sets={"actor": run.actor, "note": run.note})

    def enter(self, phase: str) -> None:
        """Go on with the next phase. Raises LostLease."""
        self.commit(lambda: None, sets={"phase": phase, "place": None})
        self.run.phase, self.run.place = phase, None

    def end(self, state: str, **facts: Any) -> None:
        """It is over. Raises LostLease."""
        now = self.desk.clock()
        fields = {"state": state, "finished_at": now, "next_at": None, **facts}
        gone = dict.fromkeys(("active", "lease_owner", "lease_until"), "")

        def write() -> None:
            if not runs().update_one(self._mine, {"$set": fields, "$unset": gone}).matched_count:
                raise LostLease
            self.run = ImportRun.objects(id=self.run.pk).first()
            audit(self.run, "outcome", now)

        in_transaction(write)
        log.info("import_ended", run=str(self.run.pk), state=state, apply=self.run.apply, error=self.run.error)

    def release(self, *, next_at: datetime | None = None, **sets: Any) -> None:
        """Let anybody go on, not before `next_at`."""
        gone = dict.fromkeys(("lease_owner", "lease_until"), "")
        runs().update_one(self._mine, {"$set": {"next_at": next_at, **sets}, "$unset": gone})


def take(desk: Desk) -> Hold | None:
    """Hold the active import if it is due and nobody else does."""
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
    taken = runs().find_one_and_update(free, [{"$set": lease}], return_document=ReturnDocument.AFTER)
    return Hold(ImportRun._from_son(taken), desk) if taken else None


def audit(run: ImportRun, phase: str, now: datetime) -> None:
    """Say in the audit log that an import begins, or what it came to; each row it makes has a line of its own.

    One that writes nothing else has none.
    """
    if not run.apply:
        return
    results = {"completed": "succeeded", "failed": "failed", "discarded": "failed"}
    AdminAction(
        operation=run.pk,
        phase=phase,
        at=now,
        actor=run.actor,
        role="cli",
        action="import",
        target=f"import {run.pk}",
        note=run.note,
        outcome="pending" if phase == "intent" else results[run.state],
        parameters={"canceled": run.canceled, "organizations": run.organizations, "states": dict(run.states)},
        error=run.error,
        expires_at=now + AUDIT_KEPT,
    ).save(force_insert=True)


def _later(span: timedelta) -> dict[str, Any]:
    return {"$add": ["$$NOW", int(span.total_seconds() * 1000)]}


def runs() -> Any:
    """The collection, past MongoEngine."""
    return ImportRun._get_collection()
