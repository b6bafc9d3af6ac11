"""The worker as a process: events reach their end whatever is killed, and a stop is a stop in good order."""

import hashlib
import hmac
import json
import signal
import time
from datetime import timedelta

import pytest
import requests

from billing_service.documents import Organization, OutboxSignal, Subscription, WebhookEvent, database_now
from billing_service.jobs import wakeups
from billing_service.jobs.sweep import sweep


@pytest.fixture
def subscribed(runtime, stripe, organization):
    """Makes organizations with a subscription at Stripe each, and delivers the events; returns both ids."""

    def make(count):
        base = runtime.settings.stripe_api_base
        requests.post(f"{base}/_control/seed", json={"count": 1, "prices": ["price_pro_monthly"]}, timeout=10)
        org_ids = [organization() for _ in range(count)]
        for org_id in org_ids:
            customer = stripe.customers.create()
            stripe.subscriptions.create(
                {
                    "customer": customer.id,
                    "items": [{"price": "price_pro_monthly"}],
                    "metadata": {"organizationId": str(org_id)},
                }
            )
        return org_ids

    return make


@pytest.fixture
def arrive(app, runtime):
    """Delivers the subscription events that Stripe has."""

    def deliver():
        key = runtime.settings.stripe_secret_key
        listed = requests.get(
            f"{runtime.settings.stripe_api_base}/v1/events?limit=100&type=customer.subscription.created",
            headers={"Authorization": f"Bearer {key}"},
            timeout=10,
        ).json()["data"]
        secret = runtime.settings.stripe_webhook_secrets[0].encode()
        for each in listed[::-1]:
            body, stamp = json.dumps(each).encode(), int(time.time())
            proof = hmac.new(secret, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
            header = {"Stripe-Signature": f"t={stamp},v1={proof}"}
            assert app.test_client().post("/api/billing/webhook", data=body, headers=header).status_code == 200

    return deliver


def plans(org_ids):
    return [Organization.objects(id=each).first().plan for each in org_ids]


def states():
    return sorted(each.state for each in WebhookEvent.objects(type="customer.subscription.created"))


def test_it_works(process, subscribed, arrive, eventually):
    org_ids = subscribed(3)
    process("worker")
    arrive()
    eventually(lambda: plans(org_ids) == ["pro"] * 3)
    assert states() == ["succeeded"] * 3


def test_killed_in_the_middle_nothing_is_lost_and_nothing_is_doubled(
    process, subscribed, arrive, eventually, sandbox, runtime
):
    org_ids = subscribed(4)
    sandbox.arm("delay", path="/v1/subscriptions", seconds=0.4, times=None)
    child = process("worker")
    arrive()
    eventually(lambda: "succeeded" in states() and "processing" in states())
    child.kill()
    child.wait()
    sandbox.disarm()
    left = states()
    assert "processing" in left
    # What a lease's thirty seconds would do.
    WebhookEvent.objects(state="processing").update(set__lease_until=database_now() - timedelta(seconds=1))
    wakeups.begun()
    process("worker")
    sweep()
    eventually(lambda: states() == ["succeeded"] * 4)
    assert plans(org_ids) == ["pro"] * 4
    assert [row.version for row in Subscription.objects()] == [1] * 4
    assert OutboxSignal.objects(name="plan_changed").count() == 4
    assert {sum(line.error_class is None for line in each.history) for each in WebhookEvent.objects()} == {1}


def test_sigterm_ends_the_slice_and_returns_the_rest(process, subscribed, arrive, eventually, sandbox):
    subscribed(6)
    sandbox.arm("delay", path="/v1/subscriptions", seconds=0.5, times=None)
    child = process("worker")
    arrive()
    eventually(lambda: "succeeded" in states())
    child.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert child.wait(10) == 0
    assert time.monotonic() - began < 5
    assert set(states()) == {"received", "succeeded"}
    assert "worker_stopped" in child.log.read_text()
    sandbox.disarm()
    process("worker")
    eventually(lambda: states() == ["succeeded"] * 6, seconds=10)


def test_sigterm_when_idle(process, eventually):
    child = process("worker")
    eventually(lambda: "worker_started" in child.log.read_text())
    time.sleep(1)
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 0


def test_it_waits_for_redis_at_start_and_later(process, subscribed, arrive, eventually, servers, runtime):
    org_ids = subscribed(2)
    servers.redis.kill()
    child = process("worker")
    eventually(lambda: "worker_without_redis" in child.log.read_text())
    servers.redis.start()
    arrive()
    wakeups.silence.end()
    wakeups.wake()
    eventually(lambda: plans(org_ids) == ["pro"] * 2)
    servers.redis.kill()
    time.sleep(2)
    servers.redis.start()
    WebhookEvent.objects().update(set__state="received", unset__next_attempt_at=True)
    wakeups.silence.end()
    wakeups.begun()
    assert wakeups.wake()
    eventually(lambda: states() == ["succeeded"] * 2)
    assert child.poll() is None


def test_it_stops_while_redis_is_away(process, eventually, servers):
    servers.redis.kill()
    try:
        child = process("worker")
        eventually(lambda: "worker_without_redis" in child.log.read_text())
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    finally:
        servers.redis.start()


def test_it_survives_a_restart_of_mongodb(process, subscribed, arrive, eventually, servers, runtime):
    org_ids = subscribed(2)
    arrive()
    runtime.redis.client().flushall()
    child = process("worker")
    process("scheduler")
    eventually(lambda: "worker_started" in child.log.read_text())
    servers.mongod.kill()
    wakeups.wake()
    eventually(lambda: "dispatch_without_store" in child.log.read_text())
    servers.mongod.start()
    eventually(lambda: plans(org_ids) == ["pro"] * 2, seconds=30)
    assert child.poll() is None
