"""A plan that changes in mid-week: the week's quota changes in the same transaction, what was used of it stays."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from billing_service import subscriptions
from billing_service.documents import Organization, OutboxSignal, Subscription, UsageWeek, in_transaction, week_of
from billing_service.jobs.dunning import dunning
from billing_service.subscriptions import LostRace, commit_all, decision


@pytest.fixture
def bump(app, clock):
    def make(org_id, plan, **more):
        billing = app.extensions["billing"]
        asked = {"until": None, "note": None, "actor": "ada@example.com", "plans": billing.plans, "now": clock.at}
        return subscriptions.bump(org_id, plan, **(asked | more))

    return make


def test_the_quota_changes_and_usage_stays(user, clock, bump):
    it = user("free")
    it.use("k1", 1_500, clock.at)
    bump(it.org_id, "starter")
    week = it.week("2026-W48")
    assert (week.quota, week.used, week.overflow, it.balance) == (50_000, 1_000, 500, -500)
    assert it.use("k2", 49_001, clock.at).within == 49_000
    it.check()


def test_a_lower_plan_leaves_nothing_and_takes_nothing_back(user, clock, bump):
    it = user("pro")
    it.use("k1", 400_000, clock.at)
    Subscription.objects(organization=it.org_id).update_one(set__status="canceled")
    bump(it.org_id, None)
    week = it.week("2026-W48")
    assert (week.quota, week.used, it.balance) == (1_000, 400_000, 0)
    assert it.use("k2", 5, clock.at).within == 0
    it.check()


def test_earlier_weeks_are_left_alone(user, clock, bump):
    it = user("free")
    it.use("k1", 10, clock.at - timedelta(days=7))
    it.use("k2", 10, clock.at)
    bump(it.org_id, "business")
    assert [it.week(name).quota for name in ("2026-W47", "2026-W48")] == [1_000, 5_000_000]


def test_a_look_that_changes_no_plan_writes_no_week(billed, runtime):
    it = billed("pro")
    UsageWeek.objects.delete()
    subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())
    assert len(UsageWeek.objects) == 0


def test_a_sync_and_dunning_write_it_too(billed, sandbox, runtime):
    it = billed("pro")
    week = UsageWeek.objects(organization=it.org_id, week=week_of(runtime.clock()))
    assert week.first().quota == 500_000
    sandbox.patch(it.subscription, {"status": "past_due"})
    since = runtime.clock() - timedelta(days=15)
    Subscription.objects(organization=it.org_id).update_one(set__status="past_due", set__past_due_since=since)
    assert dunning()["suspended"] == 1
    assert week.first().quota == 1_000


def test_a_drifted_plan_of_the_organization_takes_the_quota_along(user, clock, bump):
    it = user("free")
    Organization.objects(id=it.org_id).update_one(set__plan="business")
    it.use("k1", 10, clock.at)
    assert it.week("2026-W48").quota == 5_000_000
    bump(it.org_id, None)
    assert (it.week("2026-W48").quota, Organization.objects(id=it.org_id).first().plan) == (1_000, "free")


def test_all_of_it_or_nothing(user, clock, app):
    it = user("free")
    it.use("k1", 10, clock.at)
    plans = app.extensions["billing"].plans
    from billing_service.documents import Override

    imposed = {"override": Override(plan="pro")}
    change = decision.decide(it.row, None, plans=plans, now=clock.at, source="bump", imposed=imposed)

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        commit_all([change], now=clock.at, also=fail)
    assert (it.week("2026-W48").quota, it.row.plan) == (1_000, "free")
    Subscription.objects(organization=it.org_id).update_one(inc__version=1)
    with pytest.raises(LostRace):
        commit_all([change], now=clock.at)
    assert it.week("2026-W48").quota == 1_000
    assert len(OutboxSignal.objects) == 0


def at_once(app, *work):
    gate, errors = threading.Barrier(len(work)), []

    def run(each):
        with app.app_context():
            gate.wait()
            try:
                each()
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []


@pytest.mark.parametrize("number", range(8))
def test_the_first_use_and_a_change_at_once_end_with_the_plans_quota(app, user, clock, bump, number):
    it = user("free")
    at_once(
        app,
        lambda: bump(it.org_id, "pro"),
        *(lambda key=key: it.use(f"k{key}", 10, clock.at) for key in range(4)),
    )
    week = it.week("2026-W48")
    assert (week.quota, week.used) == (500_000, 40)
    it.check()


def test_a_change_that_is_not_seen_yet_is_not_lost(app, user, clock, bump):
    """Whoever makes the week read the former plan; the change commits before it does."""
    it = user("free")
    read, changed, done = threading.Event(), threading.Event(), []

    def write():
        with app.app_context():
            in_transaction(slow)

    def slow():
        plan = Organization.objects(id=it.org_id).first().plan
        read.set()
        changed.wait(10)
        quota = it.plans.quota(plan)
        UsageWeek._get_collection().update_one(*UsageWeek.quota_write(it.org_id, quota, clock.at), upsert=True)
        done.append(plan)

    thread = threading.Thread(target=write)
    thread.start()
    assert read.wait(10)
    bump(it.org_id, "pro")
    changed.set()
    thread.join()
    assert it.week("2026-W48").quota == 500_000
    assert done == ["pro"]


def test_a_week_is_iso_8601s_in_utc():
    assert week_of(datetime(2026, 11, 29, 23, 59, 59, tzinfo=UTC)) == "2026-W48"
    assert week_of(datetime(2026, 11, 30, tzinfo=UTC)) == "2026-W49"
