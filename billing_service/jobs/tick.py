"""The tiny job behind each cron entry: it claims the slot in MongoDB and enqueues the real job."""

from datetime import datetime, timedelta

from redis.exceptions import RedisError
from rq.utils import import_attribute

from ..documents import STORE_ERRORS, JobRun, ServiceState, database_now
from ..observability import log
from ..runtime import runtime
from . import runs
from .queues import enqueue_run, job
from .schedule import Row, row_of

# The rows of what runs each minute would soon outnumber all others.
KEPT_SHORTLY = timedelta(days=1)
SCHEDULED_SINCE = "scheduled_since:"


@job("admin", timeout=30)
def tick(name: str) -> bool:
    """Run the latest slot of a periodic job, unless somebody has it; whether it was claimed here."""
    row = row_of(name)
    if row is None:
        return False
    try:
        return start_slot(row, row.latest_slot(runtime.clock()))
    except STORE_ERRORS as error:
        # Not a failed job: the next tick, or the catch-up, claims the slot.
        log.warning("tick_without_store", job_name=name, error=type(error).__name__)
        return False


def start_slot(row: Row, slot: datetime) -> bool:
    """Claim a slot and enqueue its job; False if another process has claimed it."""
    name = runs.slot_name(slot)
    if not runs.claim(row.job, name, kept=runs.KEPT if row.catch_up else KEPT_SHORTLY):
        return False
    try:
        enqueue_run(import_attribute(row.function), name, 1)
    except RedisError as error:
        # The claim has two minutes to start; then the sweep takes it up.
        log.warning("slot_not_enqueued", job_name=row.job, slot=name, error=type(error).__name__)
    return True


def run_here(row: Row, slot: str) -> JobRun:
    """Claim a slot and carry out its parts one after the other; returns the run at its end, failure or pause."""
    runs.claim(row.job, slot)
    while True:
        run = JobRun.objects(job=row.job, slot=slot).first()
        if run.state != "claimed" or run.lease_until - database_now() > runs.START_WITHIN:
            return run
        try:
            import_attribute(row.function)(slot=slot, attempt=run.attempt, part=run.part or 0, enqueue_next=False)
        except Exception as error:  # the run tells of it
            log.error("job_failed", job_name=row.job, slot=slot, exc_info=error)


def catch_up(rows: tuple[Row, ...], now: datetime) -> list[str]:
    """Start the latest slot of each row that nobody ran, once; returns the jobs started.

    A slot from before the job was first scheduled here was not missed.
    """
    started = []
    for row in rows:
        if not row.catch_up:
            continue
        slot = row.latest_slot(now)
        if slot <= _scheduled_since(row, now) or JobRun.objects(job=row.job, slot=runs.slot_name(slot)).first():
            continue
        if start_slot(row, slot):
            log.warning("missed_slot_caught_up", job_name=row.job, slot=runs.slot_name(slot))
            started.append(row.job)
    return started


def _scheduled_since(row: Row, now: datetime) -> datetime:
    name = SCHEDULED_SINCE + row.job
    ServiceState.objects(name=name).update_one(upsert=True, set_on_insert__value=row.cron, set_on_insert__at=now)
    return ServiceState.objects(name=name).first().at
