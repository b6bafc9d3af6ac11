"""GET /api/admin/billing/refunds"""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from billing_service.documents import RefundRequest

URL = "/api/admin/billing/refunds"
START = datetime(2026, 1, 1, tzinfo=UTC)
STATES = ("succeeded", "unknown", "rejected", "accepted", "failed")


@pytest.fixture
def requests(app):
    """25 refund requests, two in each second, by two actors, of every state but pending; returns the organization."""
    org_id = ObjectId()
    for number in range(25):
        at = START + timedelta(seconds=number // 2)
        RefundRequest(
            refund_request_id=f"request-{number}",
            organization=org_id if number % 5 else ObjectId(),
            asked={"charge_id": "ch_1", "amount_cents": None, "reason": "duplicate"},
            parameters={"charge": "ch_1"},
            charge=f"ch_{number % 3}",
            amount=number + 1,
            currency="usd",
            actor=("ada", "bob")[number % 2],
            note="=1+1" if number == 24 else None,
            state=STATES[number % 5],
            operation=ObjectId(),
            lease_until=at,
            created_at=at,
            updated_at=at,
            sent_at=at,
        ).save()
    return org_id


def listed(client, headers, query=""):
    answer = client.get(f"{URL}?{query}", headers=headers)
    assert answer.status_code == 200, answer.json
    return answer.json


def test_it_works(client, admin, requests):
    answer = listed(client, admin)
    assert (len(answer["items"]), answer["total"], answer["totalIsCapped"], answer["limit"]) == (20, 25, False, 20)
    newest = answer["items"][0]
    assert (newest["refundRequestId"], newest["createdAt"]) == ("request-24", "2026-01-01T00:00:12.000Z")
    assert (newest["chargeId"], newest["amount"], newest["actor"], newest["state"]) == ("ch_0", 25, "ada", "failed")
    assert newest["asked"] == {"chargeId": "ch_1", "amountCents": None, "reason": "duplicate"}
    assert not {"parameters", "operation"} & set(newest)


def test_the_cursor_shows_each_row_once(client, admin, requests):
    found, cursor = [], ""
    while True:
        answer = listed(client, admin, f"limit=7{cursor}")
        found += [item["refundRequestId"] for item in answer["items"]]
        if not answer["nextCursor"]:
            break
        cursor = f"&cursor={answer['nextCursor']}"
    assert len(found) == len(set(found)) == 25


def test_filters(client, admin, requests):
    totals = {
        "state=unknown": 5,
        "state=pending": 0,
        f"orgId={requests}": 20,
        f"orgId={ObjectId()}": 0,
        "actor=bob": 12,
        "chargeId=ch_0": 9,
        "refundRequestId=request-7": 1,
        "from=2026-01-01T00:00:02Z&to=2026-01-01T00:00:04Z": 4,
        f"state=succeeded&orgId={requests}": 0,
        "state=unknown&actor=bob": 3,
    }
    assert {query: listed(client, admin, query)["total"] for query in totals} == totals


def test_what_nobody_knows_of_is_found_by_one_filter(client, admin, requests):
    items = listed(client, admin, "state=unknown")["items"]
    assert {item["state"] for item in items} == {"unknown"}


def test_all_that_matches_can_be_downloaded(client, admin, requests):
    answer = client.get(f"{URL}?format=csv", headers=admin)
    assert answer.content_type == "text/csv; charset=utf-8"
    assert 'filename="refunds-' in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert (len(rows), rows[0]["refundRequestId"], rows[0]["amount"], rows[0]["note"]) == (
        25,
        "request-24",
        "25",
        "'=1+1",
    )
    assert list(rows[0]) == list(listed(client, admin)["items"][0])
    filtered = client.get(f"{URL}?format=csv&state=unknown", headers=admin).text
    assert len(list(csv.DictReader(io.StringIO(filtered)))) == 5


def test_it_needs_a_token(client):
    assert client.get(URL).status_code == 401
    assert client.get(f"{URL}?format=csv").status_code == 401


def test_it_needs_the_permission(client, token):
    assert client.get(URL, headers=token("service")).status_code == 403
    assert client.get(f"{URL}?format=csv", headers=token("service")).status_code == 403
    assert client.get(URL, headers=token("auditor")).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "state=lost",
        "orgId=1",
        "actor=",
        "chargeId=pi_1",
        "chargeId[$gt]=",
        "refundRequestId=x",
        "from=yesterday",
        "to=2026-01-01T00:00:00",
        "cursor=forged",
        "limit=0",
        "sort=amount",
        "format=xls",
        "format=csv&limit=5",
    ],
)
def test_it_rejects_bad_input(client, admin, query):
    answer = client.get(f"{URL}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"]
