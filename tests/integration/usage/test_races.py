"""Many record usage of one organization at the same time: nothing is lost, nothing counts twice."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mongoengine.connection import get_connection
from pymongo.errors import OperationFailure

from billing_service.documents import UsageRecord
from billing_service.errors import OrganizationNotFound, UsageMismatch
from billing_service.jobs.weekly_reset import weekly_reset

PROCESSES = 8
EACH = 40 if os.environ.get("BILLING_TESTS") == "long" else 12
AT = "2026-11-25T12:00:00+00:00"


@pytest.fixture
def record_at_once(environment):
    """Several processes that begin at the same moment, each with its keys and units; returns what each was answered."""

    def run(org_id, orders):
        told = [[{"key": key, "units": units, "at": AT} for key, units in order] for order in orders]
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("recorder.py"))],
            input=json.dumps({"orgId": str(org_id), "orders": told}),
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=150,
            check=True,
        )
        return json.loads(done.stdout)

    return run


def test_eight_processes_lose_and_double_nothing(user, record_at_once, clock):
    it = user("free")
    orders = [[(f"{number}-{each}", 7) for each in range(EACH)] for number in range(PROCESSES)]
    found = record_at_once(it.org_id, orders)
    total = PROCESSES * EACH * 7
    week = it.week("2026-W48")
    assert (week.used + week.overflow, it.balance) == (total, min(0, 1_000 - total))
    assert len(it.records) == PROCESSES * EACH
    answers = [each for mine in found for each in mine]
    # Each was told of another moment: together they are one after the other.
    assert sorted(each["used"] for each in answers if each["within"] == 7) == list(range(7, min(total, 994) + 1, 7))
    it.check()


def test_eight_processes_with_the_same_keys_record_each_once(user, record_at_once, clock):
    it = user("free")
    keys = [(f"k{each}", 150) for each in range(EACH)]
    found = record_at_once(it.org_id, [keys[place:] + keys[:place] for place in range(PROCESSES)])
    total = EACH * 150
    assert (it.week("2026-W48").used, it.balance, len(it.records)) == (1_000, 1_000 - total, EACH)
    for key, _ in keys:
        answers = [each for mine in found for each in mine if each["key"] == key]
        assert answers == [answers[0]] * PROCESSES
    it.check()


def at_once(app, work):
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


def commits():
    return get_connection().admin.command("serverStatus")["transactions"]["totalCommitted"]


def test_what_arrives_together_is_recorded_together(app, user, clock):
    people = [user("free"), user("free")]
    for it in people:
        it.use("before", 1, clock.at)
    before = commits()
    at_once(app, [lambda it=it, key=key: it.use(f"k{key}", 1, clock.at) for it in people for key in range(20)])
    assert commits() - before <= 20
    for it in people:
        assert (it.week("2026-W48").used, len(it.records)) == (21, 21)
        it.check()


def test_each_is_answered_alone(app, user, clock):
    people = [user("free"), user("free"), user("gone")]
    people[1].use("before", 990, clock.at)
    answers = {}

    def use(it, key, units, **more):
        answers[it.org_id, key] = it.use(key, units, clock.at, **more)

    work = [
        lambda it=it, key=key: use(it, f"k{key}", 1, breakdown={f"n{key % 3}": 1}) for it in people for key in range(30)
    ]
    # The same keys from another thread, and some for other usage.
    work += [lambda key=key: use(people[0], f"k{key}", 1, breakdown={f"n{key % 3}": 1}) for key in range(10)]
    at_once(app, work)
    first, second, _ = (it.week("2026-W48") for it in people)
    assert (first.used, first.overflow, first.breakdown) == (30, 0, {"n0": 10, "n1": 10, "n2": 10})
    assert (second.used, second.overflow, people[1].balance) == (1_000, 20, -20)
    for it in people:
        assert len([each for each in it.records if each.key != "before"]) == 30
        for made in it.records:
            if made.key != "before":
                assert answers[it.org_id, made.key].to_mongo() == made.to_mongo()
        it.check()
    assert sorted(each.used for each in people[0].records) == list(range(1, 31))


def test_one_that_is_refused_spoils_nothing_for_the_others(app, user, clock):
    it, other = user("free"), user("free")
    for each in (it, other):
        each.use("first", 1, clock.at)
    refused = []

    def misuse(number):
        with pytest.raises(UsageMismatch):
            it.use("first", 2 + number, clock.at)
        refused.append(number)

    def unknown(number):
        with pytest.raises(OrganizationNotFound):
            it.another().use(f"k{number}", 1, clock.at)
        refused.append(number)

    work = [lambda who=who, key=key: who.use(f"k{key}", 1, clock.at) for who in (it, other) for key in range(8)]
    for number in range(4):
        work += [lambda number=number: misuse(number), lambda number=number: unknown(number)]
    at_once(app, work)
    assert len(refused) == 8
    assert [each.week("2026-W48").used for each in (it, other)] == [9, 9]
    for each in (it, other):
        each.check()


def test_one_that_cannot_be_written_spoils_nothing_for_the_others(app, user, clock, refuses):
    it, other = user("free"), user("free")
    for each in (it, other):
        each.use("first", 1, clock.at)
    refuses(UsageRecord, "organization", it.org_id)
    failed = []

    def use(key):
        with pytest.raises(OperationFailure):
            it.use(key, 1, clock.at)
        failed.append(key)

    work = [lambda key=key: use(f"k{key}") for key in range(6)]
    at_once(app, [*work, *(lambda key=key: other.use(f"k{key}", 1, clock.at) for key in range(12))])
    assert len(failed) == 6
    assert [each.week("2026-W48").used for each in (it, other)] == [1, 13]
    for each in (it, other):
        each.check()


@pytest.mark.parametrize("number", range(4))
def test_overflow_and_extras_at_once(app, user, clock, number):
    it = user("free")
    lot = it.gets(500, "topup:cs_0").entry
    it.use("before", 950, clock.at)
    at_once(
        app,
        [
            *(lambda key=key: it.use(f"k{key % 5}", 60, clock.at) for key in range(10)),
            lambda: it.gets(300, "topup:cs_1"),
            lambda: it.gets(-500, "refund:re_1", kind="refund", lot=lot.pk),
            lambda: it.gets(-500, "refund:re_1", kind="refund", lot=lot.pk),
        ],
    )
    week = it.week("2026-W48")
    assert (week.used, week.overflow) == (1_000, 250)
    assert it.balance == 500 + 300 - 500 - 250
    assert sum(each.remaining or 0 for each in it.entries) == it.balance
    it.check()


@pytest.mark.parametrize("number", range(4))
def test_usage_and_the_reset_at_once(app, user, clock, number):
    it = user("free")
    it.use("last week", 1_700, clock.at)
    clock.at = clock.at.replace(month=12, day=1)
    at_once(app, [weekly_reset, weekly_reset, *(lambda key=key: it.use(f"k{key}", 100, clock.at) for key in range(6))])
    week = it.week("2026-W49")
    assert (week.used + week.overflow - week.settled, week.used) == (600, 1_000)
    # 700 were owed and 600 used: the quota covers 1,000 of both, whoever came first.
    assert it.balance == -300
    it.check()
