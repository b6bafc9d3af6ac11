"""Armed faults, through the SDK as a caller meets them."""

import time

import pytest
import stripe as sdk

from tests.sandbox.conftest import connect


@pytest.fixture
def hasty(process, control):
    """A client that waits 0.3 s for an answer."""
    return connect(process.url, http_client=sdk.RequestsClient(timeout=(0.3, 0.3))).v1


def test_rate_limited(control, stripe):
    control.arm("rate_limited", path="/v1/customers", retry_after=7, reason="endpoint-rate")
    with pytest.raises(sdk.RateLimitError) as caught:
        stripe.customers.list()
    assert caught.value.headers["Retry-After"] == "7"
    assert caught.value.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    stripe.customers.list()


def test_lock_timeout(control, stripe, http):
    control.arm("lock_timeout", times=2)
    with pytest.raises(sdk.RateLimitError):
        stripe.customers.create({})
    assert http("POST", "/v1/customers").json()["error"]["code"] == "lock_timeout"


def test_error_before_and_after_the_effect(control, stripe):
    control.arm("error", method="POST", status=503, body={"error": {"type": "api_error", "message": "down"}})
    with pytest.raises(sdk.APIError, match="down"):
        stripe.customers.create({})
    assert stripe.customers.list().data == []
    control.arm("error", method="POST", after_effect=True)
    with pytest.raises(sdk.APIError):
        stripe.customers.create({})
    assert len(stripe.customers.list().data) == 1


@pytest.mark.parametrize(("kind", "effects"), [("drop", 0), ("drop_after", 1)])
def test_drop(control, stripe, kind, effects):
    control.arm(kind, method="POST")
    with pytest.raises(sdk.APIConnectionError):
        stripe.customers.create({})
    assert len(stripe.customers.list().data) == effects


@pytest.mark.parametrize(("kind", "effects"), [("timeout_before", 0), ("timeout_after", 1)])
def test_timeout(control, stripe, hasty, kind, effects):
    control.arm(kind, method="POST", seconds=2)
    with pytest.raises(sdk.APIConnectionError):
        hasty.customers.create({})
    assert len(stripe.customers.list().data) == effects


def test_a_retry_after_a_timeout_after_the_effect_is_the_same_object(process, control, stripe):
    client = connect(process.url, http_client=sdk.RequestsClient(timeout=(0.3, 0.3)))
    control.arm("timeout_after", method="POST", seconds=2)
    with pytest.raises(sdk.APIConnectionError):
        client.v1.customers.create({"name": "a"}, {"idempotency_key": "k1"})
    again = client.v1.customers.create({"name": "a"}, {"idempotency_key": "k1"})
    assert [one.id for one in stripe.customers.list().data] == [again.id]
    assert control.requests()["items"][-2]["replayed"]


def test_delay(control, stripe):
    control.arm("delay", seconds=0.4)
    started = time.monotonic()
    stripe.customers.list()
    assert time.monotonic() - started >= 0.4


def test_lagging_reads(control, stripe, subscribe):
    subscription = subscribe()
    time.sleep(0.3)
    stripe.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    newer = subscribe()
    control.arm("lag", path="/v1/subscriptions$", seconds=0.25, times=None)
    listed = stripe.subscriptions.list().data
    assert [(one.id, one.cancel_at_period_end) for one in listed] == [(subscription.id, False)]
    assert stripe.subscriptions.retrieve(subscription.id).cancel_at_period_end
    control.disarm()
    control.arm("lag", path="/v1/subscriptions/", seconds=0.25, times=None)
    assert not stripe.subscriptions.retrieve(subscription.id).cancel_at_period_end
    with pytest.raises(sdk.InvalidRequestError):
        stripe.subscriptions.retrieve(newer.id)
    time.sleep(0.3)
    assert stripe.subscriptions.retrieve(newer.id).id == newer.id


def test_a_lagging_list_still_shows_what_was_canceled(control, stripe, subscribe):
    subscription = subscribe()
    time.sleep(0.3)
    stripe.subscriptions.cancel(subscription.id)
    control.arm("lag", seconds=0.2, times=None)
    assert [one.status for one in stripe.subscriptions.list().data] == ["active"]


def test_matching(control, http):
    armed = control.arm("rate_limited", method="GET", path="^/v1/customers$", after=1, times=2)
    assert armed["left"] == 2
    statuses = [http("GET", "/v1/customers").status_code for _ in range(4)]
    assert statuses == [200, 429, 429, 200]
    assert http("POST", "/v1/customers").status_code == 200
    assert control.faults()[0]["hits"] == 2
    assert control.disarm(armed["id"]) == {"disarmed": 1}


def test_for_one_key_only(control, http):
    other = control.add_key()
    control.arm("rate_limited", key=other, times=None)
    assert http("GET", "/v1/customers").status_code == 200
    assert http("GET", "/v1/customers", key=other).status_code == 429


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "nonsense"},
        {"kind": "delay"},
        {"kind": "drop", "seconds": 1},
        {"kind": "drop", "match": {"route": "x"}},
        {"kind": "drop", "match": {"path": "("}},
    ],
)
def test_nonsense_is_refused(control, rule):
    from billing_service.sandbox.stripe.control import ControlError

    with pytest.raises(ControlError, match="400"):
        control.call("POST", "/faults", rule)


def test_a_session_is_not_listed_by_its_payment_at_once(control, stripe):
    once = stripe.prices.create({"currency": "usd", "unit_amount": 500, "product_data": {"name": "Pack"}})
    lines = [{"price": once.id, "quantity": 1}]
    wanted = {"mode": "payment", "success_url": "https://a.example/", "line_items": lines}
    session = stripe.checkout.sessions.create(wanted)
    control.arm("lag", path="/v1/checkout/sessions", seconds=30)
    intent = control.complete_checkout(session.id)["payment_intent"]
    assert stripe.checkout.sessions.list({"payment_intent": intent}).data == []
    assert [one.id for one in stripe.checkout.sessions.list({"payment_intent": intent}).data] == [session.id]


def test_the_request_log(control, stripe, http):
    stripe.customers.create({"name": "Ada"})
    control.arm("drop", method="GET")
    with pytest.raises(sdk.APIConnectionError):
        stripe.customers.list({"limit": 3})
    http("GET", "/v1/customers/none")
    created, dropped, missing = control.requests()["items"]
    assert (created["status"], created["params"], created["key"]) == (200, {"name": "Ada"}, "sk_test_sandbox")
    assert created["version"] == sdk.api_version
    assert (dropped["status"], dropped["fault"], dropped["query"]) == (None, "drop", "limit=3")
    assert missing["status"] == 404
    assert control.requests(status=404)["count"] == 1
    assert control.requests(method="GET", path="customers$")["count"] == 1
    control.clear_requests()
    assert control.requests() == {"count": 0, "total": 0, "items": []}
