"""Each minute: whatever should have been woken and was not, for whatever reason."""

from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError
from rq import Queue
from rq.registry import clean_registries
from rq.utils import import_attribute
from rq.worker_registration import clean_worker_registry

from .. import monitoring, outbox, reconciliation, refunds
from ..documents import database_now
from ..observability import log
from ..operations import settle_lapsed
from ..runtime import runtime
from ..subscriptions import follow_up_cancels, lift_expired_overrides, verify_due
from ..webhooks import batches, ledger, pauses
from ..webhooks.failures import message_of
from . import runs, wakeups
from .queues import QUEUES, enqueue_run, job
from .schedule import SCHEDULE


@job("admin", timeout=55)
def sweep() -> dict[str, Any]:
    """Wake, verify, follow up, take up again; one part that fails does not keep the others from running."""
    found = {name: _step(name, part) for name, part in PARTS.items()}
    log.info("swept", **found)
    return found


def _wake_due() -> int:
    due = ledger.count_due()
    if due:
        wakeups.wake()
    return due


def _verify() -> int:
    with runtime.stripe.background():
        return verify_due(stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())


def _follow_up_cancels() -> int:
    with runtime.stripe.background():
        return follow_up_cancels(stripe=runtime.stripe, plans=runtime.plans, clock=runtime.clock)


def _follow_up_refunds() -> int:
    with runtime.stripe.background():
        return refunds.follow_up_refunds(stripe=runtime.stripe, clock=runtime.clock)


def _settle_operations() -> int:
    return settle_lapsed(clock=runtime.clock)


def _lift_overrides() -> int:
    return lift_expired_overrides(plans=runtime.plans, now=runtime.clock())


def _reopen_findings() -> int:
    return reconciliation.reopen_lapsed(runtime.clock())


def _go_on_reconciling() -> int:
    reconciliation.mark_abandoned()
    reconciliation.repeat_failed(runtime.clock())
    return int(reconciliation.is_due(runtime.clock()) and wakeups.wake_reconciliation())


def _wake_outbox() -> int:
    due = outbox.count_due()
    if due:
        wakeups.wake_outbox()
    return due


def _wake_batches() -> int:
    due = batches.count_due()
    if due:
        wakeups.wake_batches()
    return due


def _warn_of_pauses() -> int:
    return pauses.warn_of_long_pauses(runtime.clock())


def _check_conditions() -> int:
    now = runtime.clock()
    due = {row.job: row.latest_slot(now) for row in SCHEDULE if row.catch_up}
    return monitoring.check(monitoring.Watch(now=database_now(), stripe=runtime.stripe, due=due))


def _take_up_runs() -> int:
    repeated = {row.job: row for row in SCHEDULE if row.catch_up}
    runs.abandon(frozenset(row.job for row in SCHEDULE if not row.catch_up))
    lost = runs.take_up_lost(frozenset(repeated))
    for run in lost:
        log.warning("job_run_taken_up", job_name=run.job, slot=run.slot, attempt=run.attempt)
        enqueue_run(import_attribute(repeated[run.job].function), run.slot, run.attempt, run.part or 0)
    return len(lost)


def _clean_registries() -> int:
    # A killed worker's jobs stay "started" until somebody looks; RQ's workers look only when idle.
    for name in QUEUES:
        queue = Queue(name, connection=runtime.redis.client())
        clean_registries(queue)
        clean_worker_registry(queue)
    return len(QUEUES)


PARTS: dict[str, Callable[[], int]] = {
    "leases_returned": ledger.return_expired,
    "events_due": _wake_due,
    "verified": _verify,
    "cancels_settled": _follow_up_cancels,
    "refunds_settled": _follow_up_refunds,
    "operations_settled": _settle_operations,
    "overrides_lifted": _lift_overrides,
    "findings_reopened": _reopen_findings,
    "pauses_warned_of": _warn_of_pauses,
    "conditions_changed": _check_conditions,
    "signals_due": _wake_outbox,
    "batches_due": _wake_batches,
    "runs_taken_up": _take_up_runs,
    "reconciliations_due": _go_on_reconciling,
    "queues_cleaned": _clean_registries,
}


def _step(name: str, part: Callable[[], int]) -> int | str:
    try:
        return part()
    except RedisError as error:
        log.warning("sweep_part_failed", part=name, error=type(error).__name__)
        return type(error).__name__
    except Exception as error:
        log.error("sweep_part_failed", part=name, exc_info=error)
        return f"{type(error).__name__}: {message_of(error)}"
