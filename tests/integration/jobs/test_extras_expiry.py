"""Expiry of prepaid extras: only what remains of a lot that is over, once, whoever dies or runs it twice."""

import gc
import itertools
import os
import threading
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service import extras
from billing_service.documents import EPOCH, ExtraBalance, JobRun, LedgerEntry
from billing_service.extras.expiry import FIRST
from billing_service.jobs import runs
from billing_service.jobs.extras_expiry import extras_expiry
from billing_service.jobs.schedule import SCHEDULE
from billing_service.jobs.sweep import sweep

SLOT = "20261125T0200"
NOTHING = {"expired": 0, "units": 0, "failed": 0}
JOB = "billing_service.jobs.extras_expiry:extras_expiry"


@pytest.fixture(autouse=True)
def metered(app):
    """METER_MODE is on."""
    billing = app.extensions["billing"]
    app.extensions["billing"] = replace(billing, settings=replace(billing.settings, meter_mode=True))
    yield
    app.extensions["billing"] = billing


@pytest.fixture
def lot(runtime):
    """Books units that last for so many days more."""

    def make(org_id=None, units=100, days=-1.0, **fields):
        fields = {"organization": org_id or ObjectId(), "kind": "topup", "ref": f"topup:cs_{ObjectId()}"} | fields
        now = runtime.clock()
        return extras.book(fields | {"units": units, "at": now, "expires_at": now + timedelta(days=days)}).entry

    return make


def spend(entry, units, now):
    extras.book(
        {"organization": entry.organization, "kind": "debit", "units": -units, "ref": f"usage:{ObjectId()}", "at": now}
    )


def remaining(entry):
    return LedgerEntry.objects.get(id=entry.pk).remaining


def expirations(org_id):
    return [each.units for each in LedgerEntry.objects(organization=org_id, kind="expiration")]


def check():
    for balance in ExtraBalance.objects:
        entries = list(LedgerEntry.objects(organization=balance.pk))
        assert balance.units == sum(each.units for each in entries)
        assert max(0, balance.units) == sum(each.remaining or 0 for each in entries)


def test_it_works(lot, runtime):
    over, lasting = lot(), lot()
    LedgerEntry.objects(id=lasting.pk).update_one(set__expires_at=runtime.clock() + timedelta(days=1))
    spend(over, 30, runtime.clock())
    assert extras_expiry() == {"expired": 1, "units": 70, "failed": 0}
    assert (extras.balance_of(over.organization), extras.balance_of(lasting.organization)) == (0, 100)
    [entry] = LedgerEntry.objects(kind="expiration")
    assert (entry.ref, entry.lot, entry.units) == (f"expiration:{over.pk}", over.pk, -70)
    check()


def test_twice_is_once(lot):
    over = lot()
    extras_expiry()
    assert extras_expiry() == NOTHING
    assert expirations(over.organization) == [-100]


def test_spent_units_do_not_expire(lot, runtime):
    over = lot()
    spend(over, 100, runtime.clock())
    assert extras_expiry() == NOTHING
    assert extras.balance_of(over.organization) == 0


def test_only_the_lot_that_is_over_is_touched(lot, runtime):
    over = lot(units=100)
    other = lot(over.organization, units=50, days=10)
    unending = lot(over.organization, units=7)
    LedgerEntry.objects(id=unending.pk).update_one(unset__expires_at=True)
    assert extras_expiry()["units"] == 100
    assert (remaining(over), remaining(other), remaining(unending)) == (0, 50, 7)
    assert extras.balance_of(over.organization) == 57


def test_units_that_came_back_expire_too(lot, runtime):
    """A refund took them and failed: they are a lot of their own."""
    first = lot(units=100, days=0.5, payment_intent="pi_1")
    fields = {"organization": first.organization, "lot": first.pk, "payment_intent": "pi_1"}
    extras.book(fields | {"kind": "refund", "units": -100, "ref": "refund:re_1", "at": runtime.clock()})
    back = lot(first.organization, kind="refund_reversed", units=100, ref="refund_reversed:re_1", days=-0.1)
    assert extras_expiry() == {"expired": 1, "units": 100, "failed": 0}
    assert (remaining(back), extras.balance_of(first.organization)) == (0, 0)


def test_it_does_nothing_without_meter_mode(app, lot):
    over, billing = lot(), app.extensions["billing"]
    app.extensions["billing"] = replace(billing, settings=replace(billing.settings, meter_mode=False))
    assert extras_expiry() == {"skipped": "METER_MODE is false"}
    assert remaining(over) == 100


def test_two_at_once_expire_once(app, lot):
    rows, found = [lot(units=number + 1) for number in range(12)], []

    def work():
        with app.app_context():
            found.append(extras_expiry())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sum(each["expired"] for each in found) == 12
    assert sum(each["units"] for each in found) == sum(range(1, 13))
    assert [expirations(each.organization) for each in rows] == [[-each.units] for each in rows]


def test_who_spends_at_the_same_time_loses_nothing(app, lot, runtime):
    over = lot(units=1_000)
    gate = threading.Barrier(2)

    def use():
        with app.app_context():
            gate.wait()
            for _ in range(10):
                spend(over, 10, runtime.clock())

    thread = threading.Thread(target=use)
    thread.start()
    gate.wait()
    extras_expiry()
    thread.join()
    # What was used after the expiry is owed; all of it together is what there was and what was used.
    assert extras.balance_of(over.organization) == 1_000 - 100 + sum(expirations(over.organization))
    assert -1_000 <= expirations(over.organization)[0] <= -900
    check()


def go_on(runtime, done, stop=lambda: False):
    return extras.expire(done, now=runtime.clock(), stop=stop)


def test_it_goes_on_from_its_cursor(lot, runtime):
    rows = [lot(days=-days) for days in (3, 2, 1)]
    LedgerEntry.objects.update(set__expires_at=runtime.clock() - timedelta(days=1))  # all at the same time
    done, parts = extras.Expired(EPOCH), 0
    while not done.complete:
        done, parts = go_on(runtime, extras.Expired(done.since, done.last), stop=lambda: True), parts + 1
    assert parts == 3
    assert [remaining(each) for each in rows] == [0, 0, 0]


def test_a_lot_that_fails_holds_up_no_other(lot):
    rows = [lot(days=-days) for days in (3, 2, 1)]
    # A row that somebody damaged: it belongs to nobody.
    get_db().ledger_entries.update_one({"_id": rows[0].pk}, {"$unset": {"organization": ""}})
    assert extras_expiry() == {"expired": 2, "units": 200, "failed": 1}
    assert [remaining(each) for each in rows] == [100, 0, 0]
    assert extras_expiry() == {"expired": 0, "units": 0, "failed": 1}


def test_a_lost_run_is_taken_up(lot):
    over = lot()
    runs.claim("extras_expiry", SLOT)
    JobRun.objects(job="extras_expiry").update_one(
        set__state="running", set__lease_until=datetime(2020, 1, 1, tzinfo=UTC)
    )
    assert sweep()["runs_taken_up"] == 1
    extras_expiry(slot=SLOT, attempt=2)
    assert (remaining(over), JobRun.objects(job="extras_expiry").first().state) == (0, "succeeded")


WHEN = [True, False] if os.environ.get("BILLING_TESTS") == "long" else [True]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("after", WHEN)
def test_killed_at_each_of_its_writes_it_expires_once(lot, mortal_job, after):
    for number in range(1, 60):
        rows = [lot(units=10), lot(units=20)]
        lived = mortal_job(JOB, number, after)
        extras_expiry()
        assert [expirations(each.organization) for each in rows] == [[-10], [-20]], number
        check()
        if lived:
            assert number > 6
            return
    raise AssertionError("it writes more than 60 times")


def test_it_reports_stripe_down(lot, sandbox):
    over = lot()
    sandbox.arm("drop", times=None)
    assert extras_expiry()["expired"] == 1
    assert remaining(over) == 0


def test_the_calendar_has_it():
    [row] = [row for row in SCHEDULE if row.job == "extras_expiry"]
    assert row.latest_slot(datetime(2026, 11, 25, 12, tzinfo=UTC)) == datetime(2026, 11, 25, 2, tzinfo=UTC)


def test_it_runs_from_the_command_line(lot, command_line):
    over = lot()
    code, printed, _ = command_line("jobs", "run", "extras-expiry", METER_MODE="true")
    assert (code, remaining(over)) == (0, 0)
    assert "expired=1 units=100" in printed


def entries(now, number):
    """A lot of which each tenth is over and holds units, between other entries."""
    over = number % 10 == 0
    return {
        "organization": ObjectId(f"{number // 10:024x}"),
        "kind": "topup" if number % 2 == 0 else "debit",
        "units": 5,
        "ref": f"r{number}",
        **({"remaining": 0 if number % 20 == 2 else 5} if number % 2 == 0 else {}),
        "at": now,
        "expires_at": now - timedelta(days=2, seconds=number) if over else now + timedelta(days=number % 300),
    }


@pytest.mark.parametrize("part", ["first", "later"])
def test_only_lots_that_are_over_are_read(app, runtime, part):
    now, database = runtime.clock(), get_db()
    database.ledger_entries.insert_many([entries(now, number) for number in range(5_000)])
    since, last = EPOCH, FIRST
    if part == "later":
        middle = LedgerEntry.objects(expires_at__lt=now).order_by("expires_at").skip(200).first()
        since, last = middle.expires_at, middle.pk
    database.command("profile", 2)
    found = list(extras.find_expired(now, since=since, last=last).limit(50))
    database.command("profile", 0)
    [seen] = database.system.profile.find({"ns": f"{database.name}.ledger_entries"})
    database.system.profile.drop()
    assert len(found) == 50
    assert "IXSCAN { expires_at: 1, _id: 1 }" in seen["planSummary"]
    assert seen["docsExamined"] <= 51
    assert "hasSortStage" not in seen


def held_while_expiring(runtime, count):
    """The most that was held of memory, looked at after each fifty lots."""
    now, database = runtime.clock(), get_db()
    for name in ("ledger_entries", "extra_balances"):
        database[name].delete_many({})
    rows = [entries(now, number * 10) | {"remaining": 5} for number in range(count)]
    database.ledger_entries.insert_many(rows)
    database.extra_balances.insert_many([{"_id": each["organization"], "units": 5} for each in rows])
    del rows
    seen, numbers = [], itertools.count(1)

    def look():
        if next(numbers) % 50 == 0:
            gc.collect()
            seen.append(tracemalloc.get_traced_memory()[0])
        return False

    tracemalloc.start()
    assert go_on(runtime, extras.Expired(EPOCH), stop=look).counts["expired"] == count
    tracemalloc.stop()
    return max(seen)


def test_its_memory_does_not_grow_with_the_lots(app, runtime):
    held_while_expiring(runtime, 50)  # what is loaded once
    assert held_while_expiring(runtime, 400) < 1.5 * held_while_expiring(runtime, 100)
