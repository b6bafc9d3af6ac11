"""Each Sunday, and when asked for: everything compared with Stripe, a slice at a time; nothing is repaired."""

import time
from datetime import timedelta
from typing import Any

from rq import get_current_job

from .. import reconciliation
from ..documents import STORE_ERRORS, ReconciliationRun
from ..errors import ReconciliationRunning
from ..observability import log
from ..runtime import runtime
from . import shutdown, wakeups
from .queues import job
from .runs import Part

SLICE_SECONDS = 20.0
# Of which nobody who waits takes the first ones away: the run must get on, too.
UNDISTURBED_SECONDS = 2.0
ASKED_EACH_SECONDS = 0.5
LOG_SECONDS = 10.0
META_SECONDS = 2.0
STORE_PAUSE_SECONDS = 5.0
# While the run of one organization is under way; its own wait is a minute.
OTHERS_PAUSE = timedelta(minutes=3)


@job("batch", timeout=30, in_parts=True, with_slot=True)
def reconcile(*, cursor: dict[str, Any], slot: str | None) -> Part:
    """Start the slot's run, or find that it was; what follows is `reconcile_on`'s and the sweep's."""
    try:
        run = reconciliation.start("schedule", runtime.clock(), slot=slot, actor="schedule")
    except ReconciliationRunning as other:
        return Part({"waits_for": other.facts.get("reconciliationId")}, {}, OTHERS_PAUSE)
    if run.active:
        wakeups.wake_reconciliation()
    return Part({"reconciliation": str(run.pk)})


@job("batch", timeout=120)
def reconcile_on() -> dict[str, Any]:
    """Go on with the active run for a slice; whoever must go on after it is woken."""
    wakeups.begun(wakeups.RECONCILIATION_PENDING)
    try:
        turn = reconciliation.go_on(desk(Progress().tell), _Slice().is_over)
        _wake_for_the_rest(turn)
    except STORE_ERRORS as error:  # the sweep goes on
        log.error("reconciliation_without_store", error=type(error).__name__)
        wakeups.wake_reconciliation_in(STORE_PAUSE_SECONDS)
        return {}
    if turn.run is None:
        return {}
    return {"reconciliation": str(turn.run.pk), "state": turn.run.state, **reconciliation.summary_of(turn.run)}


def desk(tell: Any = None) -> reconciliation.Desk:
    """What comparing needs of this process."""
    return reconciliation.Desk(
        stripe=runtime.stripe,
        plans=runtime.plans,
        clock=runtime.clock,
        confirm=timedelta(seconds=runtime.settings.reconcile_confirm_seconds),
        meter_mode=runtime.settings.meter_mode,
        **({"tell": tell} if tell else {}),
    )


def _wake_for_the_rest(turn: reconciliation.Turn) -> None:
    if not turn.held or turn.run is None:
        return
    wakeups.wake_outbox()
    if turn.over:
        return
    if shutdown.requested():
        reconciliation.interrupt(turn.run.pk)
    if turn.run.next_at is None:
        wakeups.wake_reconciliation()
    else:
        seconds = (turn.run.next_at - runtime.clock()).total_seconds()
        wakeups.wake_reconciliation_in(max(1.0, seconds))


class _Slice:
    """When to stop: told to, its time is over, or a webhook or an admin waits for what may be the only worker."""

    def __init__(self) -> None:
        begun = time.monotonic()
        self._deadline = begun + SLICE_SECONDS
        self._asks_at = begun + UNDISTURBED_SECONDS
        self._wanted = False

    def is_over(self) -> bool:
        now = time.monotonic()
        if now >= self._asks_at and not self._wanted:
            self._asks_at = now + ASKED_EACH_SECONDS
            self._wanted = wakeups.others_wait()
        return self._wanted or now >= self._deadline or shutdown.requested()


class Progress:
    """How far the run is, in the job's meta and a line of the log every ten seconds."""

    def __init__(self) -> None:
        self._logged_at = self._kept_at = time.monotonic()

    def tell(self, run: ReconciliationRun) -> None:
        now = time.monotonic()
        told = {"phase": run.phase, "expected": run.expected, **reconciliation.summary_of(run)}
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            log.info("reconciliation_progress", run=str(run.pk), **told)
        if now - self._kept_at >= META_SECONDS and (current := get_current_job()):
            self._kept_at = now
            current.meta["reconciliation"] = {"id": str(run.pk), **told}
            current.save_meta()
