"""Every mutation of the URL map takes a dry run, a note and an Idempotency-Key, and does with each what it says.

What is tried comes from the OpenAPI document; a new mutation needs one row, and the fixture it names.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from mongoengine.connection import get_db
from redis import Redis

from billing_service.blueprints.wire import iso
from billing_service.documents import AdminAction, AdminOperation, Finding, LedgerEntry, ReconciliationRun
from billing_service.jobs import wakeups

BASE = "/api/admin/billing"
READING = {"GET", "HEAD", "OPTIONS"}

# The fixture that makes a request which is accepted, and each time another one.
MUTATIONS = {
    "DELETE /dead-letters/{eventId}": "close",
    "PATCH /plans/bump": "bump",
    "PATCH /users/{userId}": "change_user",
    "POST /cancel/{orgId}": "cancel",
    "POST /dispute/credit/{orgId}": "dispute_credit",
    "POST /findings/{findingId}/acknowledge": "acknowledge",
    "POST /link/{orgId}": "link",
    "POST /reconcile": "reconcile",
    "POST /refund": "refund",
    "POST /sync/{orgId}": "sync",
    "POST /users": "create_user",
    "POST /webhook/replay": "replay",
    "POST /webhook/replay-batch": "replay_batch",
    "POST /webhook/replay-batch/{batchId}/cancel": "cancel_batch",
}
# What changes something elsewhere, and why it is none of these.
OTHERS = {
    "POST /api/auth/login": "nobody is signed in yet",
    "POST /api/auth/logout": "twice is once by the token itself",
    "POST /api/auth/refresh": "a refresh token is used once",
    "POST /api/billing/webhook": "Stripe's; once by the event's id",
    "PUT /api/billing/organizations/{orgId}": "the SaaS's own; twice is once by what it is",
    "POST /api/billing/usage": "the SaaS's own; twice is once by its key",
}
NUMBERS = count(1)


@dataclass(frozen=True)
class Call:
    """A request and what a dry run of it takes, if that is not the same; how often it writes to Stripe."""

    method: str
    path: str
    body: dict[str, Any] | None = field(default_factory=dict)
    selecting: dict[str, Any] | None = None
    at_stripe: int = 0

    def send(self, client, headers, *, dry_run=False, note=None):
        query: dict[str, Any] = {"dryRun": "true"} if dry_run else {}
        body = self.selecting if dry_run and self.selecting is not None else self.body
        if note and body is None:
            query |= {"note": note}
        elif note:
            body = body | {"note": note}
        return client.open(BASE + self.path, method=self.method, headers=headers, query_string=query, json=body)


@pytest.fixture
def close(dead):
    return lambda: Call("DELETE", f"/dead-letters/{dead().event_id}", None)


@pytest.fixture
def bump(organization):
    return lambda: Call("PATCH", "/plans/bump", {"orgId": str(organization()), "planId": "business"})


@pytest.fixture
def create_user(app):
    def make():
        email = f"person{next(NUMBERS)}@example.com"
        return Call("POST", "/users", {"email": email, "password": "correct horse battery", "roles": ["support"]})

    return make


@pytest.fixture
def change_user(client, admin, create_user):
    def make():
        made = create_user().send(client, admin).json["updated"]["id"]
        return Call("PATCH", f"/users/{made}", {"roles": ["auditor"]})

    return make


@pytest.fixture
def cancel(billed):
    return lambda: Call("POST", f"/cancel/{billed().org_id}", at_stripe=1)


@pytest.fixture
def dispute_credit(disputed):
    def make():
        it = disputed()
        body = {"chargeId": it.charge.id, "amountCents": 4_900, "refundRequestId": f"credit-{it.org_id}"}
        return Call("POST", f"/dispute/credit/{it.org_id}", body)

    return make


@pytest.fixture
def acknowledge(runtime, organization):
    def make():
        now = runtime.clock()
        told = {"fingerprint": str(next(NUMBERS)), "kind": "status", "severity": "high", "state": "open"}
        found = Finding(organization=organization(), first_seen_at=now, last_seen_at=now, **told).save()
        until = iso((now + timedelta(days=7)).replace(microsecond=0))
        return Call("POST", f"/findings/{found.pk}/acknowledge", {"until": until})

    return make


@pytest.fixture
def link(organization, stripe, subscribe):
    def make():
        subscription = subscribe(stripe.customers.create({}).id)
        return Call("POST", f"/link/{organization()}", {"stripeSubscriptionId": subscription})

    return make


@pytest.fixture
def reconcile(organization):
    return lambda: Call("POST", "/reconcile", {"orgId": str(organization())})


@pytest.fixture
def refund(billed, stripe):
    def make():
        charge = stripe.charges.list({"customer": billed().customer}).data[0].id
        body = {"chargeId": charge, "refundRequestId": f"refund-{charge}", "amountCents": 1_200}
        return Call("POST", "/refund", body, at_stripe=1)

    return make


@pytest.fixture
def sync(billed):
    return lambda: Call("POST", f"/sync/{billed(stored=False).org_id}")


@pytest.fixture
def replay(lost):
    return lambda: Call("POST", "/webhook/replay", {"eventId": lost(1)[0][1]})


@pytest.fixture
def replay_batch(client, admin, lost):
    def make():
        [(it, _)] = lost(1)
        wanted = {"orgId": str(it.org_id)}
        chosen = Call("POST", "/webhook/replay-batch", wanted).send(client, admin, dry_run=True).json
        told = {"selection": chosen["selection"], "confirm": chosen["count"]}
        return Call("POST", "/webhook/replay-batch", told, selecting=wanted)

    return make


@pytest.fixture
def cancel_batch(client, admin, replay_batch):
    def make():
        begun = replay_batch().send(client, admin).json["batchId"]
        return Call("POST", f"/webhook/replay-batch/{begun}/cancel")

    return make


@pytest.fixture(params=MUTATIONS.values(), ids=MUTATIONS.keys())
def make(request):
    """Makes requests of one mutation, which are accepted."""
    wakeups.silence.end()
    return request.getfixturevalue(request.param)


@pytest.fixture
def untouched(servers, sandbox):
    """Within it nothing at all is written: to no collection, to no queue, to nothing at Stripe."""

    def picture():
        database, redis = get_db(), Redis.from_url(servers.redis.url)
        rows = {name: sorted(map(str, database[name].find())) for name in database.list_collection_names()}
        queued = {key: redis.dump(key) for key in redis.scan_iter("rq:*")}  # the rest counts and limits
        return {name: each for name, each in rows.items() if each} | {"redis": queued}

    class Untouched:
        def __enter__(self):
            self.before = picture()
            sandbox.clear_requests()

        def __exit__(self, kind, error, trace):
            if kind is None:
                assert picture() == self.before
                assert written_at_stripe(sandbox) == []

    return Untouched()


@pytest.fixture
def demand(app):
    """From its call on a note is required."""
    before = app.extensions["billing"]

    def start():
        app.extensions["billing"] = replace(before, settings=replace(before.settings, require_note=True))

    yield start
    app.extensions["billing"] = before


def written_at_stripe(sandbox):
    asked = sandbox.requests()["items"]
    return [(each["method"], each["path"]) for each in asked if each["method"] != "GET"]


def rows_of(key):
    """What the audit log has of the operation of a key."""
    operation = AdminOperation.objects.get(idempotency_key=key)
    rows = AdminAction.objects(operation=operation.pk).order_by("id")
    return operation, [(row.phase, row.outcome, row.note) for row in rows]


def told_of(document):
    """(name, operation, its parameters by place and name) of each mutation of the document."""
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"} - {each.lower() for each in READING}:
            told = item[method]
            parameters = [*item.get("parameters", []), *told.get("parameters", [])]
            yield f"{method.upper()} {path}", told, {(each["in"], each["name"]): each for each in parameters}


def members(told, document):
    """The members of an operation's body."""
    schema = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema.get("properties", {})


def test_every_mutation_is_documented_and_tried_here(app, client):
    routes = {
        f"{method} {rule.rule.replace('<org_id:', '<').replace('<', '{').replace('>', '}')}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods - READING
    }
    assert routes == {f"{name.replace(' ', f' {BASE}')}" for name in MUTATIONS} | OTHERS.keys()
    documented = {name for name, *_ in told_of(client.get("/api/openapi.json").json)}
    assert routes - documented == {"POST /api/billing/webhook"}


def test_every_mutation_says_what_it_takes(client):
    document, seen = client.get("/api/openapi.json").json, 0
    for name, told, parameters in told_of(document):
        if name in OTHERS:
            continue
        body = members(told, document)
        assert parameters[("query", "dryRun")]["schema"]["type"] == "boolean", name
        assert "dryRun" not in body, name
        assert ("header", "Idempotency-Key") in parameters, name
        note = body.get("note") or parameters[("query", "note")]["schema"]
        assert "string" in note["type"], name
        assert "200" in told["responses"], name  # what a dry run answers
        seen += 1
    assert seen == len(MUTATIONS)


def test_a_dry_run_writes_nothing_at_all(client, admin, make, untouched):
    call = make()
    with untouched:
        for headers in (admin, admin | {"Idempotency-Key": "foretold"}):
            answer = call.send(client, headers, dry_run=True, note="what if")
            assert (answer.status_code, answer.json.get("dryRun")) == (200, True), answer.json
    # The key is still free, and what was foretold can be done.
    done = call.send(client, admin | {"Idempotency-Key": "foretold"})
    assert done.status_code in (200, 201, 202), done.json
    assert "dryRun" not in done.json
    with untouched:
        again = call.send(client, admin, dry_run=True)
        assert again.status_code < 500, again.json


def test_a_key_has_one_effect_and_one_answer(client, admin, make, sandbox):
    call, headers = make(), admin | {"Idempotency-Key": "once"}
    sandbox.clear_requests()
    first = call.send(client, headers, note="why")
    assert first.status_code in (200, 201, 202), first.json
    assert "Idempotency-Replayed" not in first.headers
    rows = rows_of("once")
    assert rows[1] == [("intent", "pending", "why"), ("outcome", "succeeded", "why")]
    again = call.send(client, headers, note="why")
    assert (again.status_code, again.json) == (first.status_code, first.json)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert rows_of("once") == rows
    assert len(written_at_stripe(sandbox)) == call.at_stripe


def test_a_key_goes_with_one_request(client, admin, make, untouched):
    first, other, headers = make(), make(), admin | {"Idempotency-Key": "once"}
    assert first.send(client, headers).status_code < 300
    with untouched:
        answer = other.send(client, headers)
    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_mismatch"), answer.json


def test_a_key_is_its_actor_s(client, admin, token, make):
    mine, theirs, key = make(), make(), {"Idempotency-Key": "once"}
    assert mine.send(client, admin | key).status_code < 300
    answer = theirs.send(client, token("admin", actor="bob@example.com") | key)
    assert "Idempotency-Replayed" not in answer.headers
    assert answer.status_code < 300 or answer.json["code"] == "reconciliation_running", answer.json
    assert AdminOperation.objects(idempotency_key="once").count() == 2


def test_a_key_at_the_same_time_has_one_effect(app, admin, make, sandbox):
    call, headers = make(), admin | {"Idempotency-Key": "at-once"}
    sandbox.clear_requests()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: call.send(app.test_client(), headers), range(4)))
    accepted = [each for each in answers if each.status_code < 300]
    assert accepted, [each.json for each in answers]
    assert all(each.json == accepted[0].json for each in accepted)
    refused = {(each.status_code, each.json["code"]) for each in answers if each not in accepted}
    assert refused <= {(409, "idempotency_in_progress")}
    operation, rows = rows_of("at-once")
    assert (operation.attempt, operation.state) == (1, "done")
    assert rows == [("intent", "pending", None), ("outcome", "succeeded", None)]
    assert len(written_at_stripe(sandbox)) == call.at_stripe
    assert len(ReconciliationRun.objects) <= 1
    assert LedgerEntry.objects(kind="adjustment").count() <= 1


def test_a_note_can_be_required(client, admin, make, demand, untouched):
    call = make()
    demand()
    with untouched:
        refused = call.send(client, admin)
        assert (refused.status_code, list(refused.json["errors"])) == (422, ["note"])
        assert call.send(client, admin, dry_run=True).status_code == 200
    assert call.send(client, admin, note="why").status_code < 300
