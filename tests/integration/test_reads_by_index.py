"""Every GET of the API, with each of its filters, at thousands of rows: the profiler sees no scan of a collection.

What is asked comes from the OpenAPI document, so that a new list or filter is tried as soon as it is there.
"""

from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.documents import DOCUMENTS

ROWS = 5_000
NOW = datetime(2026, 6, 1, tzinfo=UTC)
ORGANIZATIONS = [ObjectId(f"{number:024x}") for number in range(1, ROWS + 1)]
ORG = ORGANIZATIONS[70]


def at(number):
    return NOW - timedelta(minutes=number)


def pick(number, *values):
    return values[number % len(values)]


def event(number):
    state = pick(number, "succeeded", "succeeded", "succeeded", "dead", "failed", "succeeded", "succeeded")
    return {
        "event_id": f"evt_{number}",
        "type": pick(number, "invoice.paid", "invoice.paid", "customer.deleted"),
        "created": at(number),
        "received_at": at(number),
        "source": pick(number, "delivery", "delivery", "delivery", "missed"),
        "state": state,
        "reason": "handler_failed",
        "fingerprint": f"KeyError: {number % 40}",
        "dead_at": at(number) if state == "dead" else None,
        "organization": ORGANIZATIONS[number % 200],
        "stripe_customer_id": f"cus_{number % 200}",
        "stripe_subscription_id": f"sub_{number % 200}",
        "payload": "{}",
        "attempts": 1,
        "history": [],
    }


def subscription(number):
    return {
        "organization": ORGANIZATIONS[number],
        "stripe_customer_id": f"cus_{number}",
        "stripe_subscription_id": f"sub_{number}",
        "stripe_created_at": at(number),
        "status": pick(number, "active", "canceled", "past_due"),
        "plan": "pro",
        "version": 1,
        "candidates": [],
    }


# How a row of each collection is made that may be large; what is not here has a few rows whatever happens, see SMALL.
ROWS_OF = {
    "webhook_events": event,
    "subscriptions": subscription,
    "organizations": lambda n: {"_id": ORGANIZATIONS[n], "name": f"Name {n}", "slug": f"slug-{n}", "plan": "pro"},
    "admin_actions": lambda n: {
        "operation": ObjectId(),
        "phase": pick(n, "intent", "outcome"),
        "at": at(n),
        "actor": pick(n, "ada", "bob", "cleo"),
        "action": pick(n, "sync", "cancel", "refund"),
        "target": str(ORGANIZATIONS[n % 200]),
        "organization": ORGANIZATIONS[n % 200],
        "outcome": pick(n, "succeeded", "failed"),
        "request_id": f"request-{n}",
    },
    "admin_operations": lambda n: {
        "kind": "sync",
        "target": "x",
        "actor": "ada",
        "route": "x",
        "idempotency_key": f"{n}",
        "state": pick(n, "done", "done", "done", "unknown"),
        "lease_until": at(n),
        "next_check_at": at(n) if n % 4 == 3 else None,
    },
    "outbox": lambda n: {
        "key": f"{n}",
        "name": "plan_changed",
        "organization": ORGANIZATIONS[n % 200],
        "created_at": at(n),
    },
    "findings": lambda n: {
        "fingerprint": f"{n}",
        "kind": pick(n, "plan", "status", "customer"),
        "severity": pick(n, "high", "low", "info"),
        "state": pick(n, "resolved", "resolved", "open"),
        "organization": ORGANIZATIONS[n % 200],
        "run": ORGANIZATIONS[n % 100],
        "first_seen_at": at(n),
        "last_seen_at": at(n),
        "resolved_at": at(n) if n % 3 else None,
    },
    "refund_requests": lambda n: {
        "refund_request_id": f"refund-{n}",
        "organization": ORGANIZATIONS[n % 200],
        "charge": f"ch_{n % 300}",
        "amount": 1,
        "currency": "usd",
        "actor": pick(n, "ada", "bob"),
        "state": pick(n, "succeeded", "succeeded", "unknown"),
        "created_at": at(n),
    },
    "ledger_entries": lambda n: {
        "organization": ORGANIZATIONS[n % 200],
        "kind": pick(n, "topup", "debit"),
        "units": pick(n, 100, -100),
        "ref": f"{n}",
        "payment_intent": f"pi_{n}",
        "remaining": pick(n, 100, None),
        "at": at(n),
    },
    "replay_batches": lambda n: {
        "_id": ORGANIZATIONS[n],
        "selection": f"{n}",
        "filter": {},
        "state": pick(n, "succeeded", "succeeded", "stopped"),
        "created_at": at(n),
    },
    "replay_items": lambda n: {
        "batch": ORGANIZATIONS[n % 200],
        "position": n // 200,
        "event_id": f"evt_{n}",
        "state": pick(n, "succeeded", "succeeded", "failed"),
    },
    "usage_weeks": lambda n: {
        "organization": ORGANIZATIONS[n % 200],
        "week": f"2026-W{n // 200 + 1:02}",
        "quota": 1_000,
        "used": n,
        "overflow": 0,
        "settled": 0,
    },
    "usage_records": lambda n: {
        "organization": ORGANIZATIONS[n % 200],
        "key": f"{n}",
        "units": 1,
        "week": "2026-W20",
        "at": at(n),
        "expires_at": NOW + timedelta(days=9000),
    },
    "extra_balances": lambda n: {"_id": ORGANIZATIONS[n], "units": 0},
    "job_runs": lambda n: {
        "job": pick(n, "sweep", "dunning"),
        "slot": f"{n:05}",
        "state": "succeeded",
        "claimed_at": at(n),
    },
    "reconciliation_runs": lambda n: {
        "_id": ORGANIZATIONS[n],
        "trigger": "schedule",
        "state": pick(n, "completed", "failed"),
        "organization": ORGANIZATIONS[n] if n % 4 == 1 else None,
        "started_at": at(n),
        "finished_at": at(n),
        "findings": {},
    },
    "reconciliation_candidates": lambda n: {
        "run": ORGANIZATIONS[n % 200],
        "subject": f"sub_{n}",
        "state": pick(n, "cleared", "confirmed"),
        "due_at": at(n),
        "first_seen_at": at(n),
    },
    "import_runs": lambda n: {"_id": ORGANIZATIONS[n], "apply": True, "state": "completed", "started_at": at(n)},
    "import_items": lambda n: {
        "run": ORGANIZATIONS[n % 200],
        "stripe_subscription_id": f"sub_{n}",
        "state": pick(n, "imported", "unmapped"),
    },
    "admin_users": lambda n: {
        "email": f"{n}@example.com",
        "roles": ["support"],
        "disabled": False,
        "version": 1,
        "created_at": at(n),
        "changed_at": at(n),
    },
    "revocations": lambda n: {"_id": f"{n}", "reason": "used", "at": at(n), "expires_at": NOW + timedelta(days=9000)},
}
SMALL = {"service_state", "watermarks", "dispatch_pauses", "open_alerts", "login_throttles"}

# A value of each filter that some rows have, by its name; a new filter needs a row.
FILTERS = {
    "action": "cancel",
    "actor": "bob",
    "chargeId": "ch_7",
    "fingerprint": "KeyError: 3",
    "format": "json",
    "from": "2026-05-30T00:00:00Z",
    "kind": "plan",
    "limit": "5",
    "orgId": str(ORG),
    "outcome": "failed",
    "page": "3",
    "q": "slug-7",
    "reason": "handler_failed",
    "reconciliationId": str(ORG),
    "refundRequestId": "refund-77",
    "requestId": "request-77",
    "severity": "low",
    "sort": "newest",
    "source": "missed",
    "state": "dead",
    "target": str(ORG),
    "to": "2026-05-31T00:00:00Z",
    "type": "customer.deleted",
}
# The same name with other values elsewhere.
OTHERWISE = {
    ("/findings", "state"): "open",
    ("/refunds", "state"): "unknown",
    ("/webhook/replay-batch", "state"): "stopped",
    ("/webhook/replay-batch/{batchId}/items", "state"): "failed",
    ("/timeline/{orgId}", "kind"): "action",
}
PATHS = {
    "orgId": str(ORG),
    "eventId": "evt_77",
    "jobId": "replay-evt_77-1",
    "findingId": str(ORG),
    "userId": str(ORG),
    "batchId": str(ORG),
    "reconciliationId": str(ORG),
}
BASE = "/api/admin/billing"
# What reads all that there is, however much, and why it may.
UNBOUNDED = {
    ("/overview", "findings"): "the open ones, from the index alone",
}
# Rows that are read to show a page of them: of one collection by one query, beside what is shown.
SPARE = 60


def test_every_collection_has_rows_or_is_small():
    named = {document._get_collection_name() for document in DOCUMENTS}
    assert named - SMALL - ROWS_OF.keys() == set()


@pytest.fixture
def many(app):
    """Thousands of rows in every collection that may have as many."""
    for name, make in ROWS_OF.items():
        get_db()[name].insert_many([make(number) for number in range(ROWS)])


def reads(client, admin, url):
    """What MongoDB did for an answer: the profiler's entries of reads."""
    database = get_db()
    database.command("profile", 2)
    try:
        answer = client.get(url, headers=admin)
    finally:
        database.command("profile", 0)
        seen = list(database.system.profile.find())
        database.system.profile.drop()
    mine = [each for each in seen if "planSummary" in each and not each["ns"].endswith("system.profile")]
    return answer, [each for each in mine if each["ns"].partition(".")[2] not in SMALL]


def asked(document):
    """(path, parameter, address) of every GET, without a filter and with each one."""
    for path, item in document["paths"].items():
        if "get" not in item or not path.startswith(BASE):
            continue
        parameters = [*item.get("parameters", []), *item["get"].get("parameters", [])]
        names = [each["name"] for each in parameters if each["in"] == "query"]
        needed = {each["name"] for each in parameters if each["in"] == "query" and each.get("required")}
        short = path.removeprefix(BASE)
        values = {name: OTHERWISE.get((short, name)) or FILTERS[name] for name in names if name != "cursor"}
        always = "&".join(f"{name}={values[name]}" for name in needed)
        address = path.format(**PATHS)
        yield short, None, f"{address}?{always}"
        for name in values.keys() - needed:
            yield short, name, f"{address}?{always}&{name}={values[name]}".replace("?&", "?")


def answered(client, admin, document):
    """(path, parameter, address, answer, reads) of every GET, and of the page after it."""
    for path, name, url in asked(document):
        answer, seen = reads(client, admin, url)
        yield path, name, url, answer, seen
        cursor = answer.json.get("nextCursor") if answer.is_json else None
        if cursor and name != "page":
            url += f"&cursor={cursor}"
            yield path, "cursor", url, *reads(client, admin, url)


def test_every_get_reads_by_index(many, client, admin):
    document, tried = client.get("/api/openapi.json").json, set()
    for path, name, url, answer, seen in answered(client, admin, document):
        # The organizations here have customers that Stripe has not.
        known = answer.status_code in (200, 404) or answer.json["code"] == "stripe_missing"
        assert known, (url, answer.text[:300])
        for each in seen:
            told = (url, each["ns"], each["command"], each["planSummary"])
            assert "COLLSCAN" not in each["planSummary"], told
            if "find" in each["command"]:
                assert each["docsExamined"] <= 2 * each["nreturned"] + SPARE, (told, each["docsExamined"])
            elif each["keysExamined"] > SPARE and (path, each["ns"].partition(".")[2]) not in UNBOUNDED:
                assert any("$limit" in stage for stage in each["command"].get("pipeline", [])), told
        tried.add((path, name))
    assert len(tried) > 45
    assert sum(name == "cursor" for _, name in tried) > 6
