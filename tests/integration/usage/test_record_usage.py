"""POST /api/billing/usage"""

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.documents import LedgerEntry, Organization, UsageRecord, UsageWeek

URL = "/api/billing/usage"


@pytest.fixture
def post(client, token):
    def send(org_id, key="k1", units=100, headers=None, **body):
        body = {"orgId": str(org_id), "key": key, "units": units} | body
        return client.post(URL, headers=token("service") if headers is None else headers, json=body)

    return send


def test_it_works(post, user, clock):
    it = user("free")
    answer = post(it.org_id, breakdown={"search": 60, "export": 30})
    assert answer.status_code == 200
    assert answer.json == {
        "orgId": str(it.org_id),
        "key": "k1",
        "units": 100,
        "withinQuota": 100,
        "fromExtras": 0,
        "week": "2026-W48",
        "quota": 1_000,
        "used": 100,
        "left": 900,
        "extras": 0,
        "recordedAt": "2026-11-25T12:00:00.000Z",
    }
    week = it.week("2026-W48")
    assert (week.used, week.quota, week.overflow) == (100, 1_000, 0)
    assert week.breakdown == {"search": 60, "export": 30}
    it.check()


def test_twice_is_once(post, user, clock):
    it = user("free")
    first = post(it.org_id, units=700).json
    post(it.org_id, "k2", units=700)
    again = post(it.org_id, units=700)
    assert (again.status_code, again.json) == (200, first)
    assert (it.week("2026-W48").used, it.balance, len(it.records), len(it.entries)) == (1_000, -400, 2, 1)
    it.check()


def test_beyond_the_quota_it_is_debited_from_extras(post, user, clock):
    it = user("free")
    it.gets(500, "topup:cs_1")
    answer = post(it.org_id, units=1_200).json
    assert (answer["withinQuota"], answer["fromExtras"], answer["left"], answer["extras"]) == (1_000, 200, 0, 300)
    [_, debit] = it.entries
    assert (debit.kind, debit.units, debit.ref) == ("debit", -200, f"usage:{it.org_id}:k1")
    it.check()


def test_a_repeated_key_that_was_debited_is_the_same_answer(post, user, clock):
    it = user("free")
    first = post(it.org_id, units=1_200).json
    assert post(it.org_id, units=1_200).json == first
    assert (it.balance, len(it.entries)) == (-200, 1)


def test_it_is_never_refused_and_what_is_missing_is_owed(post, user, clock):
    it = user("free")
    answer = post(it.org_id, units=10**9).json
    assert (answer["left"], answer["extras"], it.balance) == (0, 1_000 - 10**9, 1_000 - 10**9)
    assert post(it.org_id, "k2", units=5).json["extras"] == it.balance == 995 - 10**9
    it.check()


def test_a_key_of_an_earlier_week_is_still_the_same_answer(post, user, clock):
    it = user("free")
    first = post(it.org_id, units=1_100).json
    clock.at = clock.at.replace(day=30)
    again = post(it.org_id, units=1_100)
    assert (again.status_code, again.json, first["week"]) == (200, first, "2026-W48")
    assert it.week("2026-W49") is None
    it.check()


@pytest.mark.parametrize("other", [{"units": 101}, {"breakdown": {"search": 1}}])
def test_the_same_key_for_other_usage_is_refused(post, user, clock, other):
    it = user("free")
    post(it.org_id)
    answer = post(it.org_id, **other)
    assert (answer.status_code, answer.json["code"]) == (409, "usage_mismatch")
    assert "k1" in answer.json["detail"]
    assert (it.week("2026-W48").used, len(it.records)) == (100, 1)


def test_a_key_that_was_debited_and_forgotten_is_refused(post, user, clock):
    it = user("free")
    post(it.org_id, units=1_100)
    UsageRecord.objects.delete()  # as MongoDB does after 35 days
    clock.at = clock.at.replace(month=12, day=31)
    answer = post(it.org_id, units=1_100)
    assert (answer.status_code, answer.json["code"]) == (409, "usage_mismatch")
    assert "35 days" in answer.json["detail"]
    assert (it.balance, it.records, it.week("2026-W53")) == (-100, [], None)


def test_the_same_key_of_another_organization_is_another_one(post, user, clock):
    one, other = user("free"), user("free")
    for it in (one, other):
        assert post(it.org_id, units=1_100).json["extras"] == -100
        it.check()


def test_the_week_has_the_quota_of_the_plan(post, user, clock):
    it = user("pro")
    assert post(it.org_id).json["quota"] == 500_000


def test_who_was_never_billed_has_the_free_plan(post, user, clock):
    it = user("free", row=False)
    assert post(it.org_id).json["quota"] == 1_000


def test_a_plan_that_the_file_does_not_know_is_not_metered(post, user, clock, plan_of):
    it = user("gone")
    answer = post(it.org_id, units=10**9).json
    assert (answer["quota"], answer["left"], answer["withinQuota"], answer["extras"]) == (None, None, 10**9, 0)
    Organization.objects(id=it.org_id).update_one(set__plan="business")
    answer = post(it.org_id, "k2", units=7).json
    assert (answer["quota"], answer["fromExtras"]) == (5_000_000, 7)
    it.check()


def test_an_unknown_organization_is_refused_and_told_of(post, clock):
    answer = post(ObjectId())
    assert (answer.status_code, answer.json["code"]) == (404, "organization_not_found")
    assert "PUT /api/billing/organizations/" in answer.json["detail"]
    assert len(UsageWeek.objects) + len(UsageRecord.objects) == 0


def test_it_needs_a_token(post, user):
    it = user()
    assert post(it.org_id, headers={}).status_code == 401
    assert it.records == []


def test_it_needs_the_permission(post, user, token):
    it = user()
    assert post(it.org_id, headers=token("support")).status_code == 403
    assert it.records == []


@pytest.mark.parametrize(
    "body",
    [
        {"units": 0},
        {"units": -1},
        {"units": 10**9 + 1},
        {"units": 1.5},
        {"units": "7"},
        {"units": True},
        {"key": ""},
        {"key": "k" * 201},
        {"key": "a\x00b"},
        {"key": {"$gt": ""}},
        {"orgId": "x"},
        {"breakdown": {"search": 101}},
        {"breakdown": {"search": 60, "export": 60}},
        {"breakdown": {"search": 0}},
        {"breakdown": {"a.b": 1}},
        {"breakdown": {"$inc": 1}},
        {"breakdown": {"a\n": 1}},
        {"breakdown": {f"n{number}": 1 for number in range(21)}},
        {"breakdown": []},
        {"dryRun": True},
    ],
)
def test_it_rejects_bad_input(post, user, body):
    it = user()
    answer = post(it.org_id, **body) if "orgId" not in body else post(body["orgId"])
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert set(answer.json["errors"]) == set(body)
    assert len(UsageWeek.objects) + len(UsageRecord.objects) + len(LedgerEntry.objects) == 0


def test_it_reports_stripe_down(post, user, sandbox, clock):
    sandbox.arm("drop", times=None)
    assert post(user().org_id).status_code == 200


def test_the_names_of_a_breakdown_are_bounded(user, clock):
    it = user("pro")
    for number in range(8):
        it.use(f"k{number}", 40, clock.at, breakdown={f"n{number}-{each}": 1 for each in range(20)})
    it.use("last", 20, clock.at, breakdown={"n0-0": 5, "new": 6})
    week = it.week("2026-W48")
    assert len(week.breakdown) == 100
    assert (week.breakdown["n0-0"], "new" in week.breakdown, week.used) == (6, False, 340)


def test_records_are_kept_for_35_days(user, clock):
    it = user()
    it.use("k1", 1, clock.at)
    [record] = it.records
    assert (record.expires_at - record.at).days == 35
    index = get_db().usage_records.index_information()["expires_at"]
    assert (index["expireAfterSeconds"], index["key"]) == (0, [("expires_at", 1)])
