"""The weekly reset: each row gets its new week once, debt is settled once, and nobody's failure holds up others."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service import usage
from billing_service.documents import (
    ExtraBalance,
    JobRun,
    LedgerEntry,
    Organization,
    OutboxSignal,
    Subscription,
    UsageWeek,
)
from billing_service.jobs import runs
from billing_service.jobs.schedule import SCHEDULE
from billing_service.jobs.sweep import sweep
from billing_service.jobs.weekly_reset import weekly_reset
from billing_service.usage import Place, Reset

SLOT = "20261130T0100"
LAST_WEEK = datetime(2026, 11, 25, 12, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, 1, tzinfo=UTC)
NOTHING = {"reset": 0, "settled": 0, "units_settled": 0, "failed": 0}


@pytest.fixture
def user(user, clock):
    """Makes an organization that was reset last week; the clock is at the reset of the next."""
    clock.at = MONDAY

    def make(plan="free", *, owes=0, **fields):
        it = user(plan, **({"last_reset_at": LAST_WEEK} | fields))
        if owes:
            it.use("last week", it.plans.quota(plan) + owes, LAST_WEEK)
        return it

    return make


def test_it_works(user):
    it, other = user("pro"), user("free", status="canceled")
    assert weekly_reset() == NOTHING | {"reset": 2}
    week = it.week("2026-W49")
    assert (week.quota, week.used, week.settled, it.row.last_reset_at) == (500_000, 0, 0, MONDAY)
    assert other.week("2026-W49").quota == 1_000
    assert it.row.version == 1


def test_debt_is_settled_from_the_new_quota(user):
    it = user("free", owes=300)
    it.use("more", 200, LAST_WEEK)
    assert it.balance == -500
    assert weekly_reset() == {"reset": 1, "settled": 1, "units_settled": 500, "failed": 0}
    week = it.week("2026-W49")
    assert (week.used, week.settled, it.balance) == (500, 500, 0)
    [entry] = [each for each in it.entries if each.kind == "settlement"]
    assert (entry.units, entry.ref, entry.remaining) == (500, f"settle:{it.org_id}:2026-W49", 0)
    it.check()


def test_no_more_than_the_quota_is_settled_and_the_rest_in_the_next_week(user, clock):
    it = user("free", owes=2_300)
    for week, settled, balance in (("2026-W49", 1_000, -1_300), ("2026-W50", 1_000, -300), ("2026-W51", 300, 0)):
        weekly_reset()
        assert (it.week(week).settled, it.balance) == (settled, balance)
        clock.at += timedelta(days=7)
    it.check()


def test_what_refunds_and_disputes_caused_is_not_settled(user):
    it = user("free")
    lot = it.gets(1_000, "topup:cs_1").entry
    it.use("last week", 1_600, LAST_WEEK)
    it.gets(-1_000, "refund:re_1", kind="refund", lot=lot.pk)
    assert it.balance == -600
    it.use("more", 50, LAST_WEEK)
    weekly_reset()
    assert (it.balance, it.week("2026-W49").settled) == (-600, 50)
    it.check()


def test_a_refund_of_units_that_were_not_used_causes_nothing(user):
    it = user("free")
    lot = it.gets(1_000, "topup:cs_1").entry
    it.gets(-1_000, "refund:re_1", kind="refund", lot=lot.pk)
    it.use("last week", 1_100, LAST_WEEK)
    weekly_reset()
    assert (it.balance, it.week("2026-W49").settled) == (0, 100)


def test_money_that_comes_back_undoes_what_its_going_caused(user):
    it = user("free")
    it.gets(-400, "dispute:dp_1", kind="debit")
    it.use("last week", 1_100, LAST_WEEK)
    it.gets(400, "dispute_credit:dp_1", kind="adjustment")
    assert it.balance == -100
    weekly_reset()
    assert (it.balance, it.week("2026-W49").settled) == (0, 100)


def test_twice_is_once(user):
    it = user("free", owes=300)
    weekly_reset()
    before = (it.row.describe(), it.week("2026-W49").to_mongo(), len(it.entries))
    assert weekly_reset() == NOTHING
    Subscription.objects.update(set__last_reset_at=LAST_WEEK)
    assert weekly_reset() == NOTHING | {"reset": 1}
    assert (it.row.describe(), it.week("2026-W49").to_mongo(), len(it.entries)) == before


def test_two_at_once_reset_once(app, user):
    people = [user("free", owes=100 * (number % 2)) for number in range(40)]
    gate, found = threading.Barrier(3), []

    def work():
        with app.app_context():
            gate.wait()
            found.append(weekly_reset())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    total = {name: sum(each[name] for each in found) for name in NOTHING}
    assert total == {"reset": 40, "settled": 20, "units_settled": 2_000, "failed": 0}
    for it in people:
        assert (it.balance, it.row.last_reset_at) == (0, MONDAY)
        it.check()


def test_usage_before_the_reset_changes_nothing_of_the_sum(user, clock):
    early, late = user("free", owes=700), user("free", owes=700)
    clock.at = MONDAY - timedelta(minutes=30)
    early.use("monday", 600, clock.at)
    clock.at = MONDAY
    weekly_reset()
    late.use("monday", 600, clock.at)
    for it in (early, late):
        assert (it.balance, it.week("2026-W49").used) == (-300, 1_000)
        it.check()


def test_usage_before_the_reset_without_settling_neither(user, clock):
    it = user("free", owes=700)
    it.use("monday", 600, MONDAY, metered=False)
    assert (it.balance, it.week("2026-W49").used) == (-700, 600)
    assert weekly_reset()["units_settled"] == 400
    assert (it.balance, it.week("2026-W49").used) == (-300, 1_000)
    it.check()


def test_what_this_week_used_beyond_its_quota_is_not_settled_by_it(user, clock):
    it = user("free")
    it.use("monday", 1_500, MONDAY)
    assert weekly_reset() == NOTHING | {"reset": 1}
    assert (it.balance, it.week("2026-W49").used) == (-500, 1_000)


def test_who_was_never_billed_settles_by_the_first_use_of_a_week(user, organization, clock):
    it = user("free", owes=300)
    Subscription.objects(organization=it.org_id).delete()
    assert weekly_reset() == NOTHING
    it.use("tuesday", 10, MONDAY + timedelta(days=1))
    assert (it.balance, it.week("2026-W49").used) == (0, 310)
    it.check()


def test_a_row_of_each_status_is_reset(user):
    words = ["active", "trialing", "past_due", "canceled", "unpaid", "paused", "incomplete", "incomplete_expired"]
    people = [user("pro", status=word) for word in [*words, "a word that Stripe may have one day", None]]
    people.append(user("pro", last_reset_at=None))
    assert weekly_reset() == NOTHING | {"reset": len(people)}
    assert {it.row.last_reset_at for it in people} == {MONDAY}


def test_a_plan_that_the_file_does_not_know_is_named_and_tried_again(user, clock):
    lost, others = user("gone"), [user("pro") for _ in range(3)]
    assert weekly_reset() == NOTHING | {"reset": 3, "failed": 1, "failing": [str(lost.org_id)]}
    assert {it.row.last_reset_at for it in others} == {MONDAY}
    assert (lost.row.last_reset_at, lost.week("2026-W49")) == (LAST_WEEK, None)
    [signal] = OutboxSignal.objects(name="weekly_reset_failed")
    assert signal.facts == {"week": "2026-W49", "count": 1, "organization_ids": [str(lost.org_id)]}
    lost.use("k", 10, MONDAY)
    Subscription.objects(organization=lost.org_id).update_one(set__plan="pro")
    Organization.objects(id=lost.org_id).update_one(set__plan="pro")
    clock.at += timedelta(days=1)
    assert weekly_reset() == NOTHING | {"reset": 1}
    assert (lost.week("2026-W49").quota, lost.week("2026-W49").used) == (500_000, 10)
    assert OutboxSignal.objects(name="weekly_reset_failed").count() == 1


def test_a_week_that_was_made_by_a_former_plan_gets_the_quota_of_this_one(user):
    """A change at the end of Sunday may belong to the old week, and the first use of the new one see the former."""
    people = [user("pro") for _ in range(3)]
    Organization.objects(id=people[1].org_id).update_one(set__plan="free")
    for it in people:
        it.use("monday", 10, MONDAY - timedelta(minutes=59))
    assert people[1].week("2026-W49").quota == 1_000
    assert weekly_reset() == NOTHING | {"reset": 3}
    for it in people:
        assert (it.week("2026-W49").quota, it.week("2026-W49").used, it.row.last_reset_at) == (500_000, 10, MONDAY)


@pytest.mark.parametrize("document", [UsageWeek, Subscription, LedgerEntry])
def test_one_that_cannot_be_written_does_not_hold_up_the_others(user, refuses, document):
    people = [user("free", owes=100 * (number % 2)) for number in range(6)]
    lost = people[3]
    refuses(document, "organization", lost.org_id)
    done = weekly_reset()
    assert (done["reset"], done["failed"], done["failing"]) == (5, 1, [str(lost.org_id)])
    for it in people:
        assert it.row.last_reset_at == (LAST_WEEK if it is lost else MONDAY)
        assert it.balance == (-100 if it is lost else 0)
        it.check()
    assert lost.week("2026-W49") is None


def test_who_fails_does_not_stop_the_next_part(user, clock):
    lost = [user("gone") for _ in range(5)]
    other = user("pro", status="trialing")
    billing = {"plans": other.plans, "now": MONDAY}
    done = Reset()
    done = usage.reset_due(done, stop=lambda: True, **billing)
    assert (done.counts["failed"], done.complete) == (5, False)
    done = usage.reset_due(Reset(done.place), stop=lambda: True, **billing)
    assert (done.counts["failed"], done.counts["reset"]) == (0, 1)
    assert (other.row.last_reset_at, lost[0].row.last_reset_at) == (MONDAY, LAST_WEEK)


def test_it_goes_on_from_its_cursor(user):
    people = [user("pro") for _ in range(4)]
    runs.claim("weekly_reset", SLOT)
    JobRun.objects(job="weekly_reset").update_one(
        set__cursor={"place": {"status": "active", "last_reset_at": LAST_WEEK, "row_id": people[1].row.pk}, "failed": 2}
    )
    weekly_reset(slot=SLOT, attempt=1)
    run = JobRun.objects(job="weekly_reset", slot=SLOT).first()
    assert (run.state, run.summary["reset"]) == ("succeeded", 2)
    assert [it.row.last_reset_at for it in people] == [LAST_WEEK] * 2 + [MONDAY] * 2
    assert OutboxSignal.objects(name="weekly_reset_failed").first().facts["count"] == 2


def test_a_cursor_survives_being_stored(user, clock):
    """Rows without a status or a reset come first, and their place is made of nothing."""
    for _ in range(2):
        user("free", status=None, last_reset_at=None)
    done = usage.reset_due(Reset(), plans=user("pro").plans, now=MONDAY, stop=lambda: True)
    runs.claim("weekly_reset", SLOT)
    JobRun.objects(job="weekly_reset").update_one(set__cursor={"place": vars(done.place)})
    weekly_reset(slot=SLOT, attempt=1)
    run = JobRun.objects(job="weekly_reset", slot=SLOT).first()
    assert (run.state, run.summary["reset"]) == ("succeeded", 1)


def test_late_by_a_week_the_week_is_the_current_one(user, clock):
    it = user("free", owes=300)
    clock.at = MONDAY + timedelta(days=9, hours=5)
    assert weekly_reset()["units_settled"] == 300
    assert (it.week("2026-W49"), it.week("2026-W50").used, it.row.last_reset_at) == (None, 300, clock.at)
    it.check()


def test_without_meter_mode_it_does_nothing_and_says_so(app, user):
    it = user("free", owes=300)
    billing = app.extensions["billing"]
    app.extensions["billing"] = replace(billing, settings=replace(billing.settings, meter_mode=False))
    runs.claim("weekly_reset", SLOT)
    weekly_reset(slot=SLOT, attempt=1)
    run = JobRun.objects(job="weekly_reset", slot=SLOT).first()
    assert (run.state, run.summary) == ("succeeded", {"skipped": "METER_MODE is false"})
    assert (it.row.last_reset_at, it.balance) == (LAST_WEEK, -300)


def test_the_calendar_has_it():
    [row] = [row for row in SCHEDULE if row.job == "weekly_reset"]
    assert row.latest_slot(datetime(2026, 11, 25, 12, tzinfo=UTC)) == datetime(2026, 11, 25, 1, tzinfo=UTC)


def test_a_lost_run_is_taken_up(user, clock):
    it = user("pro")
    runs.claim("weekly_reset", SLOT)
    past = datetime(2020, 1, 1, tzinfo=UTC)
    JobRun.objects(job="weekly_reset").update_one(set__state="running", set__lease_until=past)
    assert sweep()["runs_taken_up"] == 1
    weekly_reset(slot=SLOT, attempt=2)
    assert it.row.last_reset_at == MONDAY


def test_it_reports_stripe_down(user, sandbox):
    it = user("pro")
    sandbox.arm("drop", times=None)
    assert weekly_reset()["reset"] == 1
    assert it.row.last_reset_at == MONDAY


def scans(work):
    """What MongoDB's profiler saw of reads of the rows meanwhile."""
    database = get_db()
    database.command("profile", 2)
    found = work()
    database.command("profile", 0)
    seen = list(database.system.profile.find({"ns": f"{database.name}.subscriptions", "op": "query"}))
    database.system.profile.drop()
    return found, seen


@pytest.mark.parametrize(
    ("place", "count"),
    [
        (Place(None), 100),
        (Place("active"), 100),
        (Place("active", LAST_WEEK), 100),
        (Place("active", LAST_WEEK, ObjectId("0" * 23 + "f")), 100),
    ],
)
def test_only_due_rows_are_read(app, place, count):
    def row(number):
        return {
            "_id": ObjectId(f"{number:024x}"),
            "organization": number,
            "status": [None, "active", "past_due", "active"][number % 4],
            "last_reset_at": [MONDAY, MONDAY, None, LAST_WEEK, MONDAY][number % 5],
            "plan": "pro",
            "version": 1,
        }

    Subscription._get_collection().insert_many([row(number) for number in range(5_000)])
    found, seen = scans(lambda: usage.find_due(place, MONDAY, limit=count))
    assert len(found) == count
    assert {each["status"] for each in found} == {place.status}
    assert MONDAY not in {each["last_reset_at"] for each in found}
    assert sum(each["docsExamined"] for each in seen) == count
    for each in seen:
        assert "IXSCAN { status: 1, last_reset_at: 1, _id: 1 }" in each["planSummary"]
        assert "hasSortStage" not in each


def test_a_row_that_is_not_due_is_not_read(user):
    for _ in range(50):
        user("pro", last_reset_at=MONDAY)
    found, seen = scans(weekly_reset)
    assert found == NOTHING
    assert sum(each["docsExamined"] for each in seen) <= 2  # the next status is read off a row
    assert len(ExtraBalance.objects) == 0
