"""The life of a run: started, one at a time; gone on with by whoever holds it; ended, or left for the next."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from bson import ObjectId
from mongoengine import Q

from .. import scans
from ..documents import EPOCH, ReconciliationRun, database_now, in_transaction
from ..errors import BillingError, ReconciliationRunning
from ..observability import log
from ..subscriptions import require_organization
from . import confirmation, listing, own_side, reading, recording
from .holding import Desk, Hold, Suspect

KEPT = timedelta(days=365)
ATTEMPTS = 3
REPEAT_AFTER = timedelta(hours=1)


@dataclass(frozen=True)
class Turn:
    """What came of one go: the run as it is now, and whether it was ours. `next_at` None: at once, or it is over."""

    run: ReconciliationRun | None
    held: bool = False

    @property
    def over(self) -> bool:
        return self.run is None or not self.run.active


def start(
    trigger: str,
    now: datetime,
    *,
    slot: str | None = None,
    attempt: int = 1,
    actor: str | None = None,
    organization: ObjectId | None = None,
    also: Callable[[ReconciliationRun], None] | None = None,
) -> ReconciliationRun:
    """Start a run, or go on with the one that was interrupted; `also` joins the transaction.

    Twice for a slot is once. Raises ReconciliationRunning, OrganizationNotFound.
    """
    if organization:
        require_organization(organization)
    known = _of_slot(slot) or _interrupted(trigger, slot, organization)
    if known is not None:
        if also:
            in_transaction(partial(also, known))
        return known
    run = ReconciliationRun(
        id=ObjectId(),
        active=True,
        trigger=trigger,
        slot=slot,
        attempt=attempt,
        actor=actor,
        organization=organization,
        state="running",
        started_at=now,
        expires_at=now + KEPT,
    )
    if not scans.store_alone(run, lambda: also and also(run)):
        # Another process started one in this moment.
        raise _running(ReconciliationRun.objects(active=True).first())
    log.info("reconciliation_started", run=str(run.pk), trigger=trigger, slot=slot)
    return run


def repeat_failed(now: datetime) -> ReconciliationRun | None:
    """Start a slot's run anew that failed an hour ago, three times in all, unless another has been started since."""
    last = ReconciliationRun.objects(organization=None, started_at__gte=EPOCH).order_by("-started_at").first()
    # Also one that was asked for: it became the slot's while it ran.
    if last is None or last.state != "failed" or last.slot is None:
        return None
    if last.attempt >= ATTEMPTS or last.finished_at > now - REPEAT_AFTER or ReconciliationRun.objects(active=True):
        return None
    attempt = last.attempt + 1
    slot = f"{last.slot.removesuffix(f'-{last.attempt}')}-{attempt}"
    return start("schedule", now, slot=slot, attempt=attempt, actor=last.actor)


def require_startable(organization: ObjectId | None) -> None:
    """Raise what `start` would."""
    if organization:
        require_organization(organization)
    _interrupted("api", None, organization)


def _of_slot(slot: str | None) -> ReconciliationRun | None:
    return ReconciliationRun.objects(slot=slot).first() if slot else None


def _interrupted(trigger: str, slot: str | None, organization: ObjectId | None) -> ReconciliationRun | None:
    active = ReconciliationRun.objects(active=True).first()
    if active is None:
        return None
    same = active.organization == organization
    if same and trigger == "schedule":
        # A run of everything is under way: it is the slot's.
        ReconciliationRun.objects(id=active.pk, slot=None).update_one(set__slot=slot)
        return active
    if same and (active.state == "interrupted" or _is_abandoned(active)):
        return active
    raise _running(active)


def _running(active: ReconciliationRun | None) -> BillingError:
    if active is None:
        return ReconciliationRunning("A reconciliation ended in this moment; try again.", retry_after=1)
    of = f" of organization {active.organization}" if active.organization else ""
    words = f"The reconciliation {active.pk}{of} is {active.state} since {active.started_at:%Y-%m-%d %H:%M} UTC."
    return ReconciliationRunning(words + " Nothing was started.", reconciliationId=str(active.pk))


def _is_abandoned(run: ReconciliationRun) -> bool:
    return bool(run.lease_owner and run.lease_until and run.lease_until <= database_now())


def mark_abandoned() -> None:
    """Call a run interrupted whose process is gone."""
    gone = ReconciliationRun.objects(active=True, state="running", lease_until__lte=database_now())
    if gone.update_one(set__state="interrupted"):
        log.warning("reconciliation_interrupted")


def is_due(now: datetime) -> bool:
    """Whether there is a run that nobody is at and that may go on now."""
    free = Q(lease_until=None) | Q(lease_until__lte=database_now())
    due = Q(next_at=None) | Q(next_at__lte=now)
    return ReconciliationRun.objects(Q(active=True) & free & due).only("id").first() is not None


def go_on(desk: Desk, stop: scans.Stop) -> Turn:
    """Go on with the active run until it waits, is over, or it is time to stop; another holder's is left alone.

    What fails for a bug is raised, after the run was given back.
    """
    hold = Hold.take(desk)
    if hold is None:
        return Turn(ReconciliationRun.objects(active=True).first())
    scans.go_on(hold, PHASES, stop)
    return Turn(ReconciliationRun.objects(id=hold.run.pk).first(), held=True)


def _plan(hold: Hold, stop: scans.Stop) -> None:
    run, desk = hold.run, hold.desk
    if run.organization:
        with desk.stripe.background():
            evidence = confirmation.look_first(hold, run.organization)
        suspects = [Suspect(run.organization, (), evidence)] if evidence else []
        sets = {"phase": "confirming", "expected": 1, "metered": desk.meter_mode}
        hold.commit(inc={"checked": 1}, sets=sets, suspects=suspects)
        return
    with desk.stripe.background():
        read = desk.stripe.subscriptions_page(created={}, limit=1)
    assert read.seen_until is not None
    windows = listing.windows_until(read.seen_until)
    hold.commit(
        inc={"stripe_requests": 1},
        sets={
            "phase": "listing",
            "until": read.seen_until,
            "expected": reading.count_rows(),
            "windows": [window.to_mongo() for window in windows],
        },
    )
    hold.run.windows = windows


PHASES: scans.Phases = {
    "planned": _plan,
    "listing": listing.read_listing,
    "rows": own_side.read_rows,
    "organizations": own_side.read_organizations,
    "books": own_side.read_books,
    "confirming": confirmation.confirm_all,
    "resolving": recording.resolve_unseen,
}
interrupt = Hold.interrupt
