"""Every documented operation under input that means harm: a 4xx that names the culprit, and nothing written.

The operations and what they take come from the OpenAPI document, so that a new one is tried as soon as it is there.
"""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from mongoengine.connection import get_db

MEBIBYTE = 1024 * 1024
ORG = "5" * 24

# A valid value of each member of a body, by its name; a new member needs a row.
SAMPLES: dict[str, Any] = {
    "amountCents": 100,
    "breakdown": {"search": 1},
    "chargeId": "ch_1",
    "confirm": 1,
    "cookies": False,
    "deadFrom": "2026-01-01T00:00:00Z",
    "deadTo": "2030-01-01T00:00:00Z",
    "disabled": False,
    "disputeId": "du_1",
    "email": "ada@example.com",
    "eventId": "evt_1",
    "fingerprint": "KeyError: #",
    "force": False,
    "invoiceNow": False,
    "key": "usage-1",
    "limit": 5,
    "mode": "now",
    "name": "Acme",
    "note": "why",
    "orgId": ORG,
    "password": "a long enough password",
    "planId": "pro",
    "prorate": False,
    "reason": "duplicate",
    "receivedFrom": "2026-01-01T00:00:00Z",
    "receivedTo": "2030-01-01T00:00:00Z",
    "refreshToken": "x",
    "refundRequestId": "refund-0001",
    "roles": ["support"],
    "selection": "x",
    "slug": "acme",
    "state": "dead",
    "stopAfter": 5,
    "stripeSubscriptionId": "sub_1",
    "type": "invoice.paid",
    "units": 1,
    "until": "2030-01-01T00:00:00Z",
}
PATHS = {
    "orgId": ORG,
    "eventId": "evt_1",
    "jobId": "replay-evt_1-1",
    "userId": ORG,
    "findingId": ORG,
    "batchId": ORG,
    "reconciliationId": ORG,
}

# What no member of a body may be, whatever its type.
HOSTILE = {
    "operator": {"$gt": ""},
    "operators": {"$where": "sleep(1000)", "$ne": None},
    "list": [],
    "lists": [[["x"]]],
    "null byte": "a\x00b",
    "escape": "\x1b[31mred",
    "half a surrogate": "\ud800",
    "deep": json.loads("[" * 500 + "]" * 500),
    "huge number": 10**40,
    "a float": -1.5,
}
TEXT = {
    "null byte": "a%00b",
    "escape": "%1b%5b31m",
    "no UTF-8": "%ED%A0%80",
    "long": "x" * 6_000,
}
OPERATORS = ["%7B%22%24gt%22%3A%22%22%7D", "%24where", "%5B%24ne%5D", "..%2f..%2f", "%27%20or%201%3D1"]


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    query: tuple[str, ...]
    headers: tuple[str, ...]
    body: dict[str, Any] | None

    @property
    def url(self) -> str:
        return self.path.format(**PATHS)

    @property
    def sample(self) -> dict[str, Any]:
        return {name: SAMPLES[name] for name in self.body or {}}

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@pytest.fixture
def operations(client):
    document = client.get("/api/openapi.json").json
    found = []
    for path, item in document["paths"].items():
        shared = item.get("parameters", [])
        for method, told in item.items():
            if method == "parameters":
                continue
            parameters = [*shared, *told.get("parameters", [])]
            named = {place: tuple(each["name"] for each in parameters if each["in"] == place) for place in PLACES}
            found.append(Operation(method.upper(), path, named["query"], named["header"], body_of(told, document)))
    assert len(found) > 25
    return found


PLACES = ("query", "header", "path")


def body_of(told, document):
    content = told.get("requestBody", {}).get("content", {})
    if not content:
        return None
    schema = content["application/json"]["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema.get("properties", {})


@pytest.fixture
def unwritten(app):
    """Everything that is stored, failed attempts to sign in aside; equal means that nothing was written."""

    def picture():
        database = get_db()
        names = set(database.list_collection_names()) - {"login_throttles"}
        return {name: sorted(map(str, database[name].find())) for name in sorted(names)}

    return picture


@pytest.fixture
def fresh(token):
    """Headers of an admin of whom nobody has heard, so that no limit is reached."""
    return lambda number: token("admin", actor=f"admin {number}")


def refused(answer, where, *, statuses=(400, 401, 404, 409, 413, 414, 415, 422, 431)):
    """Check that an answer is a refusal with its reason."""
    assert answer.status_code in statuses, (where, answer.status_code, answer.text[:300])
    assert answer.content_type == "application/problem+json", where
    assert answer.json["code"], where
    assert answer.json["detail"], where
    assert "Traceback" not in answer.text, where


def test_every_member_of_a_body_has_a_sample(operations):
    missing = {name for each in operations for name in each.body or {}} - SAMPLES.keys()
    assert missing == set()
    assert {name for each in operations for name in PATHS if f"{{{name}}}" in each.path} >= {"orgId", "eventId"}


def test_a_hostile_member_of_a_body_is_refused_by_name(client, operations, fresh, unwritten):
    before, tried = unwritten(), 0
    for number, operation in enumerate(operations):
        for name in operation.body or {}:
            for label, value in HOSTILE.items():
                where = (str(operation), name, label)
                body = json.dumps(operation.sample | {name: value})
                answer = client.open(
                    operation.url,
                    method=operation.method,
                    headers=fresh(number),
                    data=body,
                    content_type="application/json",
                )
                refused(answer, where, statuses=(422,))
                assert name in answer.json["errors"], (where, answer.json)
                tried += 1
    assert tried > 300
    assert unwritten() == before


def test_an_unknown_member_of_a_body_is_refused_by_name(client, operations, fresh, unwritten):
    before = unwritten()
    for number, operation in enumerate(operations):
        if operation.body is None:
            continue
        for name in ("$where", "__proto__", "org_id", "dryRun", "a.b", "\x00"):
            body = operation.sample | {name: True}
            answer = client.open(operation.url, method=operation.method, headers=fresh(number), json=body)
            refused(answer, (str(operation), name), statuses=(422,))
            assert name in answer.json["errors"], (str(operation), name)
    assert unwritten() == before


WHOLE = {
    "no JSON": (b"{'a': 1}", 400),
    "half of it": (b'{"note": "x', 400),
    "a list": (b"[]", 400),
    "a text": (b'"x"', 400),
    "null": (b"null", 400),
    "no number": (b'{"note": NaN}', 400),
    "twice the same": (b'{"note": "a", "note": "b"}', 400),
    "not UTF-8": (b'{"note": "\xff\xfe"}', 400),
    "deep": (b'{"note": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", 400),
    "too large": (b'{"note": "' + b"x" * MEBIBYTE + b'"}', 413),
}


@pytest.mark.parametrize("label", WHOLE)
def test_a_body_that_is_none_is_refused(client, operations, fresh, unwritten, label):
    before, (content, status) = unwritten(), WHOLE[label]
    for number, operation in enumerate(operations):
        if operation.body is None:
            continue
        answer = client.open(
            operation.url,
            method=operation.method,
            headers=fresh(number),
            data=content,
            content_type="application/json",
        )
        refused(answer, (str(operation), label), statuses=(status,))
    assert unwritten() == before


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", "a/b;c"]
)
def test_a_body_of_another_type_is_refused(client, operations, fresh, unwritten, kind):
    before = unwritten()
    for number, operation in enumerate(operations):
        if operation.body is None:
            continue
        body = json.dumps(operation.sample)
        answer = client.open(
            operation.url, method=operation.method, headers=fresh(number), data=body, content_type=kind
        )
        refused(answer, (str(operation), kind), statuses=(415,))
    assert unwritten() == before


def test_a_hostile_text_in_the_query_is_refused_by_name(client, operations, fresh, unwritten):
    before, tried = unwritten(), 0
    for number, operation in enumerate(operations):
        for name in operation.query:
            for label, value in TEXT.items():
                if operation.method != "GET" and (name != "note" or label == "no UTF-8"):
                    continue  # it could be taken for a call that is to be carried out
                answer = client.open(f"{operation.url}?{name}={value}", method=operation.method, headers=fresh(number))
                where = (str(operation), name, label)
                if label == "no UTF-8":  # it was read as other letters, which are a text like any
                    assert answer.status_code < 500, where
                    continue
                refused(answer, where, statuses=(422,))
                assert answer.json["errors"], where
                tried += 1
    assert tried > 100
    assert unwritten() == before


def test_an_operator_in_the_query_is_a_text_or_refused(client, operations, fresh, unwritten):
    before = unwritten()
    for number, operation in enumerate(operations):
        if operation.method != "GET":
            continue
        for name in operation.query:
            for value in OPERATORS:
                answer = client.get(f"{operation.url}?{name}={value}", headers=fresh(number))
                where = (str(operation), name, value)
                if answer.status_code != 200:
                    refused(answer, where)
                elif answer.is_json and "items" in answer.json:
                    assert answer.json["items"] == [], where
    assert unwritten() == before


def test_an_unknown_parameter_is_refused_by_name(client, operations, fresh, unwritten):
    before = unwritten()
    for number, operation in enumerate(operations):
        if operation.path.startswith("/api/auth/"):
            continue
        known = operation.query[0] if operation.query else "limit"
        for name in (f"{known}[$ne]", "$where", "__proto__", "Limit", "dry_run"):
            answer = client.open(
                operation.url,
                method=operation.method,
                headers=fresh(number),
                query_string={name: "1"},
                json=operation.sample if operation.body is not None else None,
            )
            where = (str(operation), name)
            refused(answer, where, statuses=(422,))
            assert name in answer.json["errors"], (where, answer.json)
    assert unwritten() == before


def test_a_parameter_that_is_there_twice_is_refused(client, operations, fresh, unwritten):
    before = unwritten()
    for number, operation in enumerate(operations):
        for name in operation.query:
            answer = client.open(
                f"{operation.url}?{name}=1&{name}=2",
                method=operation.method,
                headers=fresh(number),
                json=operation.sample if operation.body is not None else None,
            )
            refused(answer, (str(operation), name), statuses=(422,))
            assert name in answer.json["errors"], (str(operation), name)
    assert unwritten() == before


@pytest.mark.parametrize("value", [*TEXT.values(), *OPERATORS, "%0d%0aSet-Cookie:%20a=b", "%2e%2e", "*", "null", "-1"])
def test_a_hostile_path_is_refused(client, operations, fresh, unwritten, value):
    before, tried = unwritten(), 0
    for number, operation in enumerate(operations):
        for name in PATHS:
            if f"{{{name}}}" not in operation.path:
                continue
            url = operation.path.replace(f"{{{name}}}", value).format(**PATHS)
            answer = client.open(
                url,
                method=operation.method,
                headers=fresh(number),
                json=operation.sample if operation.body is not None else None,
            )
            refused(answer, (str(operation), name, value), statuses=(400, 404, 405, 414, 422))
            assert "Set-Cookie" not in answer.headers
            tried += 1
    assert tried > 8
    assert unwritten() == before


KEYS = ["", " ", "a b", "k" * 256, "schlüssel", "a\tb", "\x7f"]


def test_a_hostile_idempotency_key_is_refused(client, operations, fresh, unwritten):
    before, tried = unwritten(), 0
    for number, operation in enumerate(operations):
        if "Idempotency-Key" not in operation.headers:
            continue
        for key in KEYS:
            answer = client.open(
                operation.url,
                method=operation.method,
                headers=fresh(number) | {"Idempotency-Key": key},
                json=operation.sample if operation.body is not None else None,
            )
            where = (str(operation), key)
            refused(answer, where, statuses=(422,))
            assert "Idempotency-Key" in answer.json["errors"], (where, answer.json)
            tried += 1
    assert tried > 50
    assert unwritten() == before


AUTHORIZATIONS = [
    "",
    "Bearer",
    "Bearer ",
    "Basic YTpi",
    "Bearer a.b.c",
    "Bearer " + "x" * 8_000,
    "Bearer \x7f",
    "x y z",
]


@pytest.mark.parametrize("given", AUTHORIZATIONS)
def test_a_hostile_authorization_is_401(client, operations, unwritten, given):
    before = unwritten()
    for operation in operations:
        if operation.path.startswith("/api/auth/"):
            continue
        answer = client.open(
            operation.url,
            method=operation.method,
            headers={"Authorization": given},
            json=operation.sample if operation.body is not None else None,
        )
        refused(answer, (str(operation), given), statuses=(401, 422))
    assert unwritten() == before


@pytest.mark.parametrize("given", ["x" * 10_000, "a\tb", "../../etc", "<script>", '{"$gt": ""}', "ü"])
def test_a_hostile_request_id_is_not_taken_over(client, operations, fresh, given):
    for number, operation in enumerate(operations):
        if operation.method != "GET":
            continue
        answer = client.get(operation.url, headers=fresh(number) | {"X-Request-Id": given})
        assert answer.status_code < 500, str(operation)
        assert given not in answer.headers.get("X-Request-Id", ""), str(operation)
