"""GET /api/admin/billing/dead-letters/groups"""

import json
from datetime import timedelta
from urllib.parse import quote

import pytest
from bson import ObjectId

from billing_service.blueprints.wire import iso
from billing_service.documents import WebhookEvent
from billing_service.webhooks import ledger

URL = "/api/admin/billing/dead-letters/groups"


def found(client, headers, query=""):
    answer = client.get(f"{URL}?{query}", headers=headers)
    assert answer.status_code == 200, answer.json
    return answer.json


def test_it_works(client, admin, dead):
    first = dead(dead_version="0.1.0")
    dead(dead_version="0.1.0")
    last = dead(dead_version="0.2.0")
    other = dead(type="invoice.paid", fingerprint="KeyError: 'a'", reason="wrong_mode", dead_version=None)
    answer = found(client, admin)
    assert (answer["total"], answer["letters"], answer["isCapped"], answer["limit"]) == (2, 4, False, 20)
    assert answer["items"] == [
        {
            "fingerprint": "ValueError: no plan for #",
            "type": "customer.subscription.updated",
            "count": 3,
            "firstAt": iso(first.dead_at),
            "lastAt": iso(last.dead_at),
            "sampleEventId": last.event_id,
            "reasons": ["handler_failed"],
            "codeVersions": ["0.1.0", "0.2.0"],
        },
        {
            "fingerprint": "KeyError: 'a'",
            "type": "invoice.paid",
            "count": 1,
            "firstAt": iso(other.dead_at),
            "lastAt": iso(other.dead_at),
            "sampleEventId": other.event_id,
            "reasons": ["wrong_mode"],
            "codeVersions": [],
        },
    ]


def test_none_at_all(client, admin):
    assert found(client, admin) == {"items": [], "total": 0, "letters": 0, "isCapped": False, "limit": 20}


def test_a_death_without_an_error_is_a_group_too(client, admin, dead):
    dead(fingerprint=None, reason="wrong_mode", history=[])
    (group,) = found(client, admin)["items"]
    assert (group["fingerprint"], group["count"], group["reasons"]) == (None, 1, ["wrong_mode"])


def test_only_dead_ones_count(client, admin, dead, recorded):
    dead()
    closed = dead()
    ledger.close(closed.event_id, by="ada", note=None)
    recorded(state="failed", fingerprint="ValueError: no plan for #")
    assert found(client, admin)["letters"] == 1


def test_order_and_limit(client, admin, dead):
    for count, name in ((3, "often"), (2, "less"), (1, "latest")):
        for _ in range(count):
            dead(fingerprint=name)

    def names(query):
        return [each["fingerprint"] for each in found(client, admin, query)["items"]]

    assert names("") == ["often", "less", "latest"]
    assert names("sort=newest") == ["latest", "less", "often"]
    assert names("limit=1") == ["often"]
    assert found(client, admin, "limit=1")["total"] == 3


def test_filters_are_those_of_the_list(client, admin, dead):
    org_id = ObjectId()
    ours = dead(organization=org_id)
    other = dead(type="invoice.paid", reason="wrong_mode", fingerprint="KeyError: 'a&b=c' [$]")
    last = dead()
    queries = {
        f"orgId={org_id}": [ours],
        "type=invoice.paid": [other],
        "reason=wrong_mode": [other],
        "fingerprint=" + quote("KeyError: 'a&b=c' [$]"): [other],
        "fingerprint=KeyError": [],
        f"from={iso(other.dead_at)}": [other, last],
        f"to={iso(other.dead_at)}": [ours],
        f"from={iso(ours.dead_at)}&to={iso(last.dead_at)}&reason=handler_failed": [ours],
    }
    for query, expected in queries.items():
        answer = found(client, admin, query)
        assert answer["letters"] == len(expected), query
        assert {each["sampleEventId"] for each in answer["items"]} == {each.event_id for each in expected}, query
        listed = client.get(f"/api/admin/billing/dead-letters?{query}", headers=admin).json
        assert listed["total"] == answer["letters"], query


def test_an_event_that_dies_tells_the_version_of_its_last_attempt(client, admin, recorded):
    event = recorded()
    (held,) = ledger.claim(1)
    assert held.event_id == event.event_id
    assert ledger.bury(held, ValueError("no plan for 7"), ledger.Trial(), reason="handler_failed") == "dead"
    (group,) = found(client, admin)["items"]
    assert group["codeVersions"] == [WebhookEvent.objects.first().history[-1].code_version]
    detail = client.get(f"/api/admin/billing/events/{event.event_id}", headers=admin).json
    assert detail["deadVersion"] == group["codeVersions"][0]


def test_the_command_line_tells_the_same(client, admin, dead, command_line):
    for _ in range(2):
        dead(dead_version="0.1.0")
    dead(type="invoice.paid", fingerprint="KeyError: \x1b[31m")
    code, out, err = command_line("dead-letters", "groups", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == found(client, admin)
    code, out, _ = command_line("dead-letters", "groups", "--type", "invoice.paid")
    assert (code, out.splitlines()[-1]) == (0, "1 of 1 groups, 1 dead letters")
    assert "\x1b" not in out


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
        "sort=random",
        "sort[$gt]=",
        "cursor=x",
        "page=1",
        "state=dead",
        "orgId=x",
        "fingerprint=",
        "fingerprint=a%00",
        "type[$ne]=x",
        "from=now",
    ],
)
def test_it_rejects_bad_input(client, admin, query):
    answer = client.get(f"{URL}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_a_whole_day_apart_is_told_apart(client, admin, dead, runtime):
    old = dead(dead_at=runtime.clock() - timedelta(days=2))
    dead()
    answer = found(client, admin, f"to={iso(runtime.clock() - timedelta(days=1))}")
    assert [each["sampleEventId"] for each in answer["items"]] == [old.event_id]
