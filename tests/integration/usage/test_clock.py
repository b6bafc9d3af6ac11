"""The calendar's corners: year end, leap day, the machine's own zone, a day that nobody was there."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from billing_service.documents import JobRun, ServiceState, week_of, week_start
from billing_service.jobs.schedule import row_of
from billing_service.jobs.tick import catch_up
from billing_service.jobs.weekly_reset import weekly_reset

RESET = row_of("weekly_reset")
# New York, without a file of zones: one hour less from the second Sunday of March to the first of November.
NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"
AUCKLAND = "NZST-12NZDT,M9.5.0,M4.1.0/3"


def at(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "week", "start"),
    [
        (at(2026, 12, 31, 23, 59, 59), "2026-W53", at(2026, 12, 28)),
        (at(2027, 1, 1), "2026-W53", at(2026, 12, 28)),
        (at(2027, 1, 3, 23, 59, 59, 999999), "2026-W53", at(2026, 12, 28)),
        (at(2027, 1, 4), "2027-W01", at(2027, 1, 4)),
        (at(2021, 1, 1), "2020-W53", at(2020, 12, 28)),
        (at(2024, 12, 30), "2025-W01", at(2024, 12, 30)),
        (at(2024, 12, 29, 23, 59, 59), "2024-W52", at(2024, 12, 23)),
        (at(2028, 2, 29, 12), "2028-W09", at(2028, 2, 28)),
        (at(2028, 3, 5, 23, 59, 59), "2028-W09", at(2028, 2, 28)),
        (at(2028, 3, 6), "2028-W10", at(2028, 3, 6)),
    ],
)
def test_the_week_of_a_time(time, week, start):
    assert (week_of(time), week_start(time)) == (week, start)
    elsewhere = time.astimezone(datetime.fromisoformat("2026-01-01T00:00:00-11:00").tzinfo)
    assert (week_of(elsewhere), week_start(elsewhere)) == (week, start)


def test_the_year_ends_in_the_middle_of_a_week(user, clock):
    it = user("free", last_reset_at=at(2026, 12, 28, 1))
    it.use("old year", 900, at(2026, 12, 31, 23, 59, 59))
    clock.at = at(2027, 1, 1, 1)
    assert weekly_reset()["reset"] == 0
    it.use("new year", 300, at(2027, 1, 1))
    assert (it.week("2026-W53").used, it.week("2026-W53").overflow, it.balance) == (1_000, 200, -200)
    clock.at = at(2027, 1, 4, 1)
    assert weekly_reset()["units_settled"] == 200
    assert (it.week("2027-W01").used, it.balance, it.row.last_reset_at) == (200, 0, clock.at)
    it.check()


def test_the_first_week_of_a_year_may_begin_in_the_old_one(user, clock):
    it = user("free", last_reset_at=at(2024, 12, 23, 1))
    clock.at = at(2024, 12, 30, 1)
    assert weekly_reset()["reset"] == 1
    clock.at = at(2025, 1, 1, 1)
    assert weekly_reset()["reset"] == 0
    assert it.week("2025-W01").quota == 1_000
    assert it.week("2024-W01") is None


def test_a_leap_day_is_a_day_like_any(user, clock):
    it = user("free", last_reset_at=at(2028, 2, 28, 1))
    it.use("leap day", 600, at(2028, 2, 29, 12))
    clock.at = at(2028, 2, 29, 1)
    assert weekly_reset()["reset"] == 0
    it.use("day after", 600, at(2028, 3, 1))
    assert (it.week("2028-W09").used, it.balance) == (1_000, -200)
    assert RESET.next_slot(at(2028, 2, 28, 12)) == at(2028, 2, 29, 1)
    assert RESET.next_slot(at(2028, 2, 29, 12)) == at(2028, 3, 1, 1)
    clock.at = at(2028, 3, 6, 1)
    assert weekly_reset()["units_settled"] == 200
    it.check()


def test_a_skipped_monday_is_made_up_for_on_tuesday(user, clock):
    it = user("free", last_reset_at=at(2026, 11, 23, 1))
    it.use("sunday", 1_300, at(2026, 11, 29, 23, 59))
    ServiceState(name="scheduled_since:weekly_reset", value="x", at=at(2026, 11, 1)).save()
    clock.at = at(2026, 12, 1, 12)
    assert catch_up((RESET,), clock.at) == ["weekly_reset"]
    assert catch_up((RESET,), clock.at) == []
    [run] = JobRun.objects(job="weekly_reset")
    assert run.slot == "20261201T0100"
    weekly_reset(slot=run.slot, attempt=1)
    weekly_reset(slot=run.slot, attempt=1)
    week = it.week("2026-W49")
    assert (week.settled, it.balance, it.row.last_reset_at) == (300, 0, clock.at)
    clock.at += timedelta(days=1)
    assert weekly_reset()["reset"] == 0
    it.check()


CHILD = """
import json, sys, time
from datetime import datetime
from bson import ObjectId
from billing_service import create_app, usage
from billing_service.documents import week_of, week_start
from billing_service.jobs.schedule import row_of

app = create_app()
with app.app_context():
    plans = app.extensions["billing"].plans
    for line in sys.stdin:
        order = json.loads(line)
        at = datetime.fromisoformat(order["at"])
        made = usage.record(ObjectId(order["orgId"]), order["key"], 10, plans=plans, now=at, metered=True)
        slot = row_of("weekly_reset").latest_slot(at)
        told = {"zone": time.localtime(at.timestamp()).tm_zone, "week": made.week, "slot": slot.isoformat()}
        asked = {"plans": plans, "now": at, "grace": at - at, "metered": True}
        told["entitled"] = usage.entitlement_of(made.organization, **asked).week
        told["local"] = datetime.fromtimestamp(at.timestamp()).strftime("%G-W%V")
        sys.stdout.write(json.dumps(told | {"start": week_start(at).isoformat()}) + chr(10))
"""


@pytest.mark.parametrize(
    ("zone", "time", "seen_there"),
    [
        # Sunday evening there, Monday here; on the Sundays when the clock is moved there.
        (NEW_YORK, at(2026, 3, 9, 0, 30), "EDT"),
        (NEW_YORK, at(2026, 3, 9, 3, 59), "EDT"),
        (NEW_YORK, at(2026, 11, 2, 0, 30), "EST"),
        (NEW_YORK, at(2026, 11, 2, 4, 59), "EST"),
        # Monday morning there, Sunday here.
        (AUCKLAND, at(2026, 9, 27, 12, 30), "NZDT"),
        (AUCKLAND, at(2026, 4, 5, 12, 30), "NZST"),
    ],
)
def test_the_machines_zone_and_its_daylight_saving_change_nothing(user, clock, environment, zone, time, seen_there):
    it = user("free")
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps({"orgId": str(it.org_id), "key": "k", "at": time.isoformat()}) + "\n",
        env=os.environ | environment | {"TZ": zone},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    told = json.loads(done.stdout)
    assert told["zone"] == seen_there
    # There it is another week, or the test would show nothing.
    assert told["local"] != week_of(time)
    assert (told["week"], told["entitled"]) == (week_of(time), week_of(time))
    assert told["start"] == week_start(time).isoformat()
    assert told["slot"] == RESET.latest_slot(time).isoformat()
    assert datetime.fromisoformat(told["slot"]).hour == 1
    assert it.week(week_of(time)).used == 10


def test_a_reset_from_the_command_line_in_another_zone(user, clock, command_line):
    """`TZ` of the operator's shell: the row is of the week that it is in UTC."""
    it = user("free", last_reset_at=week_start(datetime.now(UTC)) - timedelta(seconds=1))
    beside = user("free", last_reset_at=week_start(datetime.now(UTC)))
    code, printed, _ = command_line("jobs", "run", "weekly-reset", "--json", METER_MODE="true", TZ=AUCKLAND)
    told = json.loads(printed)
    assert (code, told["state"], told["summary"]["reset"]) == (0, "succeeded", 1)
    assert it.week(week_of(datetime.now(UTC))).quota == 1_000
    assert it.row.last_reset_at > beside.row.last_reset_at
    code, printed, _ = command_line("jobs", "run", "weekly-reset")
    assert (code, printed.strip()) == (0, "weekly_reset: succeeded skipped=METER_MODE is false")
