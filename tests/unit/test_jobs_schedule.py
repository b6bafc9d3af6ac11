"""The calendar: which slot is due, and what differs between it and what is registered."""

import importlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from crontab import CronTab

from billing_service.jobs.queues import QUEUES
from billing_service.jobs.schedule import SCHEDULE, Difference, Entry, Row, difference, row_of

SUNDAYS = Row("reconcile", "0 3 * * 0", "somewhere.reconcile")
SWEEP = Entry("* * * * *", "billing_service.jobs.tick.tick", ("sweep",), "admin", 30)


@pytest.mark.parametrize(
    ("now", "slot"),
    [
        (datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC), datetime(2026, 11, 22, 3, 0, tzinfo=UTC)),
        (datetime(2026, 11, 22, 3, 0, 0, 999_000, tzinfo=UTC), datetime(2026, 11, 22, 3, 0, tzinfo=UTC)),
        (datetime(2026, 11, 22, 2, 59, 59, 999_000, tzinfo=UTC), datetime(2026, 11, 15, 3, 0, tzinfo=UTC)),
        (datetime(2026, 11, 28, 23, 59, tzinfo=UTC), datetime(2026, 11, 22, 3, 0, tzinfo=UTC)),
        (datetime(2026, 11, 22, 4, 30, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 11, 15, 3, 0, tzinfo=UTC)),
    ],
)
def test_the_latest_slot_is_in_utc(now, slot):
    assert SUNDAYS.latest_slot(now) == slot


def test_nothing_differs():
    assert difference({"cron-sweep": SWEEP}, {"cron-sweep": SWEEP}) == Difference()


def test_what_is_missing_changed_and_gone():
    other = Entry("*/5 * * * *", SWEEP.function, SWEEP.args, SWEEP.queue, SWEEP.timeout)
    wanted = {"cron-new": SWEEP, "cron-changed": SWEEP, "cron-unreadable": SWEEP, "cron-same": SWEEP}
    found = {"cron-changed": other, "cron-unreadable": None, "cron-same": SWEEP, "cron-old": SWEEP}
    assert difference(wanted, found) == Difference(
        missing=("cron-new",), changed=("cron-changed", "cron-unreadable"), gone=("cron-old",)
    )


def test_what_is_not_ours_is_left():
    assert difference({}, {"wakeup-1795382115": SWEEP, "somebody-elses": None}) == Difference()


@pytest.mark.parametrize("row", SCHEDULE, ids=lambda row: row.job)
def test_every_row_names_a_job(row):
    module, name = row.function.rsplit(".", 1)
    function = getattr(importlib.import_module(module), name)
    assert function.__name__ == row.job
    assert function.queue in QUEUES
    assert function.timeout > 0
    assert CronTab(row.cron)
    assert row_of(row.job) is row


def test_jobs_have_one_row_each():
    assert len({row.job for row in SCHEDULE}) == len(SCHEDULE)
    assert row_of("nothing") is None


NEXT_SUNDAY = """
import warnings
from billing_service.jobs.scheduler import use_utc
from rq_scheduler.utils import get_next_scheduled_time
warnings.simplefilter("ignore")
use_utc()
print(get_next_scheduled_time("0 3 * * 0").strftime("%w %H:%M %Z"))
"""


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
def test_cron_strings_are_read_in_utc_wherever_the_process_runs(zone):
    printed = subprocess.run(
        [sys.executable, "-c", NEXT_SUNDAY], env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "0 03:00 UTC"
