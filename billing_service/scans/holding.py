"""Who is at a run: one process at a time by a lease of the database's clock, and no write of an earlier one."""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, Self, TypeVar

from bson import ObjectId
from mongoengine.errors import NotUniqueError
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from ..documents import ScanRun, database_now, in_transaction
from ..observability import log
from ..plans import Plans
from ..stripe_gateway import StripeGateway

LEASE = timedelta(seconds=60)
RENEW_SECONDS = 5.0
# Whatever went wrong before is over.
PROGRESS: dict[str, Any] = {"failures": 0, "outages": 0, "error": None}
NOBODYS = dict.fromkeys(("lease_owner", "lease_until"), "")

Stop = Callable[[], bool]


class LostLease(Exception):
    """Somebody else goes on with the run; nothing was written."""


@dataclass(frozen=True)
class Desk:
    """What a run needs of the running process."""

    stripe: StripeGateway
    plans: Plans
    clock: Callable[[], datetime]
    tell: Callable[[Any], None] = field(default=lambda run: None, kw_only=True)


Run = TypeVar("Run", bound=ScanRun)
Needs = TypeVar("Needs", bound=Desk)


class Hold(Generic[Run, Needs]):
    """A run that this process holds; `run` is what it knows of it. Threads may commit, one after the other."""

    document: ClassVar[type[ScanRun]]
    noun: ClassVar[str]
    retry_pause: ClassVar[timedelta]

    def __init__(self, run: Run, desk: Needs):
        self.run = run
        self.desk = desk
        # The run's document is one: threads would make each other wait for it in the database.
        self.lock = threading.Lock()
        self._renewed_at = time.monotonic()

    @classmethod
    def take(cls, desk: Needs) -> Self | None:
        """Hold the active run if it is due and nobody else does."""
        free = {
            "active": True,
            "lease_until": {"$not": {"$gt": database_now()}},
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
        runs = cls.document._get_collection()
        taken = runs.find_one_and_update(free, [{"$set": lease}], return_document=ReturnDocument.AFTER)
        return cls(cls.document._from_son(taken), desk) if taken else None

    @classmethod
    def interrupt(cls, run_id: ObjectId) -> None:
        """Say that the process that was at a run stopped in good order."""
        cls.document.objects(id=run_id, active=True, lease_owner=None).update_one(set__state="interrupted")

    def begin(self) -> None:
        """What is done before a holder goes on. Raises LostLease."""

    def pulse(self) -> None:
        """Keep the lease and tell how far it is; to be called every few seconds. Raises LostLease."""
        if time.monotonic() - self._renewed_at >= RENEW_SECONDS:
            self._renewed_at = time.monotonic()
            self._update([{"$set": {"lease_until": _later(LEASE)}}])
        self.tell()

    def tell(self) -> None:
        """Tell how far it is."""
        self.desk.tell(self.run)

    def record(
        self,
        *,
        inc: dict[str, int] | None = None,
        sets: dict[str, Any] | None = None,
        push: dict[str, Any] | None = None,
    ) -> None:
        """Write a step to the run, inside the transaction of all that belongs to it. Raises LostLease.

        What is counted is counted with the place that was reached, so that a step that is repeated counts once.
        """
        update: dict[str, Any] = {"$set": PROGRESS | (sets or {})}
        if counts := {name: count for name, count in (inc or {}).items() if count}:
            update["$inc"] = counts
        self._update(update | ({"$push": push} if push else {}))

    def commit(
        self,
        also: Callable[[], dict[str, int] | None] | None = None,
        *,
        inc: dict[str, int] | None = None,
        **step: Any,
    ) -> None:
        """Record a step and carry out `also`, or nothing. Raises LostLease.

        `also` joins the transaction, may run several times, and may return more to be counted.
        """

        def write() -> dict[str, int]:
            counts = (inc or {}) | ((also and also()) or {})
            self.record(inc=counts, **step)
            return counts

        with self.lock:
            self._remember(in_transaction(write), PROGRESS | (step.get("sets") or {}))

    def _remember(self, counts: dict[str, int], sets: dict[str, Any]) -> None:
        for name, count in counts.items():
            field_, _, kind = name.partition(".")
            if kind:
                counted = getattr(self.run, field_)
                counted[kind] = counted.get(kind, 0) + count
            else:
                setattr(self.run, field_, (getattr(self.run, field_) or 0) + count)
        for name, value in sets.items():
            if "." not in name:
                setattr(self.run, name, value)

    def enter(self, phase: str, **sets: Any) -> None:
        """Go on with the next phase. Raises LostLease."""
        self.commit(sets={"phase": phase, "place": None, **sets})

    def end(self, state: str, error: str | None = None, **facts: Any) -> None:
        """The run is over. Raises LostLease."""
        fields = {"state": state, "finished_at": self.desk.clock(), "error": error, "next_at": None, **facts}

        def write() -> None:
            self._update({"$set": fields, "$unset": NOBODYS | {"active": ""}})
            self.ended(state, error)

        in_transaction(write)
        self._remember({}, fields | {"active": None})
        log.info(f"{self.noun}_ended", run=str(self.run.pk), state=state, error=error, **self.summary())

    def ended(self, state: str, error: str | None) -> None:
        """What is written along with its end; may run several times."""

    def summary(self) -> dict[str, Any]:
        """What it came to, for the log."""
        return {}

    def release(self, *, next_at: datetime | None = None, **sets: Any) -> None:
        """Let anybody go on, not before `next_at`."""
        with contextlib.suppress(LostLease):
            self._update({"$set": {"next_at": next_at, **sets}, "$unset": NOBODYS})

    def _update(self, update: Any) -> None:
        mine = {"_id": self.run.pk, "fence": self.run.fence, "active": True}
        if not self.document._get_collection().update_one(mine, update).matched_count:
            raise LostLease


def store_alone(run: ScanRun, also: Callable[[], None]) -> bool:
    """Store a new run and carry out `also`, which joins the transaction, or nothing; False: another one is active."""

    def write() -> None:
        run._get_collection().insert_one(run.to_mongo())
        also()

    try:
        in_transaction(write)
    except (DuplicateKeyError, NotUniqueError):
        return False
    return True


def _later(span: timedelta) -> dict[str, Any]:
    return {"$add": ["$$NOW", int(span.total_seconds() * 1000)]}
