"""GET /api/billing/entitlements/{orgId}"""

from datetime import timedelta

import pytest
from bson import ObjectId

from billing_service.documents import Organization, Subscription
from billing_service.usage import ALLOWED, CODES

BASE = "/api/billing/entitlements/"


@pytest.fixture
def ask(client, token):
    def get(org_id, headers=None):
        return client.get(f"{BASE}{org_id}", headers=token("service") if headers is None else headers)

    return get


def told(answer):
    assert answer.status_code == 200
    return answer.json["allowed"], answer.json["code"]


def test_it_works(ask, user, clock):
    it = user("pro")
    it.use("k1", 70, clock.at)
    it.gets(30, "topup:cs_1")
    answer = ask(it.org_id)
    assert answer.json == {
        "orgId": str(it.org_id),
        "allowed": True,
        "code": "ok",
        "plan": "pro",
        "status": "active",
        "quota": 500_000,
        "used": 70,
        "left": 499_930,
        "extras": 30,
        "week": "2026-W48",
        "weekUntil": "2026-11-30T00:00:00.000Z",
        "graceUntil": None,
    }


def test_twice_is_once(ask, user, clock, frozen):
    it = user("pro")
    with frozen:
        assert ask(it.org_id).json == ask(it.org_id).json


def test_before_the_first_use_the_quota_is_the_plans(ask, user, clock):
    answer = ask(user("starter").org_id).json
    assert (answer["quota"], answer["used"], answer["left"], answer["extras"]) == (50_000, 0, 50_000, 0)


def test_who_was_never_billed_has_the_free_plan(ask, user, clock):
    answer = ask(user("free", row=False).org_id)
    assert told(answer) == (True, "ok")
    assert (answer.json["plan"], answer.json["status"], answer.json["quota"]) == ("free", None, 1_000)


def test_without_quota_and_extras_it_is_exhausted(ask, user, clock):
    it = user("free")
    it.use("k1", 999, clock.at)
    assert told(ask(it.org_id)) == (True, "ok")
    it.use("k2", 1, clock.at)
    assert told(ask(it.org_id)) == (False, "quota_exhausted")
    it.gets(10, "topup:cs_1")
    assert told(ask(it.org_id)) == (True, "ok")
    it.use("k3", 10, clock.at)
    assert told(ask(it.org_id)) == (False, "quota_exhausted")
    clock.at += timedelta(days=7)
    assert told(ask(it.org_id)) == (True, "ok")


@pytest.mark.parametrize(
    ("age", "wanted"),
    [
        (timedelta(0), (True, "past_due_grace")),
        (timedelta(days=7, milliseconds=-1), (True, "past_due_grace")),
        (timedelta(days=7), (False, "payment_past_due")),
        (timedelta(days=40), (False, "payment_past_due")),
    ],
)
def test_past_due_works_for_the_grace_days(ask, user, clock, age, wanted):
    it = user("pro", status="past_due", past_due_since=clock.at - age)
    answer = ask(it.org_id)
    assert told(answer) == wanted
    assert answer.json["status"] == "past_due"
    assert answer.json["graceUntil"] == f"{clock.at - age + timedelta(days=7):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def test_in_grace_the_quota_counts_too(ask, user, clock):
    it = user("free", status="past_due", past_due_since=clock.at)
    it.use("k1", 1_000, clock.at)
    assert told(ask(it.org_id)) == (False, "quota_exhausted")


def test_dunning_does_not_give_access_back(ask, user, clock):
    it = user("free", status="past_due", past_due_since=clock.at - timedelta(days=15), suspended_at=clock.at)
    assert told(ask(it.org_id)) == (False, "payment_past_due")


def test_an_override_does(ask, user, clock):
    it = user("business", status="past_due", past_due_since=clock.at - timedelta(days=15))
    overridden = Subscription.objects(organization=it.org_id)
    overridden.update_one(set__override={"plan": "business", "until": clock.at + timedelta(seconds=1)})
    assert told(ask(it.org_id)) == (True, "ok")
    clock.at += timedelta(seconds=1)
    assert told(ask(it.org_id)) == (False, "payment_past_due")


def test_a_subscription_that_ended_leaves_the_free_plan(ask, user, clock):
    answer = ask(user("free", status="canceled").org_id)
    assert told(answer) == (True, "ok")
    assert answer.json["status"] == "canceled"


def test_an_unknown_organization_may_do_nothing(ask, clock):
    answer = ask(ObjectId())
    assert told(answer) == (False, "organization_unknown")
    names = ("plan", "status", "quota", "used", "left", "extras")
    assert [answer.json[name] for name in names] == [None, None, None, 0, None, 0]


def test_a_plan_that_the_file_does_not_know_locks_nobody_out(ask, user, clock):
    it = user("gone")
    it.use("k1", 10**9, clock.at)
    answer = ask(it.org_id)
    assert told(answer) == (True, "plan_unknown")
    assert (answer.json["quota"], answer.json["left"]) == (None, None)
    Organization.objects(id=it.org_id).update_one(set__plan="pro")
    assert told(ask(it.org_id)) == (False, "quota_exhausted")


def test_every_code_has_words_in_the_documentation(client):
    [schema] = [
        each["properties"]["code"]
        for name, each in client.get("/api/openapi.json").json["components"]["schemas"].items()
        if name == "Entitlement"
    ]
    assert set(schema["enum"]) == set(CODES) >= ALLOWED
    assert all(f"`{code}`: " in schema["description"] for code in CODES)


def test_it_needs_a_token(ask, user):
    assert ask(user().org_id, headers={}).status_code == 401


def test_it_needs_the_permission(ask, user, token):
    assert ask(user().org_id, headers=token("auditor")).status_code == 403


@pytest.mark.parametrize("org_id", ["x", "5" * 23, "5" * 25, "%7B%24gt%7D"])
def test_it_rejects_bad_input(ask, org_id):
    answer = ask(org_id)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_it_reports_stripe_down(ask, user, sandbox, clock):
    sandbox.arm("drop", times=None)
    assert told(ask(user("pro").org_id)) == (True, "ok")
