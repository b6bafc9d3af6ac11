"""GET /api/admin/billing/dead-letters"""

from datetime import timedelta
from urllib.parse import quote

import pytest
from bson import ObjectId

from billing_service.blueprints.wire import iso
from billing_service.webhooks import ledger

URL = "/api/admin/billing/dead-letters"


def ids(answer):
    assert answer.status_code == 200, answer.json
    return [item["eventId"] for item in answer.json["items"]]


def test_it_works(client, admin, dead, runtime):
    org_id = ObjectId()
    event = dead(organization=org_id, created=runtime.clock() - timedelta(days=31))
    answer = client.get(URL, headers=admin).json
    assert (answer["total"], answer["limit"], answer["page"], answer["nextCursor"]) == (1, 20, 1, None)
    (letter,) = answer["items"]
    age = letter.pop("age")
    assert 31 * 86_400 <= age < 31 * 86_400 + 60
    assert letter == {
        "eventId": event.event_id,
        "type": "customer.subscription.updated",
        "created": iso(event.created),
        "attempts": 5,
        "lastError": {
            "at": iso(event.history[0].at),
            "errorClass": "ValueError",
            "message": "no plan for [masked]",
        },
        "orgId": str(org_id),
        "orgName": None,
        "reason": "handler_failed",
        "fingerprint": "ValueError: no plan for #",
        "deadAt": iso(event.dead_at),
        "atStripe": False,
    }


def test_only_dead_ones_are_shown_the_last_that_died_first(client, admin, dead, recorded):
    first, closed, last = dead(), dead(), dead()
    for state in ("received", "processing", "failed", "succeeded"):
        recorded(state=state)
    ledger.close(closed.event_id, by="ada", note=None)
    answer = client.get(URL, headers=admin)
    assert ids(answer) == [last.event_id, first.event_id]
    assert answer.json["items"][0]["atStripe"] is True


def test_filters(client, admin, dead):
    org_id = ObjectId()
    ours = dead(organization=org_id)
    other = dead(type="invoice.paid", reason="wrong_mode", fingerprint="KeyError: 'a&b=c' [$]")
    last = dead()

    def found(query):
        return ids(client.get(f"{URL}?{query}", headers=admin))

    assert found(f"orgId={org_id}") == [ours.event_id]
    assert found("type=invoice.paid") == [other.event_id]
    assert found("reason=wrong_mode") == [other.event_id]
    assert found("fingerprint=" + quote("KeyError: 'a&b=c' [$]")) == [other.event_id]
    assert found("fingerprint=KeyError") == []
    assert found(f"from={iso(other.dead_at)}") == [last.event_id, other.event_id]
    assert found(f"to={iso(other.dead_at)}") == [ours.event_id]
    assert found(f"from={iso(ours.dead_at)}&to={iso(last.dead_at)}&reason=handler_failed") == [ours.event_id]


@pytest.mark.parametrize("limit", [1, 4, 11, 12])
def test_pages_and_cursors_show_each_one_once(client, admin, dead, limit):
    at = dead().dead_at
    for number in range(11):
        dead(dead_at=at + timedelta(seconds=number // 3))
    by_page, number = [], 1
    while found := ids(client.get(f"{URL}?limit={limit}&page={number}", headers=admin)):
        by_page += found
        number += 1
    by_cursor, cursor = [], ""
    while cursor is not None:
        answer = client.get(f"{URL}?limit={limit}{cursor and f'&cursor={cursor}'}", headers=admin)
        by_cursor += ids(answer)
        assert answer.json["page"] == (None if cursor else 1)
        cursor = answer.json["nextCursor"]
    assert len(set(by_page)) == 12
    assert by_page == by_cursor


def test_a_page_beyond_the_last_is_empty(client, admin, dead):
    dead()
    answer = client.get(f"{URL}?page=100000&limit=100", headers=admin)
    assert (ids(answer), answer.json["total"], answer.json["page"]) == ([], 1, 100_000)


def test_a_cursor_goes_on_from_a_page(client, admin, dead):
    for _ in range(5):
        dead()
    second = client.get(f"{URL}?page=2&limit=2", headers=admin)
    rest = client.get(f"{URL}?limit=2&cursor={second.json['nextCursor']}", headers=admin)
    assert len(ids(rest)) == 1
    assert not set(ids(rest)) & set(ids(second))


def test_it_needs_a_token(client):
    assert client.get(URL).status_code == 401


def test_it_needs_the_permission(client, token):
    assert client.get(URL, headers=token("service")).status_code == 403
    assert client.get(URL, headers=token("auditor")).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=1.5",
        "page=one",
        "page=100001",
        "page=99999999999999999999999",
        "page=1&cursor=WzEsMl0=",
        "limit=0",
        "limit=101",
        "limit=5&limit=6",
        "cursor=forged",
        "state=dead",
        "orgId=x",
        "orgId[$gt]=",
        "type[$ne]=x",
        "fingerprint=",
        "fingerprint=a%00",
        "fingerprint=" + "a" * 201,
        "reason[$exists]=true",
        "from=now",
        "to=2026-13-01T00:00:00Z",
    ],
)
def test_it_rejects_bad_input(client, admin, query):
    answer = client.get(f"{URL}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"]
