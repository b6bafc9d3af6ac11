"""Sunday, 03:00 UTC, with a moved clock: whatever happens to processes and to Redis around it, there is one run."""

import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from rq import Queue

from billing_service.documents import JobRun, ReconciliationRun, ServiceState
from billing_service.jobs import runs
from billing_service.jobs.reconcile import reconcile
from billing_service.jobs.schedule import SCHEDULE, Row, row_of
from billing_service.jobs.scheduler import fire, keep_calendar, repair
from billing_service.jobs.sweep import sweep
from billing_service.jobs.tick import tick

# rq-scheduler 0.14.0 calls its cron library and the standard library the old way (rq_scheduler/utils.py).
pytestmark = [
    pytest.mark.filterwarnings("ignore:Version 0.22.0:FutureWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning"),
]

SUNDAY = datetime(2026, 11, 29, 3, tzinfo=UTC)
SLOT = "20261129T0300"
HELD = "rq:scheduler:scheduled_jobs"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def since_monday(app, runtime, at):
    """The scheduler has kept the calendar since Monday; all that was due before Sunday is done."""
    at(SUNDAY - timedelta(days=6))
    keep_calendar()
    at(SUNDAY - MINUTE)
    keep_calendar()
    JobRun.objects().update(set__state="succeeded")
    for queue in ("admin", "batch"):
        Queue(queue, connection=runtime.redis.client()).empty()


def slots():
    return [(each.slot, each.attempt) for each in JobRun.objects(job="reconcile").order_by("slot")]


def fires(runtime, name="reconcile"):
    """Let the cron entry be due, let a scheduler look, and carry out the tick as a worker does."""
    client = runtime.redis.client()
    client.zadd(HELD, {f"cron-{name}": time.time() - 60})
    fire()
    assert f"cron-{name}".encode() in client.lrange("rq:queue:admin", 0, -1)
    return tick(name)


def test_before_its_time_it_is_not_due(since_monday, at):
    keep_calendar()
    sweep()
    assert slots() == []


@pytest.mark.parametrize("late", [timedelta(seconds=1), MINUTE, timedelta(hours=5)])
def test_it_is_fired_once_however_late(since_monday, at, runtime, late):
    at(SUNDAY + late)
    assert fires(runtime) is True
    assert fires(runtime) is False
    keep_calendar()
    assert slots() == [(SLOT, 1)]


def test_a_restart_at_one_past_three_does_not_skip_it(since_monday, at, runtime):
    """The scheduler was away from before three; its entry in Redis is overdue, and stays that when it comes back."""
    client = runtime.redis.client()
    overdue = time.time() - 60
    client.zadd(HELD, {"cron-reconcile": overdue})
    at(SUNDAY + MINUTE)
    repair(client, SCHEDULE)
    assert client.zscore(HELD, "cron-reconcile") == pytest.approx(overdue, abs=1)
    fire()
    assert tick("reconcile") is True
    assert slots() == [(SLOT, 1)]


def test_a_restart_that_finds_redis_empty_does_not_skip_it(since_monday, at, runtime):
    """What is registered anew is next Sunday's: this one is caught up."""
    client = runtime.redis.client()
    client.flushall()
    at(SUNDAY + MINUTE)
    keep_calendar()
    assert client.zscore(HELD, "cron-reconcile") > time.time()
    assert slots() == [(SLOT, 1)]
    keep_calendar()
    assert slots() == [(SLOT, 1)]


@pytest.mark.parametrize("days", [1, 3, 6])
def test_a_missed_sunday_is_caught_up_once_before_the_next(since_monday, at, days):
    at(SUNDAY + timedelta(days=days))
    for _ in range(2):
        keep_calendar()
    assert slots() == [(SLOT, 1)]


def test_of_several_missed_sundays_one_is_run(since_monday, at):
    at(SUNDAY + timedelta(days=20))
    keep_calendar()
    assert slots() == [("20261213T0300", 1)]


def test_the_next_sunday_has_a_run_of_its_own(since_monday, at, runtime):
    at(SUNDAY)
    fires(runtime)
    JobRun.objects().update(set__state="succeeded")
    at(SUNDAY + timedelta(days=7, seconds=2))
    assert fires(runtime) is True
    assert slots() == [(SLOT, 1), ("20261206T0300", 1)]


def test_a_start_that_failed_is_tried_three_times(since_monday, at, runtime):
    at(SUNDAY)
    fires(runtime)
    for attempt in (2, 3):
        JobRun.objects(job="reconcile").update(set__state="failed")
        sweep()
        assert slots() == [(SLOT, attempt)]
    JobRun.objects(job="reconcile").update(set__state="failed")
    sweep()
    assert slots() == [(SLOT, 3)]
    # Taken up, it is this slot's run.
    JobRun.objects(job="reconcile").update(set__state="claimed")
    reconcile(slot=SLOT, attempt=3)
    assert ReconciliationRun.objects.get().slot == SLOT


def test_redis_losing_everything_after_the_claim_does_not_end_it(since_monday, at, runtime):
    """The job was enqueued and is gone: the claim has two minutes to start, then the sweep enqueues it anew."""
    at(SUNDAY)
    fires(runtime)
    runtime.redis.client().flushall()
    JobRun.objects(job="reconcile").update(set__lease_until=SUNDAY - timedelta(days=400))
    keep_calendar()
    sweep()
    assert slots() == [(SLOT, 2)]
    names = [each.func_name.rpartition(".")[2] for each in Queue("batch", connection=runtime.redis.client()).jobs]
    assert "reconcile" in names


def test_a_changed_time_replaces_the_old_one(since_monday, runtime):
    client = runtime.redis.client()
    changed = Row("reconcile", "30 4 * * 0", row_of("reconcile").function)
    others = tuple(row for row in SCHEDULE if row.job != "reconcile")
    assert repair(client, (*others, changed)).changed == ("cron-reconcile",)
    due = datetime.fromtimestamp(client.zscore(HELD, "cron-reconcile"), UTC)
    assert (due.weekday(), due.hour, due.minute) == (6, 4, 30)
    held = [each for each in client.zrange(HELD, 0, -1) if each.endswith(b"reconcile")]
    assert held == [b"cron-reconcile"]
    assert changed.latest_slot(SUNDAY + timedelta(hours=2)) == SUNDAY + timedelta(minutes=90)


def test_an_installation_of_sunday_noon_waits_for_the_next(app, at):
    at(SUNDAY + timedelta(hours=9))
    keep_calendar()
    assert slots() == []
    assert ServiceState.objects(name="scheduled_since:reconcile").get().at == SUNDAY + timedelta(hours=9)
    at(SUNDAY + timedelta(days=7, minutes=1))
    keep_calendar()
    assert slots() == [("20261206T0300", 1)]


def test_a_scheduler_killed_before_three_and_started_after_it(app, runtime, process, eventually):
    """The processes themselves: nobody was there at the time, which was a minute ago."""
    ServiceState(name="scheduled_since:reconcile", value="x", at=datetime(2026, 1, 1, tzinfo=UTC)).save()
    first = process("scheduler")
    client = runtime.redis.client()
    eventually(lambda: client.zscore(HELD, "cron-reconcile"))
    slot = runs.slot_name(row_of("reconcile").latest_slot(runtime.clock()))
    eventually(lambda: JobRun.objects(job="reconcile", slot=slot).count())
    first.send_signal(signal.SIGKILL)
    first.wait()
    # As if that had not been, and the time had come while it was gone.
    JobRun.objects(job="reconcile").delete()
    client.delete("rq:queue:batch")
    client.zadd(HELD, {"cron-reconcile": time.time() - 60})
    second, worker = process("scheduler"), process("worker", RECONCILE_CONFIRM_SECONDS="0")
    eventually(lambda: ReconciliationRun.objects(slot=slot, state="completed").count(), 60)
    assert slots() == [(slot, 1)]
    for each in (second, worker):
        each.send_signal(signal.SIGTERM)
        assert each.wait(15) == 0
