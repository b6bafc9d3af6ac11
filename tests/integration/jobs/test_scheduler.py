"""The scheduler: what it registers, what it repairs, and two of them at once."""

import signal
import time
from datetime import UTC, datetime

import pytest
from rq.job import Job
from rq_scheduler import Scheduler

from billing_service.documents import JobRun
from billing_service.jobs.schedule import SCHEDULE, Difference, Row
from billing_service.jobs.scheduler import fire, repair

# rq-scheduler 0.14.0 calls its cron library and the standard library the old way (rq_scheduler/utils.py).
pytestmark = [
    pytest.mark.filterwarnings("ignore:Version 0.22.0:FutureWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning"),
]

SUNDAYS = next(row for row in SCHEDULE if row.job == "reconcile")
HELD = "rq:scheduler:scheduled_jobs"


def test_it_registers_and_then_leaves_alone(app, runtime):
    connection = runtime.redis.client()
    wanted = SCHEDULE
    assert repair(connection, wanted).missing == tuple(sorted(f"cron-{row.job}" for row in wanted))
    at = datetime.fromtimestamp(connection.zscore(HELD, "cron-reconcile"), UTC)
    assert (at.weekday(), at.hour, at.minute) == (6, 3, 0)
    assert repair(connection, SCHEDULE) == Difference()


def test_an_overdue_entry_is_not_thrown_away(app, runtime):
    connection = runtime.redis.client()
    repair(connection, (SUNDAYS,))
    connection.zadd(HELD, {"cron-reconcile": 1000})
    assert repair(connection, (SUNDAYS,)) == Difference()
    assert connection.zscore(HELD, "cron-reconcile") == 1000


def test_it_replaces_removes_and_leaves_the_rest(app, runtime):
    connection = runtime.redis.client()
    repair(connection, (SUNDAYS, Row("old", "* * * * *", "x.old")))
    Scheduler("admin", connection=connection).cron("* * * * *", "x.foreign", id="somebody-elses")
    connection.delete("rq:job:cron-reconcile")
    differs = repair(connection, (SUNDAYS,))
    assert (differs.changed, differs.gone) == (("cron-reconcile",), ("cron-old",))
    assert connection.zscore(HELD, "cron-old") is None
    assert connection.zscore(HELD, "somebody-elses") is not None
    assert Job.fetch("cron-reconcile", connection=connection).meta["cron_string"] == "0 3 * * 0"
    changed = Row("reconcile", "0 4 * * 0", "somewhere.reconcile")
    assert repair(connection, (changed,)).changed == ("cron-reconcile",)


def test_it_fires_what_is_due_and_keeps_it_registered(app, runtime):
    connection = runtime.redis.client()
    repair(connection, SCHEDULE)
    connection.zadd(HELD, {"cron-sweep": time.time() - 5})
    fire()
    assert connection.lrange("rq:queue:admin", 0, -1) == [b"cron-sweep"]
    assert connection.zscore(HELD, "cron-sweep") > time.time() - 1
    fire()
    assert connection.llen("rq:queue:admin") == 1


def test_two_schedulers_and_two_workers_run_each_slot_once(app, runtime, process, eventually):
    connection = runtime.redis.client()
    schedulers = [process("scheduler") for _ in range(2)]
    workers = [process("worker") for _ in range(2)]
    eventually(lambda: connection.zscore(HELD, "cron-sweep"))
    eventually(lambda: all("_started" in each.log.read_text() for each in (*schedulers, *workers)))
    connection.zadd(HELD, {"cron-sweep": time.time() - 1})
    eventually(lambda: JobRun.objects(job="sweep", state="succeeded").count())
    for each in JobRun.objects(job="sweep"):
        assert each.attempt == 1
    slots = [each.slot for each in JobRun.objects(job="sweep")]
    assert len(slots) == len(set(slots))
    for each in (*schedulers, *workers):
        each.send_signal(signal.SIGTERM)
    assert [each.wait(10) for each in (*schedulers, *workers)] == [0] * 4


def test_it_survives_redis_and_registers_again(app, runtime, process, eventually, servers):
    servers.redis.kill()
    child = process("scheduler")
    eventually(lambda: "scheduler_waits" in child.log.read_text())
    servers.redis.start()
    eventually(lambda: runtime.redis.client().zscore(HELD, "cron-sweep"))
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 0
