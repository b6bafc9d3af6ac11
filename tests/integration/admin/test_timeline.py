"""GET /api/admin/billing/timeline/{orgId}"""

import csv
import io
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.documents import AdminAction, Finding, LedgerEntry, OutboxSignal, RefundRequest, WebhookEvent
from billing_service.timeline import KINDS

BASE = "/api/admin/billing/timeline/"
START = datetime(2026, 6, 1, tzinfo=UTC)


def show(client, headers, org_id, query=""):
    answer = client.get(f"{BASE}{org_id}?{query}", headers=headers)
    assert answer.status_code == 200, answer.json
    return answer.json


def walk(client, headers, org_id, query):
    found, cursor = [], ""
    while cursor is not None:
        answer = show(client, headers, org_id, f"{query}{cursor and '&cursor=' + cursor}")
        found.append(answer["items"])
        cursor = answer["nextCursor"]
    return found


@pytest.fixture
def happened(app):
    """Puts so many things of each kind there, `together` of all kinds at the same second."""

    def make(org_id, count, together=1):
        for number in range(count):
            at = START + timedelta(seconds=number // together)
            rows = {
                WebhookEvent: {
                    "event_id": f"evt_{org_id}_{number}",
                    "type": "invoice.paid",
                    "created": at,
                    "received_at": at,
                    "source": "delivery",
                    "state": "succeeded",
                    "payload": "{}",
                },
                AdminAction: {
                    "operation": ObjectId(),
                    "phase": "outcome",
                    "at": at,
                    "actor": "ada",
                    "action": "sync",
                    "target": str(org_id),
                    "outcome": "succeeded",
                },
                Finding: {
                    "fingerprint": f"{org_id}:{number}",
                    "kind": "plan",
                    "severity": "high",
                    "first_seen_at": at,
                    "last_seen_at": at,
                    "state": "resolved",
                    "resolved_at": at,
                },
                RefundRequest: {
                    "refund_request_id": f"r_{org_id}_{number}",
                    "asked": {"charge_id": "ch_1"},
                    "parameters": {"charge": "ch_1"},
                    "charge": "ch_1",
                    "amount": 1,
                    "currency": "usd",
                    "actor": "ada",
                    "state": "succeeded",
                    "operation": ObjectId(),
                    "lease_until": at,
                    "created_at": at,
                    "updated_at": at,
                    "sent_at": at,
                },
                LedgerEntry: {
                    "kind": "topup",
                    "units": 100,
                    "ref": f"topup:{org_id}:{number}",
                    "amount": 4_900,
                    "currency": "usd",
                    "at": at,
                },
                OutboxSignal: {"key": f"{org_id}:{number}", "name": "plan_changed", "created_at": at},
            }
            for document, fields in rows.items():
                document(organization=org_id, **fields).save(force_insert=True)

    return make


def test_it_works(client, admin, billed):
    it = billed("pro")
    client.post(f"/api/admin/billing/cancel/{it.org_id}", headers=admin, json={"note": "asked by phone"})
    kinds = [item["kind"] for item in show(client, admin, it.org_id)["items"]]
    assert kinds == ["signal", "signal", "action", "signal"] or set(kinds) == {"signal", "action"}
    action = next(item for item in show(client, admin, it.org_id)["items"] if item["kind"] == "action")
    assert (action["action"]["action"], action["action"]["outcome"]) == ("cancel", "succeeded")
    assert action["action"]["note"] == "asked by phone"
    assert "before" not in action["action"]
    changed = [item["signal"]["facts"] for item in show(client, admin, it.org_id)["items"] if item["kind"] == "signal"]
    assert {"from": "pro", "to": "free", "direction": "downgrade"} in changed


def test_each_kind_is_shown_under_its_name(client, admin, organization, happened, dead):
    org_id = organization()
    happened(org_id, 1)
    items = show(client, admin, org_id)["items"]
    assert [item["kind"] for item in items] == list(KINDS)
    names = ["finding", "signal", "action", "extras", "refund", "finding", "event"]
    assert [name in item for item, name in zip(items, names, strict=True)] == [True] * 7
    dead(organization=org_id)
    [newest, *_] = show(client, admin, org_id)["items"]
    assert newest["kind"] == "event"
    assert newest["event"]["history"][0]["errorClass"] == "ValueError"
    # Nobody's address, and no payload.
    assert "jenny@example.com" not in str(newest)
    assert "payload" not in newest["event"]


def test_an_intent_is_not_shown_beside_its_outcome(client, admin, billed):
    it = billed("pro")
    client.post(f"/api/admin/billing/sync/{it.org_id}", headers=admin)
    assert AdminAction.objects(organization=it.org_id).count() == 2
    kinds = [item["kind"] for item in show(client, admin, it.org_id, "kind=action")["items"]]
    assert kinds == ["action"]


@pytest.mark.parametrize(("limit", "together"), [(1, 1), (4, 3), (7, 10), (100, 5)])
def test_the_cursor_shows_each_once_in_order(client, admin, organization, happened, limit, together):
    org_id, other = organization(), organization()
    happened(org_id, 10, together)
    happened(other, 3)
    pages = walk(client, admin, org_id, f"limit={limit}")
    items = list(itertools.chain(*pages))
    places = [(item["kind"], item["id"]) for item in items]
    assert (len(places), len(set(places))) == (70, 70)
    assert [item["at"] for item in items] == sorted((item["at"] for item in items), reverse=True)
    assert all(len(page) == limit for page in pages[:-1])
    assert places == [(item["kind"], item["id"]) for item in show(client, admin, org_id, "limit=100")["items"]]


def test_filters(client, admin, organization, happened):
    org_id = organization()
    happened(org_id, 10)
    for kind in KINDS:
        items = list(itertools.chain(*walk(client, admin, org_id, f"limit=4&kind={kind}")))
        assert ([item["kind"] for item in items], len(items)) == ([kind] * 10, 10)
    between = "from=2026-06-01T00:00:02Z&to=2026-06-01T00:00:04Z"
    items = list(itertools.chain(*walk(client, admin, org_id, f"limit=5&{between}")))
    assert {item["at"][:19] for item in items} == {"2026-06-01T00:00:02", "2026-06-01T00:00:03"}
    assert len(items) == 14


def test_a_page_costs_the_same_however_much_there_is(client, admin, organization, runtime):
    org_id = organization()
    rows = [
        {
            "event_id": f"evt_{n}",
            "type": "invoice.paid",
            "state": "succeeded",
            "source": "delivery",
            "received_at": START + timedelta(seconds=n),
            "created": START,
            "organization": org_id,
            "payload": "x" * 100,
        }
        for n in range(6_000)
    ]
    WebhookEvent._get_collection().insert_many(rows)
    outcome = {"operation": ObjectId(), "phase": "outcome", "actor": "a", "action": "sync", "target": "x"}
    actions = [outcome | {"organization": org_id, "at": START + timedelta(seconds=n)} for n in range(6_000)]
    AdminAction._get_collection().insert_many([dict(each) for each in actions])
    findings = [
        {
            "fingerprint": f"{n}",
            "organization": org_id,
            "first_seen_at": START + timedelta(seconds=n),
            "resolved_at": START + timedelta(seconds=n) if n % 2 else None,
            "state": "resolved",
        }
        for n in range(2_000)
    ]
    Finding._get_collection().insert_many(findings)
    signals = [{"key": f"{n}", "organization": org_id, "created_at": START, "name": "x"} for n in range(2_000)]
    OutboxSignal._get_collection().insert_many(signals)
    # Usage beyond the quota is in the ledger too, and not in the timeline.
    usage = [
        {"ref": f"usage:{n}", "organization": org_id, "kind": "debit", "units": -1, "at": START + timedelta(seconds=n)}
        for n in range(6_000)
    ]
    money = [each | {"ref": f"topup:{n}", "kind": "topup", "amount": 0} for n, each in enumerate(usage[:500])]
    LedgerEntry._get_collection().insert_many([*usage, *money])
    database, cursor = get_db(), ""
    for _ in range(3):
        database.command("profile", 2)
        answer = show(client, admin, org_id, f"limit=50{cursor}")
        database.command("profile", 0)
        seen = [each for each in database.system.profile.find() if "planSummary" in each]
        database.system.profile.drop()
        reads = [each for each in seen if "find" in each["command"] and "system.profile" not in each["ns"]]
        assert len([each for each in reads if each["command"].get("limit", 0) == 51]) == len(KINDS)
        for each in reads:
            assert each["planSummary"].startswith(("IXSCAN", "IDHACK")), each["command"]
            # A page, one more to know that there is one, and the row that the cursor stands on.
            assert each["docsExamined"] <= 52, (each["command"], each["docsExamined"])
            assert "hasSortStage" not in each, each["command"]
        cursor = f"&cursor={answer['nextCursor']}"


def test_all_of_it_can_be_downloaded(client, admin, organization, happened):
    org_id = organization()
    happened(org_id, 10, together=3)
    answer = client.get(f"{BASE}{org_id}?format=csv", headers=admin)
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].startswith(f'attachment; filename="timeline-{org_id}-')
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    listed = show(client, admin, org_id, "limit=100")["items"]
    assert [(row["kind"], row["id"], row["at"]) for row in rows] == [
        (item["kind"], item["id"], item["at"]) for item in listed
    ]
    row = next(row for row in rows if row["kind"] == "action")
    assert (json.loads(row["action"])["actor"], row["event"]) == ("ada", "")
    some = client.get(f"{BASE}{org_id}?format=csv&kind=refund&from=2026-06-01T00:00:02Z", headers=admin)
    assert [row["kind"] for row in csv.DictReader(io.StringIO(some.text))] == ["refund"] * 4
    assert client.get(f"{BASE}{org_id}?format=csv&limit=5", headers=admin).status_code == 422


def test_nothing_has_happened_yet(client, admin, organization):
    assert show(client, admin, organization()) == {"items": [], "limit": 20, "nextCursor": None}


def test_an_unknown_organization_is_404(client, admin):
    answer = client.get(f"{BASE}{ObjectId()}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "organization_not_found")


def test_it_needs_a_token(client, organization):
    assert client.get(f"{BASE}{organization()}").status_code == 401


def test_it_needs_the_permission(client, token, organization):
    org_id = organization()
    assert client.get(f"{BASE}{org_id}", headers=token("service")).status_code == 403
    assert client.get(f"{BASE}{org_id}", headers=token("auditor")).status_code == 200


FORGED = ["x", "W10=", "WzEsMl0=", "WzEsImV2ZW50IiwieCJd", "W3RydWUsImV2ZW50IiwiNTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1Il0="]


@pytest.mark.parametrize(
    "query", ["kind=intent", "limit=0", "limit=101", "from=now", "page=2", *(f"cursor={each}" for each in FORGED)]
)
def test_it_rejects_bad_input(client, admin, organization, query):
    answer = client.get(f"{BASE}{organization()}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"]
