"""The scheduler process: fires what rq-scheduler holds, and keeps the calendar registered there.

rq-scheduler's own `run` ends when Redis does; its parts are called here instead.
"""

import contextlib
import os
import time
import warnings
from collections.abc import Callable
from datetime import datetime

from flask import Flask
from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq_scheduler import Scheduler

from ..documents import STORE_ERRORS
from ..observability import log
from ..runtime import runtime
from . import shutdown
from .schedule import ENTRY, SCHEDULE, Difference, Entry, Row, difference
from .tick import catch_up, tick

INTERVAL_SECONDS = 1
AWAY: tuple[type[Exception], ...] = (RedisError, *STORE_ERRORS)
REPAIR_SECONDS = 60.0


def run(app: Flask) -> None:
    """Fire due entries each second and repair the registration each minute, until SIGTERM. Main thread only."""
    use_utc()
    # rq-scheduler calls its cron library the old way, which that tells on each call.
    warnings.filterwarnings("ignore", category=FutureWarning, module="rq_scheduler")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="rq_scheduler")
    shutdown.listen()
    log.info("scheduler_started", jobs=[row.job for row in SCHEDULE])
    with app.app_context():
        repaired_at = -REPAIR_SECONDS
        while not shutdown.requested():
            if time.monotonic() - repaired_at >= REPAIR_SECONDS and _without_fail(keep_calendar):
                repaired_at = time.monotonic()
            if not _without_fail(fire):
                repaired_at = -REPAIR_SECONDS  # Redis may come back with nothing
            shutdown.wait(INTERVAL_SECONDS)
    log.info("scheduler_stopped")


def use_utc() -> None:
    """Make the process's local time UTC: rq-scheduler reads cron strings in it, whatever it is told."""
    # In the C library's environment only, where tzset reads it.
    os.putenv("TZ", "UTC")
    time.tzset()


def fire() -> None:
    """Enqueue what is due, unless another scheduler is at it. Raises RedisError."""
    scheduler = _scheduler(runtime.redis.client())
    if scheduler.acquire_lock():
        try:
            scheduler.enqueue_jobs()
        finally:
            scheduler.remove_lock()


def keep_calendar() -> None:
    """Register the calendar as it should be, and start what was missed."""
    repair(runtime.redis.client(), SCHEDULE)
    catch_up(SCHEDULE, runtime.clock())


def repair(connection: Redis, rows: tuple[Row, ...]) -> Difference:
    """Make what is registered equal to `rows`; what is right keeps its next time, overdue or not."""
    scheduler, wanted = _scheduler(connection), _wanted(rows)
    differs = compare(connection, rows)
    for key in (*differs.changed, *differs.gone):
        scheduler.cancel(key)
    for key in differs.gone:
        _forget(connection, key)
    for key in (*differs.missing, *differs.changed):
        entry = wanted[key]
        scheduler.cron(
            entry.cron,
            tick,
            args=list(entry.args),
            id=key,
            queue_name=entry.queue,
            timeout=entry.timeout,
            result_ttl=-1,
        )
    if differs != Difference():
        log.info("schedule_repaired", missing=differs.missing, changed=differs.changed, gone=differs.gone)
    return differs


def compare(connection: Redis, rows: tuple[Row, ...]) -> Difference:
    """How what is registered differs from `rows`; writes nothing."""
    found = {key: _registered(connection, key) for key in _registered_ids(_scheduler(connection))}
    return difference(_wanted(rows), found)


def seconds_overdue(connection: Redis, now: datetime) -> float | None:
    """For how long the entry that is due first waits to be fired, negative before its time; None without entries.

    A scheduler that runs fires within a second or two.
    """
    scheduler = _scheduler(connection)
    due = [connection.zscore(scheduler.scheduled_jobs_key, key) for key in _registered_ids(scheduler)]
    times = [at for at in due if at is not None]
    return now.timestamp() - min(times) if times else None


def _wanted(rows: tuple[Row, ...]) -> dict[str, Entry]:
    return {ENTRY + row.job: _entry(row) for row in rows}


def _scheduler(connection: Redis) -> Scheduler:
    return Scheduler("admin", connection=connection, interval=INTERVAL_SECONDS)


def _entry(row: Row) -> Entry:
    function = f"{tick.__module__}.{tick.__name__}"
    return Entry(row.cron, function, (row.job,), tick.queue, tick.timeout)  # type: ignore[attr-defined]


def _registered_ids(scheduler: Scheduler) -> list[str]:
    held = scheduler.connection.zrange(scheduler.scheduled_jobs_key, 0, -1)
    return [key for each in held if (key := each.decode()).startswith(ENTRY)]


def _registered(connection: Redis, key: str) -> Entry | None:
    try:
        job = Job.fetch(key, connection=connection)
        return Entry(
            job.meta["cron_string"], job.func_name or "", tuple(job.args), job.origin or "", int(job.timeout or 0)
        )
    except Exception as error:  # of another version, half expired or not readable: it is replaced
        log.warning("schedule_entry_unreadable", entry=key, error=type(error).__name__)
        return None


def _forget(connection: Redis, key: str) -> None:
    with contextlib.suppress(NoSuchJobError):
        Job.fetch(key, connection=connection).delete()


def _without_fail(part: Callable[[], None]) -> bool:
    try:
        part()
    except AWAY as error:
        log.warning("scheduler_waits", part=part.__name__, error=type(error).__name__)
        return False
    return True
