"""Dunning: whoever is past due for too long loses the plan, after a look at Stripe, and gets it back by paying."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from mongoengine.connection import get_db

from billing_service import subscriptions
from billing_service.documents import JobRun, Organization, OutboxSignal, Subscription, database_now
from billing_service.jobs import dunning as module
from billing_service.jobs import runs
from billing_service.jobs.dunning import dunning
from billing_service.jobs.schedule import SCHEDULE
from billing_service.jobs.sweep import sweep
from billing_service.subscriptions import Dunned, find_overdue, suspend_overdue

SLOT = "20261125T0300"
DAYS = timedelta(days=14)


@pytest.fixture
def overdue(billed, sandbox, runtime):
    """Makes an organization that has been past due for so many days, here and at Stripe."""

    def make(days=15.0):
        it = billed("pro")
        sandbox.patch(it.subscription, {"status": "past_due"})
        since = runtime.clock() - timedelta(days=days)
        Subscription.objects(organization=it.org_id).update_one(
            set__status="past_due", set__past_due_since=since.replace(microsecond=0)
        )
        return it

    return make


def suspended(it):
    return (it.row.suspended_at is not None, it.row.plan, it.plan)


def test_it_works(overdue, sandbox, runtime):
    it, early = overdue(15), overdue(13)
    since = it.row.past_due_since
    assert dunning() == {"suspended": 1, "kept": 0, "failed": 0}
    assert suspended(it) == (True, "free", "free")
    assert (it.row.status, it.row.stripe_plan, it.row.past_due_since) == ("past_due", "pro", since)
    assert it.row.synced_from == "dunning"
    assert suspended(early) == (False, "pro", "pro")
    [signal] = OutboxSignal.objects(name="plan_changed", organization=it.org_id, facts__to="free")
    assert signal.facts["direction"] == "downgrade"


def test_twice_is_once(overdue):
    it = overdue()
    dunning()
    before = it.row.describe()
    assert dunning() == {"suspended": 0, "kept": 0, "failed": 0}
    assert it.row.describe() == before


def test_two_at_once_suspend_once(app, overdue):
    rows = [overdue() for _ in range(4)]
    found = []

    def work():
        with app.app_context():
            found.append(dunning())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {suspended(it) for it in rows} == {(True, "free", "free")}
    for it in rows:
        assert OutboxSignal.objects(name="plan_changed", organization=it.org_id, facts__to="free").count() == 1


def test_who_paid_meanwhile_keeps_the_plan(overdue, sandbox):
    it = overdue()
    sandbox.patch(it.subscription, {"status": "active"})
    assert dunning() == {"suspended": 0, "kept": 1, "failed": 0}
    assert (it.row.status, it.row.past_due_since) == ("active", None)
    assert suspended(it) == (False, "pro", "pro")


def test_who_pays_by_another_subscription_keeps_the_plan(overdue, subscribe):
    it = overdue()
    other = subscribe(it.customer, "pro")
    assert dunning()["kept"] == 1
    assert (it.row.stripe_subscription_id, it.row.status) == (other, "active")
    assert suspended(it) == (False, "pro", "pro")


def test_what_stripe_does_not_show_is_not_taken_away(overdue, sandbox):
    it = overdue()
    sandbox.remove(it.subscription)
    assert dunning() == {"suspended": 0, "kept": 0, "failed": 1}
    assert suspended(it) == (False, "pro", "pro")


def test_a_payment_brings_the_plan_back(overdue, sandbox, runtime):
    it = overdue()
    dunning()
    sandbox.patch(it.subscription, {"status": "active"})
    subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())
    assert suspended(it) == (False, "pro", "pro")
    assert it.row.past_due_since is None


def test_a_look_without_a_payment_does_not(overdue, runtime):
    it = overdue()
    dunning()
    subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())
    assert suspended(it) == (True, "free", "free")


def test_an_override_stands(overdue):
    it = overdue()
    Subscription.objects(organization=it.org_id).update_one(
        set__override={"plan": "business", "actor": "ada@example.com"}, set__plan="business"
    )
    Organization.objects(id=it.org_id).update_one(set__plan="business")
    assert dunning()["suspended"] == 1
    assert suspended(it) == (True, "business", "business")


def test_zero_days_switch_it_off(app, overdue):
    it, billing = overdue(400), app.extensions["billing"]
    app.extensions["billing"] = replace(billing, settings=replace(billing.settings, dunning_days=0))
    try:
        assert dunning() == {"skipped": "DUNNING_DAYS is 0"}
    finally:
        app.extensions["billing"] = billing
    assert suspended(it) == (False, "pro", "pro")


def part(runtime, done, stop=lambda: False):
    now = runtime.clock()
    return suspend_overdue(
        done, overdue_since=now - DAYS, stripe=runtime.stripe, plans=runtime.plans, now=now, stop=stop
    )


def test_it_goes_on_from_its_cursor(overdue, runtime):
    rows = [overdue(days) for days in (20, 19, 18)]
    done = part(runtime, Dunned(datetime(1970, 1, 1, tzinfo=UTC)), stop=lambda: True)
    assert (done.complete, done.counts["suspended"]) == (False, 1)
    assert [suspended(it)[0] for it in rows] == [True, False, False]
    done = part(runtime, Dunned(done.since, done.seen))
    assert (done.complete, done.counts["suspended"]) == (True, 2)


def test_what_cannot_be_decided_is_passed_once(overdue, sandbox, runtime):
    rows = [overdue(20) for _ in range(3)]
    sandbox.remove(rows[0].subscription)
    same = rows[1].row.past_due_since
    Subscription.objects().update(set__past_due_since=same)
    done = Dunned(datetime(1970, 1, 1, tzinfo=UTC))
    parts = 0
    while not done.complete:
        done, parts = part(runtime, Dunned(done.since, done.seen), stop=lambda: True), parts + 1
    assert parts == 4
    assert sorted(suspended(it)[0] for it in rows) == [False, True, True]


def test_it_reports_stripe_down(overdue, sandbox, runtime):
    it = overdue()
    runs.claim("dunning", SLOT)
    sandbox.arm("drop", times=None)
    dunning(slot=SLOT, attempt=1)
    run = JobRun.objects(job="dunning", slot=SLOT).first()
    assert (run.state, run.part, run.attempt) == ("claimed", 1, 1)
    assert module.OUTAGE_PAUSE - timedelta(seconds=30) < run.lease_until - database_now() <= module.OUTAGE_PAUSE
    assert suspended(it) == (False, "pro", "pro")
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    JobRun.objects(job="dunning").update_one(set__lease_until=database_now() - timedelta(seconds=1))
    assert sweep()["runs_taken_up"] == 1
    taken = JobRun.objects(job="dunning", slot=SLOT).first()
    assert dunning(slot=SLOT, attempt=taken.attempt, part=taken.part)["suspended"] == 1
    assert suspended(it) == (True, "free", "free")
    assert JobRun.objects(job="dunning", slot=SLOT).first().state == "succeeded"


def test_the_calendar_has_it():
    [row] = [row for row in SCHEDULE if row.job == "dunning"]
    assert row.latest_slot(datetime(2026, 11, 25, 12, tzinfo=UTC)) == datetime(2026, 11, 25, 3, tzinfo=UTC)


def test_only_due_rows_are_read(app, runtime):
    now = runtime.clock()

    def row(number):
        late = number % 20 == 0
        return {
            "organization": number,
            "status": "past_due" if number % 4 == 0 else "active",
            "past_due_since": now - timedelta(days=20 if late else 3, seconds=number),
            "suspended_at": now if number % 40 == 0 else None,
            "plan": "pro",
            "version": 1,
        }

    Subscription._get_collection().insert_many([row(number) for number in range(5_000)])
    database = get_db()
    database.command("profile", 2)
    found = list(find_overdue(now - DAYS, but=[]).limit(50))
    database.command("profile", 0)
    [seen] = database.system.profile.find({"ns": f"{database.name}.subscriptions"})
    database.system.profile.drop()
    assert len(found) == 50
    assert "IXSCAN { status: 1, past_due_since: 1, suspended_at: 1 }" in seen["planSummary"]
    assert seen["docsExamined"] == 50
    assert "hasSortStage" not in seen
