"""The lists of events and dead letters read by index what they show and little more, as MongoDB's profiler saw it."""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.documents import DOCUMENTS, RETIRED_INDEXES, WebhookEvent, drop_indexes, ensure_indexes

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EVENTS = 6_000
ORGANIZATIONS = [ObjectId(f"{number:024x}") for number in range(1, 301)]
TYPES = ["customer.subscription.updated"] * 12 + ["invoice.paid"] * 5 + ["charge.refunded"] * 2 + ["customer.deleted"]
BASE = "/api/admin/billing"
ORG = f"orgId={ORGANIZATIONS[7]}"


@pytest.fixture(scope="module")
def rows():
    """A ledger of mostly good deliveries of few types, with an incident's dead letters among them."""
    dice = random.Random(11)

    def make(number):
        at = NOW - timedelta(milliseconds=dice.randrange(90 * 86_400_000))
        state = "dead" if number % 5 == 0 else ("failed" if number % 97 == 0 else "succeeded")
        died = (
            {"dead_at": at + timedelta(hours=1), "fingerprint": f"KeyError: {number % 40}"} if state == "dead" else {}
        )
        return {
            "event_id": f"evt_{number}",
            "type": dice.choice(TYPES),
            "created": at,
            "received_at": at,
            "payload": "x" * 500,
            "source": "missed" if number % 60 == 1 else "delivery",
            "state": state,
            "reason": "wrong_mode" if number % 100 == 0 else "handler_failed",
            "attempts": 1,
            "organization": ORGANIZATIONS[number // 7 % 300],
            "history": [],
            **died,
        }

    return [make(number) for number in range(EVENTS)]


@pytest.fixture
def asked(app, client, admin, rows):
    """Asks an endpoint; returns the answer and what MongoDB did for the ledger: (find, count)."""
    WebhookEvent._get_collection().insert_many([dict(row) for row in rows])
    database = get_db()

    def ask(path):
        database.command("profile", 2)
        try:
            answer = client.get(BASE + path, headers=admin)
        finally:
            database.command("profile", 0)
            seen = list(database.system.profile.find({"ns": f"{database.name}.webhook_events"}))
            database.system.profile.drop()
        assert answer.status_code == 200, answer.json
        finds = [each for each in seen if "find" in each["command"]]
        counts = [each for each in seen if "aggregate" in each["command"]]
        assert (len(finds), len(counts)) == (1, 1)
        return answer.json, finds[0], counts[0]

    return ask


def check_use(found, index, most):
    assert found["planSummary"].startswith("IXSCAN"), found["planSummary"]
    assert found["docsExamined"] <= most, found
    assert found["keysExamined"] <= most + 1, found
    if index:
        assert index in found["planSummary"]
        assert "hasSortStage" not in found, found["planSummary"]


ONE_FILTER = {
    "": "{ received_at: -1, _id: -1 }",
    "from=2026-04-01T00:00:00Z&to=2026-05-01T00:00:00Z": "{ received_at: -1, _id: -1 }",
    "state=dead": "{ state: 1, received_at: -1, _id: -1 }",
    "state=failed&from=2026-04-01T00:00:00Z": "{ state: 1, received_at: -1, _id: -1 }",
    "type=invoice.paid": "{ type: 1, received_at: -1, _id: -1 }",
    "type=customer.deleted&to=2026-05-01T00:00:00Z": "{ type: 1, received_at: -1, _id: -1 }",
    ORG: "{ organization: 1, received_at: -1, _id: -1 }",
    f"{ORG}&from=2026-04-01T00:00:00Z": "{ organization: 1, received_at: -1, _id: -1 }",
    "source=missed": "{ source: 1, received_at: -1, _id: -1 }",
    "source=missed&to=2026-05-01T00:00:00Z": "{ source: 1, received_at: -1, _id: -1 }",
}


def test_one_filter_reads_only_what_it_shows(asked):
    for query, index in ONE_FILTER.items():
        answer, find, count = asked(f"/events?limit=3&{query}")
        assert answer["total"] > 3, query
        check_use(find, index, 4)
        assert count["planSummary"].startswith("IXSCAN")
        # Partial indexes do not tell the whole of the filter, so what they name is looked up.
        assert count["docsExamined"] <= (answer["total"] if "orgId" in query or "source" in query else 0), query


# The filter that leaves the fewest is read by index, at most so many, and the others are looked at in what is read.
SEVERAL_FILTERS = {
    f"{ORG}&state=dead": 21,
    f"{ORG}&type=invoice.paid": 21,
    f"{ORG}&source=delivery&state=succeeded&type=customer.subscription.updated": 21,
    "source=missed&type=invoice.paid": 101,
    "source=missed&state=succeeded": 101,
    "source=delivery": 30,
    "source=delivery&type=invoice.paid": 30,
    "state=succeeded&type=invoice.paid": 40,
    "state=failed&type=invoice.paid": 80,
    "state=dead&type=customer.subscription.updated": 60,
}


def test_filters_together_read_by_the_narrowest(asked):
    for query, most in SEVERAL_FILTERS.items():
        answer, find, _ = asked(f"/events?limit=10&{query}")
        assert answer["total"] > 0, query
        check_use(find, None, most)


def test_a_later_page_does_not_read_the_earlier_ones(asked):
    for query in ("", "state=succeeded", "from=2026-01-01T00:00:00Z", "type=invoice.paid", ORG):
        first, *_ = asked(f"/events?limit=15&{query}")
        answer, find, _ = asked(f"/events?limit=2&{query}&cursor={first['nextCursor']}")
        assert answer["items"], query
        check_use(find, None, 5)


DEAD_LETTERS = {
    "": "{ dead_at: -1, _id: -1 }",
    "from=2026-04-01T00:00:00Z&to=2026-05-01T00:00:00Z": "{ dead_at: -1, _id: -1 }",
    "type=invoice.paid": "{ type: 1, dead_at: -1, _id: -1 }",
    "fingerprint=KeyError: 20": "{ fingerprint: 1, dead_at: -1, _id: -1, type: 1,",
    "reason=wrong_mode": "{ reason: 1, dead_at: -1, _id: -1 }",
    "reason=wrong_mode&from=2026-04-01T00:00:00Z": "{ reason: 1, dead_at: -1, _id: -1 }",
    ORG: "{ organization: 1, dead_at: -1, _id: -1 }",
}


def test_dead_letters_read_only_what_they_show(asked):
    for query, index in DEAD_LETTERS.items():
        answer, find, count = asked(f"/dead-letters?limit=2&{query}")
        assert answer["total"] > 2, query
        check_use(find, index, 3)
        assert count["planSummary"].startswith("IXSCAN")
        assert count["docsExamined"] <= answer["total"]
        _, find, _ = asked(f"/dead-letters?limit=1&{query}&cursor={answer['nextCursor']}")
        check_use(find, index, 4)


def test_filters_of_dead_letters_together_read_by_index(asked):
    for query in (f"{ORG}&type=invoice.paid", "reason=wrong_mode&type=invoice.paid", "fingerprint=KeyError: 20&type=x"):
        _, find, _ = asked(f"/dead-letters?limit=10&{query}")
        check_use(find, None, 70)


# Groups are counted in an index alone: keys read besides those counted (the index has eight fingerprints).
GROUPS = {
    "": 1,
    "fingerprint=KeyError: 20": 1,
    "from=2026-04-01T00:00:00Z&to=2026-04-10T00:00:00Z": 24,
    # These are told by the keys, all of them; the list's own indexes would have each dead letter read.
    "type=invoice.paid": EVENTS // 5,
    "reason=wrong_mode": EVENTS // 5,
}


def test_groups_of_dead_letters_are_counted_in_an_index(app, client, admin, rows):
    WebhookEvent._get_collection().insert_many([dict(row) for row in rows])
    database = get_db()
    for query, more in GROUPS.items():
        database.command("profile", 2)
        answer = client.get(f"{BASE}/dead-letters/groups?{query}", headers=admin)
        database.command("profile", 0)
        seen = list(database.system.profile.find({"ns": f"{database.name}.webhook_events"}))
        database.system.profile.drop()
        assert answer.status_code == 200
        assert answer.json["letters"] > 0, query
        grouped, sampled = [next(each for each in seen if word in each["command"]) for word in ("aggregate", "find")]
        assert "fingerprint: 1" in grouped["planSummary"], query
        assert grouped["keysExamined"] <= answer.json["letters"] + more, (query, grouped["keysExamined"])
        assert grouped["docsExamined"] == 0, query
        assert sampled["docsExamined"] <= len(answer.json["items"])


def test_groups_of_one_organization_read_only_its_dead_letters(app, client, admin, rows):
    WebhookEvent._get_collection().insert_many([dict(row) for row in rows])
    database = get_db()
    database.command("profile", 2)
    answer = client.get(f"{BASE}/dead-letters/groups?{ORG}", headers=admin)
    database.command("profile", 0)
    (seen,) = database.system.profile.find({"ns": f"{database.name}.webhook_events", "command.aggregate": {"$gt": ""}})
    database.system.profile.drop()
    assert "organization: 1, dead_at: -1" in seen["planSummary"]
    assert 0 < seen["docsExamined"] == answer.json["letters"]


# What a dry run of a batch reads of the ledger by, each time it looks at it.
SELECTED = {
    "{}": "dead_at: -1",
    '{"type": "invoice.paid"}': "type: 1, dead_at: -1",
    '{"fingerprint": "KeyError: 20"}': "fingerprint: 1, dead_at: -1",
    f'{{"orgId": "{ORGANIZATIONS[7]}"}}': "organization: 1, dead_at: -1",
    '{"state": "failed"}': "state: 1, received_at: -1",
    '{"receivedFrom": "2026-04-01T00:00:00Z", "receivedTo": "2026-04-03T00:00:00Z"}': "received_at: -1",
    '{"deadFrom": "2026-04-01T00:00:00Z", "deadTo": "2026-04-03T00:00:00Z"}': "dead_at: -1",
}


def test_a_batch_is_selected_by_index(app, client, admin, rows):
    WebhookEvent._get_collection().insert_many([dict(row) for row in rows])
    database = get_db()
    for body, index in SELECTED.items():
        database.command("profile", 2)
        answer = client.post(f"{BASE}/webhook/replay-batch?dryRun=true", json=json.loads(body), headers=admin)
        database.command("profile", 0)
        seen = list(database.system.profile.find({"ns": f"{database.name}.webhook_events"}))
        database.system.profile.drop()
        assert answer.status_code == 200, answer.json
        matching = answer.json["count"] + answer.json["unfit"]
        assert matching > 3, body
        assert len(seen) == 4
        assert {each["planSummary"].startswith("IXSCAN") for each in seen} == {True}, body
        assert all(index in each["planSummary"] for each in seen), (body, [each["planSummary"] for each in seen])
        assert max(each["docsExamined"] for each in seen) <= matching + 1, body


def test_one_event_is_one_read(app, client, admin, asked):
    database = get_db()
    database.command("profile", 2)
    assert client.get(f"{BASE}/events/evt_7", headers=admin).status_code == 200
    database.command("profile", 0)
    (seen,) = database.system.profile.find({"ns": f"{database.name}.webhook_events"})
    database.system.profile.drop()
    assert (seen["docsExamined"], "event_id" in seen["planSummary"]) == (1, True)


def test_an_index_of_an_earlier_version_makes_room(app):
    WebhookEvent._get_collection().create_index([("state", 1), ("received_at", -1)], name="state_received")
    drop_indexes(RETIRED_INDEXES)
    ensure_indexes(DOCUMENTS)
    names = set(WebhookEvent._get_collection().index_information())
    assert "state_received" not in names
    assert "state_newest" in names
