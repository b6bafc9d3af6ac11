"""The life of an import: started, one at a time; gone on with by whoever holds it; ended, or left for the next."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId
from mongoengine.errors import NotUniqueError
from pymongo.errors import DuplicateKeyError

from ..documents import ImportRun, database_now, in_transaction
from ..errors import BillingError, ImportRunning, ImportUnfinished, StripeMisconfigured, StripeNotConfigured
from ..observability import log
from ..subscriptions import OF_STRIPE
from ..webhooks.failures import message_of
from .holding import Desk, Hold, LostLease, audit, runs, take
from .listing import plan_windows, read_listing
from .ownership import make_out_customers
from .rows import write_rows

KEPT = timedelta(days=365)
# Holders in a row that died or failed and got nothing done.
FAILURES = 5
OUTAGE_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(minutes=5)
RETRY_PAUSE = timedelta(seconds=5)

Stop = Callable[[], bool]


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
        if (active.apply, active.canceled) != (wanted.apply, wanted.canceled):
            same = Wanted(active.apply, active.canceled).words
            raise ImportUnfinished(
                f"The import {active.pk} of {active.started_at:%Y-%m-%d %H:%M} UTC is not finished ({same}). Nothing "
                "was started. Go on with it by the same command, or begin anew with --restart.",
                importId=str(active.pk),
            )
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
    _insert(run, now)
    log.info("import_started", run=str(run.pk), apply=run.apply, canceled=run.canceled)
    return run, True


def _insert(run: ImportRun, now: datetime) -> None:
    def write() -> None:
        runs().insert_one(run.to_mongo())
        audit(run, "intent", now)

    try:
        in_transaction(write)
    except (DuplicateKeyError, NotUniqueError) as error:
        raise ImportRunning("Another import was started in this moment. Nothing was started here.") from error


def _discard(active: ImportRun, wanted: Wanted, now: datetime) -> None:
    """End an import that nobody holds, in the name of who does not want it. Raises ImportRunning."""
    free = {"_id": active.pk, "active": True, "lease_until": {"$not": {"$gt": database_now()}}}
    fields = {"state": "discarded", "finished_at": now, "next_at": None, "actor": wanted.actor, "note": wanted.note}
    gone = dict.fromkeys(("active", "lease_owner", "lease_until"), "")

    def write() -> bool:
        if not runs().update_one(free, {"$set": fields, "$unset": gone}).matched_count:
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


def interrupt(run_id: ObjectId) -> None:
    """Say that the process that was at an import stopped in good order."""
    ImportRun.objects(id=run_id, active=True, lease_owner=None).update_one(set__state="interrupted")


def go_on(desk: Desk, stop: Stop) -> bool:
    """Go on with the active import until it is over, has to wait, or it is time to stop; False: another one holds it.

    What fails for a bug is raised, after the import was given back.
    """
    hold = take(desk)
    if hold is None:
        return False
    try:
        hold.adopt()
        _work(hold, stop)
    except LostLease:
        log.warning("import_taken_over", run=str(hold.run.pk))
    except (StripeMisconfigured, StripeNotConfigured) as error:
        with contextlib.suppress(LostLease):
            hold.end("failed", error=f"{error.code}: {error.detail}")
    except OF_STRIPE as error:
        _wait_out(hold, error)
    except BaseException as error:
        _give_back(hold, error)
        raise
    return True


def _work(hold: Hold, stop: Stop) -> None:
    if hold.run.failures >= FAILURES:
        words = hold.run.error or "its process died each time"
        hold.end("failed", error=f"given up after {FAILURES} attempts without progress: {words}")
        return
    phases: dict[str, Callable[[], None]] = {
        "planned": lambda: plan_windows(hold),
        "listing": lambda: read_listing(hold, stop),
        "customers": lambda: make_out_customers(hold),
        "organizations": lambda: write_rows(hold, stop),
    }
    while hold.run.active and not stop():
        phases[hold.run.phase]()
        hold.desk.tell(hold.run)
    if hold.run.active:
        hold.release()


def _wait_out(hold: Hold, error: BillingError) -> None:
    """Stripe is away or slows us down: nothing is lost but time."""
    hold.refresh()
    pause = min(OUTAGE_PAUSE * 2 ** min(hold.run.outages, 6), LONGEST_PAUSE)
    if error.retry_after and not hold.run.outages:
        pause = timedelta(seconds=max(1.0, error.retry_after))
    log.warning("import_waits", run=str(hold.run.pk), code=error.code, seconds=pause.total_seconds())
    hold.release(next_at=hold.desk.clock() + pause, outages=hold.run.outages + 1, error=f"{error.code}: {error.detail}")


def _give_back(hold: Hold, error: BaseException) -> None:
    if isinstance(error, Exception):
        hold.refresh()
        told = f"{type(error).__name__}: {message_of(error)}"
        hold.release(next_at=hold.desk.clock() + RETRY_PAUSE, failures=hold.run.failures + 1, error=told)
    else:
        hold.release(state="interrupted")
