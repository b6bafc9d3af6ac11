"""Lists of refund requests and the scan of the sweep read by index what they show and little more, by the profiler."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service import refunds
from billing_service.documents import RefundRequest

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ROWS = 5_000
ORGANIZATIONS = [ObjectId(f"{number:024x}") for number in range(1, 301)]
BASE = "/api/admin/billing/refunds"
ORG = f"orgId={ORGANIZATIONS[7]}"


@pytest.fixture(scope="module")
def rows():
    """Mostly good refunds over a year, a few of which nobody knows."""
    dice = random.Random(5)

    def make(number):
        at = NOW - timedelta(milliseconds=dice.randrange(365 * 86_400_000))
        state = "unknown" if number % 250 == 0 else "rejected" if number % 20 == 1 else "succeeded"
        return {
            "refund_request_id": f"request-{number}",
            "organization": ORGANIZATIONS[number // 7 % 300],
            "asked": {"charge_id": f"ch_{number % 2000}"},
            "parameters": {"charge": f"ch_{number % 2000}"},
            "charge": f"ch_{number % 2000}",
            "amount": 100,
            "currency": "usd",
            "actor": f"admin-{number % 40}",
            "state": state,
            "stripe_refund_id": f"re_{number}" if state == "succeeded" else None,
            "operation": ObjectId(),
            "attempt": 1,
            "lease_until": at,
            "created_at": at,
            "updated_at": at,
            "sent_at": at,
            **({"next_check_at": at} if state == "unknown" else {}),
        }

    return [make(number) for number in range(ROWS)]


@pytest.fixture
def profiled(app, rows):
    """Runs something; returns what MongoDB did for the refund requests."""
    RefundRequest._get_collection().insert_many([dict(row) for row in rows])
    database = get_db()

    def run(work):
        database.command("profile", 2)
        try:
            work()
        finally:
            database.command("profile", 0)
            seen = list(database.system.profile.find({"ns": f"{database.name}.refund_requests"}))
            database.system.profile.drop()
        return seen

    return run


@pytest.fixture
def asked(profiled, client, admin):
    """Asks for a list; returns the answer and what MongoDB did: (find, count)."""

    def ask(query):
        answers = []
        seen = profiled(lambda: answers.append(client.get(f"{BASE}?{query}", headers=admin)))
        assert answers[0].status_code == 200, answers[0].json
        finds = [each for each in seen if "find" in each["command"]]
        counts = [each for each in seen if "aggregate" in each["command"]]
        assert (len(finds), len(counts)) == (1, 1)
        return answers[0].json, finds[0], counts[0]

    return ask


def check_use(found, index, most):
    assert found["planSummary"].startswith("IXSCAN"), found["planSummary"]
    assert found["docsExamined"] <= most, found
    if index:
        assert index in found["planSummary"]
        assert "hasSortStage" not in found, found["planSummary"]


ONE_FILTER = {
    "": "{ created_at: -1, _id: -1 }",
    "from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z": "{ created_at: -1, _id: -1 }",
    "state=unknown": "{ state: 1, created_at: -1, _id: -1 }",
    "state=rejected&from=2026-01-01T00:00:00Z": "{ state: 1, created_at: -1, _id: -1 }",
    ORG: "{ organization: 1, created_at: -1, _id: -1 }",
    "actor=admin-7": "{ actor: 1, created_at: -1, _id: -1 }",
}


def test_one_filter_reads_only_what_it_shows(asked):
    for query, index in ONE_FILTER.items():
        answer, find, count = asked(f"limit=3&{query}")
        assert answer["total"] > 3, query
        check_use(find, index, 4)
        assert count["planSummary"].startswith("IXSCAN")
        assert count["docsExamined"] == 0, query


def test_a_charge_and_an_id_are_read_at_once(asked):
    answer, find, _ = asked("chargeId=ch_77")
    assert answer["total"] == 3
    check_use(find, "{ charge: 1, created_at: -1, _id: -1 }", 3)
    answer, find, _ = asked("refundRequestId=request-77")
    assert answer["total"] == 1
    check_use(find, None, 1)


def test_filters_together_read_by_the_narrowest(asked):
    for query, most in {
        f"{ORG}&state=succeeded": 21,
        f"{ORG}&actor=admin-7": 21,
        "state=unknown&actor=admin-0": 25,
    }.items():
        _, find, _ = asked(f"limit=10&{query}")
        check_use(find, None, most)


def test_a_later_page_does_not_read_the_earlier_ones(asked):
    for query in ("", "state=succeeded", ORG, "actor=admin-7"):
        first, *_ = asked(f"limit=10&{query}")
        answer, find, _ = asked(f"limit=2&{query}&cursor={first['nextCursor']}")
        assert answer["items"], query
        check_use(find, None, 5)


def test_the_sweep_reads_only_what_is_due(profiled, runtime, sandbox):
    sandbox.arm("drop", times=None)
    for _ in range(6):
        runtime.stripe.circuit.failed()
    clock = lambda: NOW + timedelta(days=1)
    seen = profiled(lambda: refunds.follow_up_refunds(stripe=runtime.stripe, clock=clock))
    assert [each for each in seen if "COLLSCAN" in each["planSummary"]] == []
    find = next(each for each in seen if "next_check_at" in str(each.get("command", {}).get("sort")))
    check_use(find, "{ next_check_at: 1 }", 20)


def test_no_query_of_a_refund_scans_a_collection(app, client, admin, billed, stripe, sandbox, runtime):
    """All that a refund, its repeat, its events and its sweep ask of MongoDB, of any collection."""
    from billing_service.refunds import told_by

    paid = stripe.charges.list({"customer": billed("pro").customer}).data[0]
    database = get_db()
    database.command("profile", 2)
    try:
        body = {"chargeId": paid.id, "amountCents": 500, "refundRequestId": "request-1"}
        for query in ("?dryRun=true", "", ""):
            assert client.post(f"/api/admin/billing/refund{query}", headers=admin, json=body).status_code == 200
        sandbox.arm("drop", method="POST", path="/v1/refunds$", times=3)
        again = body | {"refundRequestId": "request-2"}
        assert client.post("/api/admin/billing/refund", headers=admin, json=again).status_code == 202
        made = stripe.refunds.list({"charge": paid.id}).data[0].to_dict()
        assert told_by(made | {"metadata": {}}, runtime.stripe)[1]
        told_by(stripe.charges.retrieve(paid.id).to_dict(), runtime.stripe)
        ahead = lambda: runtime.clock() + timedelta(minutes=2)
        assert refunds.follow_up_refunds(stripe=runtime.stripe, clock=ahead) == 1
    finally:
        database.command("profile", 0)
        seen = [each for each in database.system.profile.find() if "planSummary" in each]
        database.system.profile.drop()
    assert len(seen) > 20
    assert [(each["ns"], each["command"]) for each in seen if "COLLSCAN" in each["planSummary"]] == []
