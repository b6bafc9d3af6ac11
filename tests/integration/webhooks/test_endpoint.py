"""POST /api/billing/webhook: what is taken in, what is refused, and what is stored of it."""

import json
import threading
import time

import pytest

from billing_service.documents import ServiceState, WebhookEvent
from billing_service.jobs import wakeups
from billing_service.jobs.sweep import sweep


def queued(runtime, queue="webhooks"):
    return runtime.redis.client().llen(f"rq:queue:{queue}")


def test_it_works(deliver, event_of, row, runtime):
    event = event_of()
    answer = deliver(event)
    assert (answer.status_code, answer.json) == (200, {"received": True, "eventId": event["id"]})
    stored = row(event["id"])
    assert (stored.state, stored.source, stored.secret_index, stored.attempts) == ("received", "delivery", 0, 0)
    assert stored.stripe_subscription_id == event["data"]["object"]["id"]
    assert stored.stripe_customer_id == event["data"]["object"]["customer"]
    assert queued(runtime) == 1


def test_the_payload_is_kept_as_it_was_signed(deliver, event_of, row):
    subject = {
        "object": "subscription",
        "id": "sub_dots",
        "customer": "cus_dots",
        "metadata": {"a.b": "1", "$set": "2", "": "3", "\u00e9\u0000": "\ud83d\ude00"},
        "huge": 2**70,
    }
    for _ in range(200):
        subject = subject | {"deep": {"deep": subject.get("deep")}}
    body = json.dumps(event_of(subject=subject), indent=3).encode()
    assert deliver(body).status_code == 200
    stored = row(json.loads(body)["id"])
    assert stored.payload.encode() == body
    assert stored.event["data"]["object"]["metadata"]["$set"] == "2"


@pytest.mark.parametrize("header", ["", "nonsense", "t=1,v1=00", "t=,v1=", "\x00", "t=" + "9" * 400 + ",v1=00"])
def test_it_rejects_a_bad_signature(deliver, event_of, header):
    answer = deliver(event_of(), header=header.replace("\x00", "?"))
    assert answer.status_code == 400
    assert answer.json["code"] == "bad_signature"
    assert WebhookEvent.objects().first() is None


@pytest.mark.parametrize(("offset", "status"), [(-290, 200), (-310, 400), (290, 200), (310, 400)])
def test_it_rejects_a_signature_far_from_now(deliver, event_of, signed, offset, status):
    body = json.dumps(event_of()).encode()
    assert deliver(body, header=signed(body, at=time.time() + offset)).status_code == status


def test_the_age_of_the_event_does_not_matter(deliver, event_of):
    assert deliver(event_of(created=int(time.time()) - 40 * 86400)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"evt_1"',
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"id": "evt_1", "type": "x", "created": 1, "data": {"object": {}}, "livemode": NaN}',
        b'{"id": "bad id", "type": "x", "created": 1, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "\\ud800", "created": 1, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "x", "created": 1099511627775, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": {"$gt": ""}, "created": 1, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "x", "created": 1, "api_version": 7, "data": {"object": {}}}',
        b"\xff\xfe",
    ],
)
def test_it_rejects_bad_input(deliver, body):
    answer = deliver(body)
    assert answer.status_code == 400
    assert answer.json["code"] in ("bad_request", "bad_signature")
    assert WebhookEvent.objects().first() is None


def test_it_rejects_what_is_too_large(deliver, event_of):
    assert deliver(event_of(filler="x" * (1024 * 1024))).status_code == 413
    assert deliver(event_of(filler="x" * (1024 * 1024 - 500))).status_code == 200


def test_other_methods_are_refused(client):
    assert client.get("/api/billing/webhook").status_code == 405


def test_twice_is_once(deliver, event_of, row, runtime):
    event = event_of()
    deliver(event)
    runtime.redis.client().flushall()
    before = row(event["id"]).to_mongo()
    answer = deliver(event)
    assert (answer.status_code, answer.json["eventId"]) == (200, event["id"])
    assert row(event["id"]).to_mongo() == before
    assert queued(runtime) == 0


def test_many_at_once_are_once(deliver, event_of):
    event = event_of()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(deliver(event).status_code)) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answers == [200] * 12
    assert len(WebhookEvent.objects(event_id=event["id"])) == 1


@pytest.mark.parametrize(
    "members",
    [
        {"type": "product.created"},
        {
            "object": "v2.core.event",
            "created": "2026-09-17T06:20:52.246Z",
            "type": "v1.billing.meter.error",
            "data": {},
        },
        {
            "object": "v2.core.event",
            "created": "2026-09-17T06:20:52Z",
            "type": "v2.core.account[x].updated",
            "data": None,
        },
    ],
)
def test_unknown_types_and_thin_events_are_stored_and_ignored(deliver, event_of, row, runtime, members):
    event = event_of() | members
    assert deliver(event).status_code == 200
    stored = row(event["id"])
    assert (stored.state, stored.outcome) == ("succeeded", "ignored")
    assert stored.expires_at > runtime.clock()
    assert queued(runtime) == 0


def test_the_wrong_mode_is_dead(deliver, event_of, row):
    event = event_of(livemode=True)
    assert deliver(event).status_code == 200
    stored = row(event["id"])
    assert (stored.state, stored.reason, stored.expires_at) == ("dead", "wrong_mode", None)
    assert stored.dead_at


def test_another_account_is_dead_and_our_own_is_not(deliver, event_of, row, runtime):
    ServiceState(name="stripe_account", value="acct_ours", at=runtime.clock()).save()
    foreign, own = event_of(account="acct_other"), event_of(account="acct_ours")
    deliver(foreign)
    deliver(own)
    assert (row(foreign["id"]).state, row(foreign["id"]).reason) == ("dead", "wrong_account")
    assert row(own["id"]).state == "received"


def test_wakeups_are_not_piled_up(deliver, event_of, runtime):
    for _ in range(5):
        deliver(event_of())
    assert queued(runtime) == 1


def test_mongodb_down_is_told(deliver, event_of, servers):
    event = event_of()
    servers.mongod.kill()
    try:
        answer = deliver(event)
        assert answer.status_code == 503
        assert answer.json["code"] == "store_unavailable"
        assert answer.headers["Retry-After"]
    finally:
        servers.mongod.start()
    deadline = time.monotonic() + 20
    while deliver(event).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert len(WebhookEvent.objects(event_id=event["id"])) == 1


def test_redis_down_changes_nothing_and_the_sweep_wakes(deliver, event_of, row, runtime, servers):
    servers.redis.kill()
    try:
        events = [event_of() for _ in range(5)]
        began = time.monotonic()
        assert [deliver(each).status_code for each in events] == [200] * 5
        assert time.monotonic() - began < 1.5
        assert wakeups.silence.holds()
    finally:
        servers.redis.start()
    assert [row(each["id"]).state for each in events] == ["received"] * 5
    wakeups.silence.end()
    sweep()
    assert queued(runtime) == 1
