"""The gateway while Stripe is slow, limits, breaks off or fails: armed in the sandbox."""

import io
import re
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from prometheus_client import REGISTRY

from billing_service import errors, observability
from billing_service.stripe_gateway.budget import KEY

CALLS = "/v1/account"


def count(operation, result):
    labels = {"operation": operation, "result": result}
    return REGISTRY.get_sample_value("billing_stripe_requests_total", labels) or 0


@pytest.fixture
def subscription(sandbox):
    price = sandbox.api(
        "POST", "/prices", "currency=usd&unit_amount=1500&recurring[interval]=month&product_data[name]=Pro"
    )["id"]
    customer = sandbox.api("POST", "/customers", "email=ada@example.org")["id"]
    sandbox.control("POST", f"/customers/{customer}/payment", {"outcome": "succeed"})
    made = sandbox.api("POST", "/subscriptions", f"customer={customer}&items[0][price]={price}")["id"]
    sandbox.forget_requests()
    return made


@pytest.mark.parametrize("kind", ["drop", "error", "lock_timeout", "drop_after"])
def test_a_blip_is_not_seen(gateway, sandbox, kind):
    sandbox.arm(kind, CALLS)
    assert gateway.account().value == "acct_sandbox"
    assert len(sandbox.requests(CALLS)) == 2


def test_a_lasting_failure_is_stripe_unavailable(gateway, sandbox):
    sandbox.arm("error", CALLS, times=None)
    before = count("account", "stripe_unavailable")
    with pytest.raises(errors.StripeUnavailable) as refused:
        gateway.account()
    assert refused.value.facts["stripeRequestId"].startswith("req_")
    assert count("account", "stripe_unavailable") == before + 3


def test_a_timeout_is_waited_for_once(open_gateway, sandbox):
    gateway = open_gateway(sandbox.url, read_timeout=1.0)
    sandbox.arm("timeout_before", CALLS, times=None, seconds=5)
    began = time.monotonic()
    with pytest.raises(errors.StripeUnavailable):
        gateway.account()
    assert 1.0 <= time.monotonic() - began < 1.9


@pytest.mark.parametrize(("kind", "happened"), [("timeout_before", False), ("timeout_after", True)])
def test_a_cancel_that_is_not_answered_is_sent_once(open_gateway, sandbox, subscription, kind, happened):
    gateway = open_gateway(sandbox.url, read_timeout=0.5)
    sandbox.arm(kind, "/v1/subscriptions", method="DELETE", seconds=2)
    with pytest.raises(errors.StripeUnavailable) as refused:
        gateway.cancel_now(subscription, prorate=False, invoice_now=False)
    assert refused.value.effect_possible is True
    assert (gateway.subscription(subscription).value.status == "canceled") is happened
    assert [each["method"] for each in sandbox.requests()].count("DELETE") == 1


def test_a_cancel_at_period_end_cut_off_after_its_effect_is_repeated_with_its_key(gateway, sandbox, subscription):
    sandbox.arm("drop_after", "/v1/subscriptions", method="POST")
    assert gateway.cancel_at_period_end(subscription, idempotency_key="once").value.cancel_at_period_end is True
    sent = sandbox.requests()
    assert [each["idempotency_key"] for each in sent] == ["once", "once"]
    assert sent[1]["replayed"] is True


def test_a_cut_off_post_that_is_then_limited_stays_uncertain(gateway, sandbox, subscription):
    sandbox.arm("drop_after", "/v1/subscriptions", method="POST")
    sandbox.arm("rate_limited", "/v1/subscriptions", method="POST", times=None)
    with pytest.raises(errors.StripeUnavailable) as refused:
        gateway.cancel_at_period_end(subscription, idempotency_key="once")
    assert refused.value.effect_possible is True


def test_a_lasting_lock_is_rate_limited_and_slows_nobody_down(gateway, sandbox, store):
    sandbox.arm("lock_timeout", CALLS, times=None)
    with pytest.raises(errors.StripeRateLimited) as refused:
        gateway.account()
    assert "same object" in refused.value.detail
    assert refused.value.facts["stripeCode"] == "lock_timeout"
    assert store.hget(KEY, "halved_until") is None
    assert gateway.circuit.state == "closed"


def test_a_429_is_told_with_its_time_and_heeded(open_gateway, gateway, sandbox, store):
    sandbox.arm("rate_limited", CALLS, retry_after=3)
    with pytest.raises(errors.StripeRateLimited) as refused:
        gateway.account()
    assert refused.value.retry_after == 3
    assert "budget" not in refused.value.facts
    assert len(sandbox.requests(CALLS)) == 1
    with pytest.raises(errors.StripeRateLimited) as refused:
        open_gateway(sandbox.url).account()
    assert refused.value.facts["budget"] == "ours"
    assert 2 < refused.value.retry_after <= 3
    time.sleep(1.2)
    assert gateway.account().value == "acct_sandbox"
    assert float(store.hget(KEY, "halved_until")) - time.time() > 50


def test_limits_do_not_open_the_circuit(gateway, sandbox, store):
    sandbox.arm("rate_limited", CALLS, times=None)
    for _ in range(7):
        with pytest.raises(errors.StripeRateLimited):
            gateway.account()
    assert gateway.circuit.state == "closed"


def test_the_sandbox_is_never_asked_faster_than_the_budget(open_gateway, sandbox):
    gateway = open_gateway(sandbox.url, requests_per_second=20.0)
    until = time.monotonic() + 2

    def ask(background):
        while time.monotonic() < until:
            try:
                if background:
                    with gateway.background():
                        gateway.account()
                else:
                    gateway.account()
            except errors.StripeRateLimited:
                pass

    threads = [threading.Thread(target=ask, args=(index % 2 == 0,)) for index in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert 20 * 1.5 <= len(sandbox.requests(CALLS)) <= 20 * 2.3 + 14


def test_background_is_said_per_block(open_gateway, sandbox):
    gateway = open_gateway(sandbox.url, requests_per_second=4.0, redis=None)
    with gateway.background():
        gateway.account()
        ceiling = gateway.budget._bucket.ceiling
    gateway.account()
    assert gateway.budget._bucket.ceiling >= ceiling


def test_as_of_covers_a_delayed_answer(gateway, sandbox):
    sandbox.arm("delay", CALLS, seconds=1.5)
    sent_at = datetime.now(UTC)
    assert gateway.account().as_of <= sent_at


def test_as_of_is_stripes_clock_not_ours(gateway, sandbox):
    now = sandbox.control("GET", "")["now"]
    sandbox.control("POST", "/clock", {"advance": 86_400})
    as_of = gateway.account().as_of
    assert abs(as_of.timestamp() - now - 86_400) < 5
    assert as_of - datetime.now(UTC) > timedelta(hours=23)


def test_an_answer_that_is_not_json(gateway, sandbox):
    sandbox.arm("error", CALLS, times=None, status=200, body="<html>maintenance</html>")
    with pytest.raises(errors.StripeUnavailable):
        gateway.account()


def test_redis_away_does_not_stop_a_call(open_gateway, sandbox, closed_port):
    gateway = open_gateway(sandbox.url, redis=redis.Redis(port=closed_port))
    assert gateway.account().value == "acct_sandbox"
    assert gateway.budget.state == "share"


def test_a_failure_is_logged_once_without_anything_personal(gateway, sandbox):
    stream = io.StringIO()
    observability.configure("INFO", stream)
    with pytest.raises(errors.StripeRejected):
        gateway.customers_by_email("ada@example.org", limit=5000)
    sandbox.arm(
        "error",
        "/v1/customers",
        times=None,
        body={"error": {"type": "api_error", "message": "ada@example.org"}},
    )
    with pytest.raises(errors.StripeUnavailable):
        gateway.customers_by_email("ada@example.org")
    said = stream.getvalue()
    observability.configure()
    assert len(re.findall("stripe_request_failed", said)) == 4
    assert "customers_by_email" in said
    assert "stripe_rejected" in said
    assert "ada@" not in said
    assert "sk_test" not in said
