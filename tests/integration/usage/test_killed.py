"""Processes killed at each of their writes, for a record and for the reset: what they leave is completed once."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mongoengine.connection import get_connection

from billing_service.documents import week_of
from billing_service.jobs.weekly_reset import weekly_reset

MORTAL = Path(__file__).parents[1] / "admin" / "mortal.py"
# What is stored before a write is what was stored after the one before it.
WHEN = [True, False] if os.environ.get("BILLING_TESTS") == "long" else [True]
MOST = 40
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def mortal(app, environment):
    """Carries out an order in a process that dies at its n-th write; None: it is dead."""
    child = subprocess.Popen(
        [sys.executable, str(MORTAL)],
        env=os.environ | environment | {"METER_MODE": "true"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def send(at, after, **order):
        child.stdin.write(json.dumps(order | {"at": at, "after": after}) + "\n")
        child.stdin.flush()
        told = json.loads(child.stdout.readline())
        if "killed" in told:
            assert told["killed"] == signal.SIGKILL
            # What a transaction of the dead has locked is let go of after a minute; it need not be waited for.
            get_connection().admin.command("killAllSessions", [])
            return None
        return told

    yield send
    child.stdin.close()
    child.wait(20)
    child.stdout.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("after", WHEN)
def test_a_record_is_made_once(mortal, user, client, token, clock, after):
    """The first use of a week, with debt of the last one to settle, beyond the quota."""
    clock.at = NOW
    for number in range(1, MOST):
        it = user("free")
        it.gets(100, "topup:cs_1")
        it.use("last week", 1_400, NOW - timedelta(days=7))
        body = {"orgId": str(it.org_id), "key": "k1", "units": 900}
        order = {"path": "/api/billing/usage", "method": "POST", "headers": token("service"), "body": body}
        told = mortal(number, after, **order)
        again = client.post("/api/billing/usage", json=body, headers=token("service"))
        assert (again.status_code, again.json["fromExtras"]) == (200, 200), number
        assert told is None or told["answer"] == again.json
        week = it.week(week_of(NOW))
        assert (week.used, week.settled, week.overflow, it.balance) == (1_000, 300, 200, -200), number
        it.check()
        if told:
            assert number > 8
            return
    raise AssertionError(f"it writes more than {MOST} times")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("after", WHEN)
def test_a_reset_is_completed_once(mortal, user, clock, after):
    clock.at = NOW
    for number in range(1, MOST):
        people = [user("free", last_reset_at=NOW - timedelta(days=7)) for _ in range(4)]
        for it in people[:2]:
            it.use("last week", 1_300, NOW - timedelta(days=7))
        told = mortal(number, after, job="billing_service.jobs.weekly_reset:weekly_reset")
        first = told["answer"]["reset"] if told else sum(it.row.last_reset_at >= NOW for it in people)
        assert weekly_reset()["reset"] == 4 - first, number
        for it in people:
            owed = it in people[:2]
            week = it.week(week_of(NOW))
            assert (week.used, week.settled, it.balance) == ((300, 300, 0) if owed else (0, 0, 0)), number
            assert it.row.last_reset_at >= NOW
            it.check()
        if told:
            assert number > 8
            return
    raise AssertionError(f"it writes more than {MOST} times")
