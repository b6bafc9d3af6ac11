"""GET /api/admin/billing/audit"""

import csv
import io
import json
import re
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
    assert client.get(f"{URL}?target={actions}&outcome=succeeded", headers=admin).json["total"] == 25
    assert client.get(f"{URL}?outcome=failed", headers=admin).json["total"] == 0
    AdminAction.objects.first().modify(set__request_id="r-1")
    assert client.get(f"{URL}?requestId=r-1", headers=admin).json["total"] == 1
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
        "outcome=maybe",
        "target=",
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


def downloaded(client, headers, query=""):
    answer = client.get(f"{URL}?format=csv{query}", headers=headers)
    assert answer.status_code == 200
    assert answer.content_type == "text/csv; charset=utf-8"
    return answer, list(csv.DictReader(io.StringIO(answer.text)))


def test_all_that_matches_can_be_downloaded(client, admin, actions):
    answer, rows = downloaded(client, admin)
    assert re.fullmatch(r'attachment; filename="audit-\d{8}T\d{6}Z\.csv"', answer.headers["Content-Disposition"])
    listed = [item for page in pages(client, admin, "limit=7") for item in page["items"]]
    assert [row["id"] for row in rows] == [item["id"] for item in listed]
    assert list(rows[0]) == list(listed[0])
    assert rows[0]["at"] == "2026-01-01T00:00:12.000Z"
    assert json.loads(rows[0]["after"])["plan"] == "pro"
    assert (rows[0]["note"], rows[0]["orgId"]) == ("", str(actions))
    _, filtered = downloaded(client, admin, "&actor=bob")
    assert (len(filtered), {row["actor"] for row in filtered}) == (12, {"bob"})


def test_a_spreadsheet_takes_no_text_of_a_download_for_a_formula(client, admin, actions):
    hostile = ["=1+1", "+1", "-1", "@sum(a1)", "\t=1", 'a "quoted", text\nof two lines']
    for note in hostile:
        AdminAction.objects.first().modify(set__note=note)
        _, rows = downloaded(client, admin)
        (shown,) = [row["note"] for row in rows if row["note"]]
        assert shown == (note if note[0] == "a" else f"'{note}")


def test_a_download_takes_no_page(client, admin):
    for query in ("limit=5", "cursor=x"):
        answer = client.get(f"{URL}?format=csv&{query}", headers=admin)
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
        assert list(answer.json["errors"]) == [query.split("=")[0]]
    assert client.get(f"{URL}?format=xls", headers=admin).status_code == 422


def test_a_download_needs_the_permission(client, token):
    assert client.get(f"{URL}?format=csv").status_code == 401
    assert client.get(f"{URL}?format=csv", headers=token("service")).status_code == 403
