"""GET /api/admin/billing/reconciliations"""

from datetime import UTC, datetime, timedelta

import pytest
from mongoengine.connection import get_db

from billing_service.documents import ReconciliationRun

URL = "/api/admin/billing/reconciliations"
START = datetime(2026, 1, 4, 3, tzinfo=UTC)


@pytest.fixture
def runs(app):
    """Makes so many runs that are over, one a week."""

    def make(count):
        fields = {"trigger": "schedule", "state": "completed", "phase": "resolving", "findings": {"status": 2}}
        ReconciliationRun._get_collection().insert_many(
            [fields | {"started_at": START + timedelta(days=7 * number)} for number in range(count)]
        )

    return make


def test_it_works(client, admin, runs):
    runs(25)
    answer = client.get(URL, headers=admin)
    assert answer.status_code == 200
    assert (len(answer.json["items"]), answer.json["total"]) == (20, 25)
    newest = answer.json["items"][0]
    assert (newest["startedAt"], newest["state"], newest["divergences"], newest["findings"]) == (
        "2026-06-21T03:00:00.000Z",
        "completed",
        2,
        {"status": 2},
    )
    assert "windows" not in newest
    assert "fence" not in newest


def test_the_cursor_shows_each_row_once(client, admin, runs):
    runs(9)
    ids, cursor = [], ""
    while cursor is not None:
        answer = client.get(f"{URL}?limit=4{cursor and '&cursor=' + cursor}", headers=admin).json
        ids += [each["id"] for each in answer["items"]]
        cursor = answer["nextCursor"]
    assert len(ids) == len(set(ids)) == 9


def test_it_reads_by_index_what_it_shows(client, admin, runs):
    runs(500)
    database = get_db()
    database.command("profile", 2)
    assert client.get(f"{URL}?limit=3", headers=admin).status_code == 200
    database.command("profile", 0)
    seen = list(database.system.profile.find({"ns": f"{database.name}.reconciliation_runs"}))
    database.system.profile.drop()
    [find] = [each for each in seen if "find" in each["command"]]
    assert "IXSCAN { started_at: -1, _id: -1 }" in find["planSummary"]
    assert find["docsExamined"] <= 4
    assert all(each["planSummary"].startswith("IXSCAN") for each in seen)


def test_it_needs_a_token(client):
    assert client.get(URL).status_code == 401


def test_it_needs_the_permission(client, token):
    answer = client.get(URL, headers=token("service"))
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "cursor=x", "state=running", "limit=x"])
def test_it_rejects_bad_input(client, admin, query):
    answer = client.get(f"{URL}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
