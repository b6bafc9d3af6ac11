"""Logs: every line of every process is JSON, ids join what belongs together, levels say who has to look."""

import hashlib
import hmac
import io
import json
import time

import pytest
import requests
from bson import ObjectId

from billing_service import observability
from billing_service.documents import Subscription, WebhookEvent
from billing_service.sandbox import servers

SECRETS = ("sk_test_sandbox", "whsec_of_the_tests", "the key of the tests")


def lines_of(child):
    """All lines, each of which has to be JSON."""
    return [json.loads(line) for line in child.log.read_text().splitlines()]


def named(lines, event, **wanted):
    return [each for each in lines if each["event"] == event and wanted.items() <= each.items()]


@pytest.fixture
def installation(process, eventually):
    """Web, worker and scheduler; the address, and a function that gives each one's lines."""
    port = servers.free_port()
    url = f"http://{servers.HOST}:{port}"
    children = {
        "web": process("web", "--port", str(port)),
        "worker": process("worker"),
        "scheduler": process("scheduler"),
    }
    eventually(lambda: servers.answers_http(f"{url}/readyz"), seconds=60)
    for name in ("worker", "scheduler"):
        eventually(lambda name=name: f"{name}_started" in children[name].log.read_text(), seconds=60)
    return url, lambda name: lines_of(children[name])


@pytest.fixture
def delivered(installation, stripe, organization, runtime, price):
    """Has a subscription event delivered; its id and the answer's request id."""
    url, _ = installation
    org_id = organization()
    customer = stripe.customers.create({"metadata": {"organizationId": str(org_id)}})
    stripe.subscriptions.create({"customer": customer.id, "items": [{"price": price("pro")}]})
    event = requests.get(
        f"{runtime.settings.stripe_api_base}/v1/events?type=customer.subscription.created",
        headers={"Authorization": f"Bearer {runtime.settings.stripe_secret_key}"},
        timeout=10,
    ).json()["data"][0]
    body, stamp = json.dumps(event).encode(), int(time.time())
    proof = hmac.new(
        runtime.settings.stripe_webhook_secrets[0].encode(), f"{stamp}.".encode() + body, hashlib.sha256
    ).hexdigest()
    answer = requests.post(
        f"{url}/api/billing/webhook", data=body, headers={"Stripe-Signature": f"t={stamp},v1={proof}"}, timeout=10
    )
    assert answer.status_code == 200
    return event["id"], answer.headers["X-Request-Id"]


def test_a_webhook_is_followed_from_its_request_to_its_end(installation, delivered, eventually):
    _, lines = installation
    event_id, request_id = delivered
    eventually(lambda: named(lines("worker"), "webhook_handled", event_id=event_id))
    [request] = named(lines("web"), "request", event_id=event_id)
    assert (request["request_id"], request["status"], request["level"]) == (request_id, 200, "info")
    [received] = named(lines("web"), "webhook_received", event_id=event_id)
    assert received["request_id"] == request_id
    [handled] = named(lines("worker"), "webhook_handled", event_id=event_id)
    assert (handled["job"], handled["end"], handled["replay"]) == ("dispatch", "applied", None)
    eventually(lambda: named(lines("worker"), "job_done", job_id=handled["job_id"]))
    [done] = named(lines("worker"), "job_done", job_id=handled["job_id"])
    assert done["result"] == "succeeded"


def test_a_replay_is_followed_from_its_request_to_its_end(installation, delivered, eventually, admin):
    url, lines = installation
    event_id, _ = delivered
    eventually(lambda: WebhookEvent.objects(event_id=event_id, state="succeeded").first())
    answer = requests.post(
        f"{url}/api/admin/billing/webhook/replay", json={"eventId": event_id, "force": True}, headers=admin, timeout=10
    )
    assert answer.status_code == 202
    replay = answer.json()["jobId"]
    eventually(lambda: named(lines("worker"), "webhook_handled", replay=replay))
    [operation] = named(lines("web"), "admin_operation", target=event_id)
    assert operation["request_id"] == answer.headers["X-Request-Id"]
    [handled] = named(lines("worker"), "webhook_handled", replay=replay)
    assert handled["event_id"] == event_id
    assert handled["job_id"]


def test_every_line_has_its_time_and_level_and_no_secret(installation, delivered, eventually):
    _, lines = installation
    eventually(lambda: named(lines("worker"), "job_done"))
    for name in ("web", "worker", "scheduler"):
        found = lines(name)
        assert found
        for each in found:
            assert {"event", "level", "logger", "at"} <= set(each), each
            assert not any(secret in json.dumps(each) for secret in SECRETS), each
    assert any(each["logger"] == "gunicorn.error" for each in lines("web"))


@pytest.fixture
def told():
    """The lines that this process writes."""
    stream = io.StringIO()
    observability.configure("INFO", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    observability.configure("INFO")


def level_of(told, name):
    (line,) = named(told(), name)
    return line["level"]


def test_what_the_caller_did_wrong_is_info(client, told, admin):
    assert client.get("/api/admin/billing/customer/x", headers=admin).status_code == 422
    assert client.get("/api/admin/billing/overview").status_code == 401
    assert {each["level"] for each in named(told(), "request_refused")} == {"info"}


def test_a_refusal_of_stripes_is_a_warning(client, told, admin, billed, sandbox):
    org_id = billed("pro").org_id
    sandbox.arm("rate_limited", path="/v1/subscriptions", times=None)
    assert client.post(f"/api/admin/billing/sync/{org_id}", headers=admin, json={}).status_code == 429
    assert level_of(told, "request_refused") == "warning"


def test_trouble_with_stripe_is_an_error(client, told, admin, billed, sandbox):
    org_id = billed("pro").org_id
    sandbox.arm("error", status=500, path="/v1/subscriptions", times=None)
    assert client.post(f"/api/admin/billing/sync/{org_id}", headers=admin, json={}).status_code in (502, 503)
    assert level_of(told, "request_refused") == "error"


def test_trouble_with_the_store_is_an_error(client, told, admin, servers):
    servers.mongod.kill()
    try:
        assert client.get("/api/admin/billing/overview", headers=admin).status_code == 503
    finally:
        servers.mongod.start()
    assert level_of(told, "request_refused") == "error"


def test_a_bug_is_told_with_its_place_and_without_values(client, told, admin, organization):
    """A row that no version wrote: the answer has the request's id and nothing else."""
    org_id = organization()
    row = {"organization": org_id, "version": "not a number", "override": "not a document", "plan": ObjectId()}
    Subscription._get_collection().insert_one(row)
    answer = client.get(f"/api/admin/billing/customer/{org_id}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    (line,) = named(told(), "request_failed")
    assert line["level"] == "error"
    assert "Traceback" in line["exception"]
    assert line["request_id"] == answer.json["requestId"]
    assert "Traceback" not in answer.text
