"""The life of an import: started, one at a time; gone on with by whoever holds it; ended, or left for the next."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId

from .. import scans
from ..documents import ImportRun, database_now, in_transaction
from ..errors import BillingError, ImportRunning, ImportUnfinished
from ..observability import log
from .holding import Desk, Hold, audit
from .listing import plan_windows, read_listing
from .ownership import make_out_customers
from .rows import write_rows

KEPT = timedelta(days=365)
# Older lists are not gone on with: of what changed since, an event may have been missed.
LISTS_HOLD = timedelta(days=7)


@dataclass(frozen=True)
class Wanted:
    """What an import is to do; one that was interrupted is gone on with by who wants the same."""

    apply: bool = False
    canceled: bool = False
    actor: str = "cli"
    note: str | None = None

    @property
    def words(self) -> str:
        """The options that ask for it."""
        named = [option for option, given in (("--apply", self.apply), ("--canceled", self.canceled)) if given]
        return " ".join(["billing-service import", *named])


def start(wanted: Wanted, now: datetime, *, restart: bool = False) -> tuple[ImportRun, bool]:
    """Start an import, or go on with the one that was interrupted: the import, and whether it is a new one.

    `restart` throws away what the interrupted one had read, not the rows that it wrote. Raises ImportRunning,
    ImportUnfinished.
    """
    active = ImportRun.objects(active=True).first()
    if active is not None and restart:
        _discard(active, wanted, now)
        active = None
    if active is not None:
        _require_same(active, wanted, now)
        return active, False
    run = ImportRun(
        id=ObjectId(),
        active=True,
        apply=wanted.apply,
        canceled=wanted.canceled,
        actor=wanted.actor,
        note=wanted.note,
        state="running",
        started_at=now,
        expires_at=now + KEPT,
    )
    if not scans.store_alone(run, lambda: audit(run, "intent", now)):
        raise ImportRunning("Another import was started in this moment. Nothing was started here.")
    log.info("import_started", run=str(run.pk), apply=run.apply, canceled=run.canceled)
    return run, True


def _require_same(active: ImportRun, wanted: Wanted, now: datetime) -> None:
    """Raise ImportUnfinished where an import is another one than is wanted, or too old to be gone on with."""
    begun = f"The import {active.pk} of {active.started_at:%Y-%m-%d %H:%M} UTC is not finished"
    if active.started_at < now - LISTS_HOLD:
        words = f"{begun}, and what it read is older than {LISTS_HOLD.days} days. Nothing was started. Begin anew with "
        raise ImportUnfinished(words + "--restart.", importId=str(active.pk))
    if (active.apply, active.canceled) != (wanted.apply, wanted.canceled):
        words = (
            f"{begun} ({Wanted(active.apply, active.canceled).words}). Nothing was started. Go on with it by the same "
        )
        raise ImportUnfinished(words + "command, or begin anew with --restart.", importId=str(active.pk))


def _discard(active: ImportRun, wanted: Wanted, now: datetime) -> None:
    """End an import that nobody holds, in the name of who does not want it. Raises ImportRunning."""
    free = {"_id": active.pk, "active": True, "lease_until": {"$not": {"$gt": database_now()}}}
    fields = {"state": "discarded", "finished_at": now, "next_at": None, "actor": wanted.actor, "note": wanted.note}
    gone = dict.fromkeys(("active", "lease_owner", "lease_until"), "")

    def write() -> bool:
        if not ImportRun._get_collection().update_one(free, {"$set": fields, "$unset": gone}).matched_count:
            return False
        audit(ImportRun.objects(id=active.pk).first(), "outcome", now)
        return True

    if not in_transaction(write):
        raise running(active)


def running(active: ImportRun) -> BillingError:
    """The refusal that tells of another process at it."""
    words = f"Another process is at the import {active.pk} of {active.started_at:%Y-%m-%d %H:%M} UTC"
    return ImportRunning(
        f"{words} ({active.actor}; {active.phase}, {active.listed} subscriptions read). Nothing was started. If that "
        "process is gone, its lease runs out within a minute: then run this again.",
        importId=str(active.pk),
    )


def go_on(desk: Desk, stop: scans.Stop) -> bool:
    """Go on with the active import until it is over, has to wait, or it is time to stop; False: another one holds it.

    What fails for a bug is raised, after the import was given back.
    """
    hold = Hold.take(desk)
    if hold is not None:
        scans.go_on(hold, PHASES, stop)
    return hold is not None


PHASES: scans.Phases = {
    "planned": plan_windows,
    "listing": read_listing,
    "customers": make_out_customers,
    "organizations": write_rows,
}
interrupt = Hold.interrupt
