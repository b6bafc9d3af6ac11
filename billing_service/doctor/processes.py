"""Workers and scheduler, the calendar that Redis holds, and the jobs that should have run."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from ..documents import JobRun, ServiceState
from ..jobs.queues import QUEUES, find_workers
from ..jobs.runs import slot_name
from ..jobs.schedule import SCHEDULE, Row
from ..jobs.scheduler import compare, seconds_overdue
from ..jobs.tick import SCHEDULED_SINCE
from ..runtime import Runtime
from .findings import Seen, fine

# A scheduler fires each second; one that was killed in the middle blocks the others for some seconds.
SILENT_SECONDS = 60
# A worker may be busy with a slice or two.
GRACE = timedelta(minutes=15)
# What runs each minute and is not caught up.
MINUTES = timedelta(minutes=5)


def look_at_workers(site: Runtime) -> Iterator[Seen]:
    """Who serves which queue."""
    workers = find_workers(site.redis.client())
    if not workers:
        yield Seen("no_worker", "No worker is running.")
        return
    unserved = [queue for queue in QUEUES if not any(queue in queues for _, queues in workers)]
    for queue in unserved:
        yield Seen("queue_unserved", f"No worker serves the queue {queue}.")
    if not unserved:
        yield fine(f"{len(workers)} worker(s) serve all queues.")


def look_at_scheduler(site: Runtime) -> Iterator[Seen]:
    """A scheduler that runs leaves nothing overdue, and nothing unregistered."""
    connection = site.redis.client()
    overdue, differs = seconds_overdue(connection, site.clock()), compare(connection, SCHEDULE)
    if overdue is None:
        yield Seen("scheduler_not_running", "Redis holds no calendar.")
        return
    if overdue > SILENT_SECONDS:
        yield Seen("scheduler_not_running", f"What was due {overdue:.0f} s ago was not fired.")
    named = {"missing": differs.missing, "different": differs.changed, "not ours any more": differs.gone}
    words = "; ".join(f"{what}: {', '.join(ids)}" for what, ids in named.items() if ids)
    if words:
        yield Seen("schedule_differs", f"The calendar in Redis: {words}.")
    elif overdue <= SILENT_SECONDS:
        yield fine(f"The scheduler is running, with all {len(SCHEDULE)} jobs of the calendar.")


def look_at_jobs(site: Runtime) -> Iterator[Seen]:
    """Whether the last slot of each job of the calendar was run."""
    problems = [seen for row in SCHEDULE if (seen := _of_job(row, site.clock()))]
    yield from problems
    if not problems:
        yield fine("No job of the calendar is overdue.")


def _of_job(row: Row, now: datetime) -> Seen | None:
    return _slot(row, now) if row.catch_up else _each_minute(row, now)


def _slot(row: Row, now: datetime) -> Seen | None:
    slot = row.latest_slot(now - GRACE)
    since = ServiceState.objects(name=SCHEDULED_SINCE + row.job).first()
    if since is None or slot <= since.at:
        return None  # nobody promised it
    run = JobRun.objects(job=row.job, slot=slot_name(slot)).first()
    if run is None:
        return Seen("job_overdue", f"{row.job} was due at {slot:%Y-%m-%dT%H:%MZ} and was not begun.")
    if run.state == "given_up":
        return Seen("job_failed", f"{row.job} of {slot:%Y-%m-%dT%H:%MZ} failed: {run.error or 'its worker died'}.")
    if run.state != "succeeded" and run.lease_until < now - GRACE:
        return Seen("job_overdue", f"{row.job} of {slot:%Y-%m-%dT%H:%MZ} is {run.state} and stands still.")
    return None


def _each_minute(row: Row, now: datetime) -> Seen | None:
    last = JobRun.objects(job=row.job).order_by("-slot").first()
    if last is None or now - last.claimed_at < MINUTES:
        return None
    return Seen("job_overdue", f"{row.job} began last at {last.claimed_at:%Y-%m-%dT%H:%M:%SZ}; it is due each minute.")
