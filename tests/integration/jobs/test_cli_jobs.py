"""billing-service jobs: what ran, what is due, and running one now."""

import json
from datetime import UTC, datetime

import pytest

from billing_service.documents import JobRun
from billing_service.jobs import runs
from billing_service.jobs.schedule import SCHEDULE, row_of


@pytest.fixture
def run(command_line):
    return lambda *arguments, **changes: command_line("jobs", *arguments, **changes)


def test_it_lists_each_job_with_its_last_run(run, app):
    runs.claim("dunning", "20261125T0300")
    JobRun.objects(job="dunning").update_one(set__state="failed", set__error="ValueError: no\x1b[31m sum")
    code, printed, _ = run("list", "--json")
    found = {each["job"]: each for each in json.loads(printed)["jobs"]}
    assert code == 0
    assert set(found) == {row.job for row in SCHEDULE}
    assert (found["dunning"]["last"]["state"], found["dunning"]["cron"]) == ("failed", "0 3 * * *")
    assert found["sweep"]["last"] is None
    assert found["dunning"]["nextAt"].endswith("T03:00:00Z")
    code, words, _ = run("list")
    assert "failed" in words
    assert "never ran" in words
    assert "\x1b" not in words


def test_it_runs_a_job_now(run, app):
    code, printed, _ = run("run", "dunning", "--json")
    told = json.loads(printed)
    assert (code, told["state"], told["summary"]) == (0, "succeeded", {"suspended": 0, "kept": 0, "failed": 0})
    assert JobRun.objects(job="dunning", slot=told["slot"]).first().state == "succeeded"


def test_it_says_when_stripe_is_away(run, billed, sandbox, runtime):
    from billing_service.documents import Subscription

    it = billed("pro")
    Subscription.objects(organization=it.org_id).update_one(
        set__status="past_due", set__past_due_since=datetime(2026, 1, 1, tzinfo=UTC)
    )
    sandbox.arm("drop", times=None)
    code, printed, _ = run("run", "dunning")
    assert (code, "claimed" in printed) == (1, True)
    assert it.row.suspended_at is None


def test_an_unknown_job_is_refused_by_name(run):
    code, _, said = run("run", "dunnning")
    assert code == 2
    assert "dunning" in said


def test_the_next_slot_is_after_now():
    row = row_of("dunning")
    assert row.next_slot(datetime(2026, 11, 25, 3, tzinfo=UTC)) == datetime(2026, 11, 26, 3, tzinfo=UTC)
    assert row.next_slot(datetime(2028, 2, 28, 12, 0, 1, tzinfo=UTC)) == datetime(2028, 2, 29, 3, tzinfo=UTC)
