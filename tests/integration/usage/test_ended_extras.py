"""Extras that are over are not used: their end decides, not the job that books them out at night."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from billing_service import extras
from billing_service.documents import LedgerEntry
from billing_service.jobs.extras_expiry import extras_expiry

MOMENT = timedelta(milliseconds=1)


@pytest.fixture
def it(user, clock):
    """Who has used up the week's quota, and has 100 extras that end in an hour and 50 that last."""
    it = user("free")
    it.use("quota", 1_000, clock.at)
    it.gets(50, "topup:cs_lasting", expires_at=clock.at + timedelta(days=90))
    it.ends_at = clock.at + timedelta(hours=1)
    it.gets(100, "topup:cs_ending", expires_at=it.ends_at)
    return it


@pytest.fixture
def use(client, token):
    def post(it, key, units):
        body = {"orgId": str(it.org_id), "key": key, "units": units}
        return client.post("/api/billing/usage", json=body, headers=token("service")).json

    return post


@pytest.fixture
def entitled(client, token):
    def get(it):
        answer = client.get(f"/api/billing/entitlements/{it.org_id}", headers=token("service")).json
        return answer["allowed"], answer["code"], answer["extras"]

    return get


def expirations(it):
    return [each.units for each in it.entries if each.kind == "expiration"]


def test_up_to_its_end_a_pack_is_used(it, use, entitled, clock):
    clock.at = it.ends_at - MOMENT
    assert entitled(it) == (True, "ok", 150)
    assert use(it, "k1", 30)["extras"] == 120
    assert expirations(it) == []


def test_from_its_end_on_what_is_left_of_it_is_gone(it, use, entitled, clock):
    it.use("before", 30, clock.at)
    clock.at = it.ends_at
    assert entitled(it) == (True, "ok", 50)
    answer = use(it, "k1", 60)
    assert (answer["fromExtras"], answer["extras"]) == (60, -10)
    assert expirations(it) == [-70]
    assert entitled(it) == (False, "quota_exhausted", -10)
    it.check()


def test_asking_books_nothing(it, entitled, clock, frozen):
    clock.at = it.ends_at
    with frozen:
        entitled(it)


def test_the_night_books_out_nothing_twice(it, use, clock):
    clock.at = it.ends_at
    use(it, "k1", 60)
    assert extras_expiry() == {"expired": 0, "units": 0, "failed": 0}
    assert (expirations(it), it.balance) == ([-100], -10)


def test_a_repeated_key_is_the_same_answer_and_books_nothing(it, use, clock):
    first = use(it, "k1", 30)
    clock.at = it.ends_at
    assert use(it, "k1", 30) == first
    assert (expirations(it), it.balance) == ([], 120)


def test_usage_within_the_quota_tells_of_no_ended_extras(user, use, clock):
    it = user("free")
    it.gets(100, "topup:cs_1", expires_at=clock.at + timedelta(hours=1))
    assert use(it, "k1", 5)["extras"] == 100
    clock.at += timedelta(hours=1)
    assert use(it, "k2", 5)["extras"] == 0
    assert (expirations(it), it.balance) == ([-100], 0)
    it.check()


def test_without_meter_mode_nothing_ends(app, it, use, entitled, clock):
    clock.at = it.ends_at
    billing = app.extensions["billing"]
    app.extensions["billing"] = replace(billing, settings=replace(billing.settings, meter_mode=False))
    assert entitled(it) == (True, "ok", 150)
    assert use(it, "k1", 60)["extras"] == 90
    assert expirations(it) == []


def test_usage_and_the_night_at_once_book_it_out_once(app, user, clock):
    people = [user("free") for _ in range(4)]
    for it in people:
        it.use("quota", 1_000, clock.at)
        it.gets(100, "topup:cs_1", expires_at=clock.at + timedelta(hours=1))
    clock.at += timedelta(hours=1)
    gate, failures = threading.Barrier(5), []

    def at_once(work):
        try:
            with app.app_context():
                gate.wait()
                work()
        except Exception as error:
            failures.append(error)

    def each_uses(number):
        for it in people:
            it.use(f"k{number}", 10, clock.at)

    work = [lambda number=number: each_uses(number) for number in range(4)] + [extras_expiry]
    threads = [threading.Thread(target=at_once, args=(each,)) for each in work]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    for it in people:
        assert (expirations(it), it.balance) == ([-100], -40)
        it.check()
    assert LedgerEntry.objects(remaining__gt=0).count() == 0
    assert [extras.balance_of(it.org_id) for it in people] == [-40] * 4
