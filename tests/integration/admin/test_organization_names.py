"""Wherever a list names an organization by its id it tells its name, too, by one read for the whole page."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

BASE = "/api/admin/billing"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
BATCH = ObjectId("b" * 24)
# Two with a name, one that nobody told us of, and one without a name.
NAMED, OTHER, UNKNOWN, NAMELESS = (ObjectId(f"{number:024x}") for number in range(1, 5))
NAMES = {NAMED: "Fjord Cartography", OTHER: "Aurora Labs", UNKNOWN: None, NAMELESS: None, None: None}
WHOSE = [*NAMES, NAMED]


def event(number, at):
    return {"event_id": f"evt_{number}", "type": "invoice.paid", "created": at, "received_at": at, "payload": "{}",
            "source": "delivery", "state": "dead", "dead_at": at, "reason": "outage", "attempts": 1}  # fmt: skip


ROWS = {
    "webhook_events": event,
    "findings": lambda n, at: {"fingerprint": f"{n}", "kind": "plan", "state": "open", "severity": "low",
                               "first_seen_at": at, "last_seen_at": at},
    "admin_actions": lambda n, at: {"at": at, "actor": "ada", "action": "sync", "target": f"{n}", "phase": "intent",
                                    "outcome": "pending", "operation": ObjectId()},
    "refund_requests": lambda n, at: {"refund_request_id": f"refund-{n}", "charge": "ch_1", "amount": 1,
                                      "currency": "usd", "state": "succeeded", "created_at": at, "actor": "ada",
                                      "asked": {"charge_id": "ch_1"}},
    "reconciliation_runs": lambda n, at: {"_id": ObjectId(f"{n:024x}"), "trigger": "api", "state": "completed",
                                          "started_at": at, "finished_at": at, "findings": {}},
    "replay_items": lambda n, at: {"batch": BATCH, "position": n, "event_id": f"evt_{n}", "type": "invoice.paid",
                                   "created": at, "state": "succeeded"},
}  # fmt: skip
LISTS = {
    "/dead-letters": "webhook_events",
    "/events": "webhook_events",
    "/findings": "findings",
    "/audit": "admin_actions",
    "/refunds": "refund_requests",
    "/reconciliations": "reconciliation_runs",
    f"/webhook/replay-batch/{BATCH}/items": "replay_items",
}


@pytest.fixture
def furnished(app):
    """A row of each organization in the collection."""
    database = get_db()
    database.organizations.insert_many(
        [{"_id": each, "name": name, "plan": "free"} for each, name in NAMES.items() if name]
        + [{"_id": NAMELESS, "plan": "free"}]
    )
    database.replay_batches.insert_one(
        {"_id": BATCH, "filter": {}, "selection": "x", "state": "succeeded", "created_at": NOW, "total": 6}
    )

    def make(collection):
        rows = [ROWS[collection](number, NOW - timedelta(minutes=number)) for number in range(1, len(WHOSE) + 1)]
        database[collection].insert_many(
            [row | ({"organization": whose} if whose else {}) for row, whose in zip(rows, WHOSE, strict=True)]
        )

    return make


@pytest.mark.parametrize("path", LISTS)
def test_a_page_tells_names_by_one_read(path, furnished, client, admin):
    furnished(LISTS[path])
    database = get_db()
    database.command("profile", 2)
    answer = client.get(f"{BASE}{path}", headers=admin)
    database.command("profile", 0)
    read = list(database.system.profile.find({"ns": f"{database.name}.organizations"}))
    database.system.profile.drop()

    told = {(each["orgId"] and ObjectId(each["orgId"]), each["orgName"]) for each in answer.json["items"]}
    assert told == set(NAMES.items())
    assert [each["command"]["projection"] for each in read] == [{"name": 1}]


@pytest.mark.parametrize("path", ["/findings", "/audit", "/refunds"])
def test_a_file_tells_names(path, furnished, client, admin):
    furnished(LISTS[path])
    answer = client.get(f"{BASE}{path}?format=csv", headers=admin)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {(row["orgId"], row["orgName"]) for row in rows} == {
        (str(whose or ""), name or "") for whose, name in NAMES.items()
    }
    assert len(rows) == len(WHOSE)


def test_what_is_shown_alone_tells_its_name(furnished, client, admin):
    for collection in ("webhook_events", "findings", "reconciliation_runs"):
        furnished(collection)
    finding = get_db().findings.find_one({"organization": NAMED})["_id"]
    for path in ("/events/evt_1", f"/findings/{finding}", f"/reconciliations/{ObjectId(f'{1:024x}')}"):
        answer = client.get(f"{BASE}{path}", headers=admin)
        assert (answer.status_code, answer.json["orgName"]) == (200, "Fjord Cartography"), path
