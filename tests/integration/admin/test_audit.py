"""GET /api/admin/billing/audit"""

from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from billing_service.documents import AdminAction

URL = "/api/admin/billing/audit"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def actions(app):
    """25 actions, two in each second, by two actors."""
    org_id = ObjectId()
    for number in range(25):
        AdminAction(
            operation=ObjectId(),
            phase="outcome",
            at=START + timedelta(seconds=number // 2),
            actor=("ada", "bob")[number % 2],
            action="sync",
            target=str(org_id),
            organization=org_id,
            outcome="succeeded",
            before={"plan": "free", "organization": org_id, "candidates": []},
            after={"plan": "pro", "organization": org_id, "candidates": []},
        ).save()
    return org_id


def pages(client, headers, query):
    cursor, found = "", []
    while True:
        answer = client.get(f"{URL}?{query}{cursor}", headers=headers)
        assert answer.status_code == 200
        found.append(answer.json)
        if not answer.json["nextCursor"]:
            return found
        cursor = f"&cursor={answer.json['nextCursor']}"


def test_it_works(client, admin, actions):
    answer = client.get(URL, headers=admin).json
    assert (len(answer["items"]), answer["total"], answer["totalIsCapped"], answer["limit"]) == (20, 25, False, 20)
    newest = answer["items"][0]
    assert newest["at"] == "2026-01-01T00:00:12.000Z"
    assert (newest["before"]["plan"], newest["after"]["plan"], newest["orgId"]) == ("free", "pro", str(actions))


def test_the_cursor_shows_each_row_once(client, admin, actions):
    found = pages(client, admin, "limit=7")
    ids = [item["id"] for page in found for item in page["items"]]
    assert (len(found), len(ids), len(set(ids))) == (4, 25, 25)


def test_filters(client, admin, actions):
    assert client.get(f"{URL}?actor=bob", headers=admin).json["total"] == 12
    assert client.get(f"{URL}?orgId={actions}", headers=admin).json["total"] == 25
    assert client.get(f"{URL}?orgId={ObjectId()}", headers=admin).json["total"] == 0
    between = "from=2026-01-01T00:00:02Z&to=2026-01-01T00:00:04%2B00:00"
    assert client.get(f"{URL}?{between}", headers=admin).json["total"] == 4


def test_it_needs_a_token(client):
    assert client.get(URL).status_code == 401


def test_it_needs_the_permission(client, token):
    assert client.get(URL, headers=token("service")).status_code == 403
    assert client.get(URL, headers=token("auditor")).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=ten",
        "orgId=1",
        "actor=",
        "actro=ada",
        "from=yesterday",
        "from=2026-01-01T00:00:00",
        "cursor=forged",
        "cursor=WzEsMl0=",
        "cursor=W251bGwsbnVsbF0=",
        "page=2",
    ],
)
def test_it_rejects_bad_input(client, admin, query):
    answer = client.get(f"{URL}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"]
