"""Waking a worker for due events: cheaply, never in the way, and never twice while one wake-up is pending."""

import math
import time
from datetime import UTC, datetime, timedelta

from bson import ObjectId
from redis.exceptions import RedisError
from rq import Queue
from rq_scheduler import Scheduler

from .. import webhooks
from ..documents import Subscription
from ..observability import log
from ..runtime import runtime

PENDING = "billing:wakeup_pending"
# A wake-up that was lost with its worker must not silence the next ones for long.
PENDING_SECONDS = 5
BEHIND_SECONDS = 60
SILENCE_SECONDS = 5.0
DISPATCH = "billing_service.jobs.dispatch.dispatch"
VERIFY = "billing_service.jobs.verify.verify"
DISPATCH_TIMEOUT = 120
OUTBOX = "billing_service.jobs.outbox.send_outbox"
OUTBOX_PENDING = "billing:outbox_pending"
BATCHES = "billing_service.jobs.replay_batches.replay_batches"
BATCHES_PENDING = "billing:batches_pending"
RECONCILIATION = "billing_service.jobs.reconcile.reconcile_on"
RECONCILIATION_PENDING = "billing:reconciliation_pending"
RESULT_SECONDS = 60
FAILURE_SECONDS = 3600


class Silence:
    """Redis failed a moment ago: nobody waits for it again for a while."""

    def __init__(self) -> None:
        self._until = 0.0

    def holds(self) -> bool:
        return time.monotonic() < self._until

    def begin(self) -> None:
        self._until = time.monotonic() + SILENCE_SECONDS

    def end(self) -> None:
        self._until = 0.0


silence = Silence()


def wake() -> bool:
    """Have due events handled soon; False if Redis could not be told (the sweep finds them then)."""
    return not silence.holds() and _enqueue("webhooks", PENDING_SECONDS)


def wake_behind_others() -> bool:
    """Have a backlog handled by whoever is idle, or after all that waits on any queue now.

    On the first queue it would starve admins and batches as long as it lasts; held as pending, the arrivals
    meanwhile do not wake anybody either.
    """
    return not silence.holds() and _enqueue("batch", BEHIND_SECONDS)


def wake_outbox() -> bool:
    """Have stored signals sent soon, as cheaply as `wake`."""
    return not silence.holds() and _enqueue("admin", PENDING_SECONDS, OUTBOX, OUTBOX_PENDING)


def wake_batches() -> bool:
    """Have a batch of replays carried on by whoever is idle; False if Redis could not be told (the sweep does)."""
    return not silence.holds() and _enqueue("batch", BEHIND_SECONDS, BATCHES, BATCHES_PENDING)


def wake_batches_in(seconds: float) -> bool:
    """Have a batch of replays carried on that can be in so many seconds."""
    return _enqueue_in(seconds, "batch", BATCHES, "batches")


def wake_in(seconds: float) -> bool:
    """Have events handled that are due in so many seconds."""
    return _enqueue_in(seconds, "webhooks", DISPATCH, "wakeup")


def wake_verify_in(seconds: float) -> bool:
    """Have rows looked at once more that are due in so many seconds."""
    return _enqueue_in(seconds, "webhooks", VERIFY, "verify")


def wake_outbox_in(seconds: float) -> bool:
    """Have signals sent that are due in so many seconds."""
    return _enqueue_in(seconds, "admin", OUTBOX, "outbox")


def wake_reconciliation() -> bool:
    """Have the active reconciliation gone on with, behind the batches that wait."""
    return not silence.holds() and _enqueue("batch", PENDING_SECONDS, RECONCILIATION, RECONCILIATION_PENDING)


def wake_reconciliation_in(seconds: float) -> bool:
    """Have the active reconciliation gone on with in so many seconds."""
    return _enqueue_in(seconds, "batch", RECONCILIATION, "reconcile")


def others_wait() -> bool:
    """Whether a job waits that is served before the batches; False if Redis does not say."""
    try:
        client = runtime.redis.quick()
        return any(Queue(name, connection=client).count for name in ("webhooks", "admin"))
    except RedisError as error:
        log.warning("queues_not_read", error=type(error).__name__)
        return False


def _enqueue_in(seconds: float, queue: str, function: str, name: str) -> bool:
    """Through rq-scheduler, which runs anyway; RQ's own `enqueue_at` would need a scheduler in each worker. One
    entry per second serves all that is due in that second.
    """
    at = datetime.fromtimestamp(math.ceil(time.time() + seconds), UTC)
    try:
        scheduler = Scheduler(queue, connection=runtime.redis.client())
        scheduler.enqueue_at(
            at,
            function,
            job_id=f"{name}-{int(at.timestamp())}",
            timeout=DISPATCH_TIMEOUT,
            job_result_ttl=RESULT_SECONDS,
            job_ttl=int(seconds) + int(timedelta(hours=1).total_seconds()),
            job_description=function.rpartition(".")[2],
        )
    except RedisError as error:
        log.warning("wakeup_not_scheduled", error=type(error).__name__)
        return False
    return True


def begun(pending: str = PENDING) -> None:
    """A dispatch starts: whatever is stored from here on needs a wake-up of its own."""
    try:
        runtime.redis.quick().delete(pending)
    except RedisError as error:
        log.warning("wakeup_not_cleared", error=type(error).__name__)


def _enqueue(queue: str, pending_seconds: int, function: str = DISPATCH, pending: str = PENDING) -> bool:
    try:
        client = runtime.redis.quick()
        if not client.set(pending, queue, nx=True, ex=pending_seconds):
            return True
        Queue(queue, connection=client).enqueue_call(
            function,
            timeout=DISPATCH_TIMEOUT,
            result_ttl=RESULT_SECONDS,
            failure_ttl=FAILURE_SECONDS,
            description=function.rpartition(".")[2],
        )
    except RedisError as error:
        silence.begin()
        log.warning("wakeup_failed", error=type(error).__name__)
        return False
    silence.end()
    return True


def wake_attached(org_id: ObjectId) -> None:
    """Have the events handled that named nobody and whose subscription or customer is this organization's now."""
    row = Subscription.objects(organization=org_id).only("stripe_customer_id", "stripe_subscription_id").first()
    if row and webhooks.wake_attached(
        org_id, subscriptions=[row.stripe_subscription_id], customers=[row.stripe_customer_id]
    ):
        wake()
