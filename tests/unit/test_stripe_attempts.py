"""What one call does when its attempts fail: repeated or not, and what the caller learns. No network."""

import json
from datetime import UTC, datetime

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from billing_service import errors
from billing_service.stripe_gateway.attempts import Attempts, Call
from billing_service.stripe_gateway.budget import Budget
from billing_service.stripe_gateway.circuit import Circuit
from billing_service.stripe_gateway.transport import NotSent, Received

GET = Call("subscription", "get", "/v1/subscriptions/sub_1", {})
POST = Call("cancel_at_period_end", "post", "/v1/subscriptions/sub_1", {}, "key-1")
DELETE = Call("cancel_now", "delete", "/v1/subscriptions/sub_1", {})
DATE = "Sun, 22 Nov 2026 03:00:00 GMT"


class Clock:
    now = 50.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Script(stripe.HTTPClient):
    """Answers as told, one step per attempt; the last step repeats."""

    name = "script"

    def __init__(self, clock, *steps, seconds=0.1):
        super().__init__()
        self.clock, self.steps, self.seconds = clock, list(steps), seconds
        self.seen = []

    def request(self, method, url, headers=None, post_data=None):
        self.seen.append((method, url, headers))
        self.clock.now += self.seconds
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        status, body, *more = step
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {"Date": DATE, "request-id": "req_1"} | (more[0] if more else {})
        return (b"{}", status, Received(told, content)) if 200 <= status < 300 else (content, status, told)

    def close(self):
        pass


def run(call, *steps, background=False, seconds=0.1):
    clock = Clock()
    http = Script(clock, *steps, seconds=seconds)
    client = stripe.StripeClient("sk_test_x", http_client=http, max_network_retries=0)
    budget = Budget(100.0, monotonic=clock, sleep=clock.sleep)
    attempts = Attempts(client, Circuit(clock), budget, monotonic=clock, sleep=clock.sleep)
    try:
        result = attempts.carry_out(call, background=background)
    except errors.BillingError as refusal:
        result = refusal
    return result, http, attempts


def told(kind="api_error", **members):
    return {"error": {"type": kind, "message": "words", **members}}


OK = (200, {"object": "subscription", "id": "sub_1"})
BROKEN = (500, told())
CUT_OFF = stripe.APIConnectionError("ReadTimeout")
UNSENT = NotSent("ConnectionError")
BUSY = (429, told("rate_limit_error"))
LOCKED = (429, told("invalid_request_error", code="lock_timeout"))
IN_USE = (409, told("idempotency_error", code="idempotency_key_in_use"))
OTHER_BODY = (400, told("idempotency_error"))
MISSING = (404, told("invalid_request_error", code="resource_missing"))
REJECTED = (400, told("invalid_request_error"))


@pytest.mark.parametrize(
    ("call", "step", "attempts"),
    [
        (GET, BROKEN, 3),
        (GET, CUT_OFF, 3),
        (GET, UNSENT, 3),
        (GET, BUSY, 1),
        (GET, LOCKED, 3),
        (GET, MISSING, 1),
        (GET, REJECTED, 1),
        (GET, (401, told()), 1),
        (GET, (500, told(), {"Stripe-Should-Retry": "false"}), 1),
        (POST, BROKEN, 3),
        (POST, CUT_OFF, 3),
        (POST, UNSENT, 3),
        (POST, BUSY, 1),
        (POST, LOCKED, 3),
        (POST, IN_USE, 3),
        (POST, OTHER_BODY, 1),
        (POST, REJECTED, 1),
        (DELETE, BROKEN, 1),
        (DELETE, CUT_OFF, 1),
        (DELETE, UNSENT, 3),
        (DELETE, LOCKED, 3),
        (DELETE, MISSING, 1),
        (DELETE, (409, told()), 1),
        (Call("x", "post", "/v1/x", {}), CUT_OFF, 1),
        (Call("x", "post", "/v1/x", {}), UNSENT, 3),
    ],
)
def test_only_what_is_safe_is_repeated(call, step, attempts):
    refusal, http, _ = run(call, step)
    assert isinstance(refusal, errors.BillingError)
    assert len(http.seen) == attempts


@pytest.mark.parametrize("step", [BROKEN, CUT_OFF, UNSENT, LOCKED])
def test_a_blip_is_not_seen(step):
    answer, _http, attempts = run(GET, step, OK)
    assert answer.body["id"] == "sub_1"
    assert attempts.circuit.state == "closed"


def test_every_attempt_of_a_post_has_the_same_key():
    _, http, _ = run(POST, CUT_OFF, BROKEN, OK)
    assert [headers["Idempotency-Key"] for _, _, headers in http.seen] == ["key-1"] * 3


def test_who_waited_for_a_timeout_does_not_wait_for_the_next():
    _, http, _ = run(GET, CUT_OFF, seconds=8.0)
    assert len(http.seen) == 1


@pytest.mark.parametrize(
    ("steps", "kind", "possible"),
    [
        ([UNSENT], errors.StripeUnavailable, False),
        ([CUT_OFF], errors.StripeUnavailable, True),
        ([CUT_OFF, UNSENT], errors.StripeUnavailable, True),
        ([CUT_OFF, BUSY], errors.StripeUnavailable, True),
        ([BROKEN, (401, told())], errors.StripeUnavailable, True),
        ([IN_USE, BUSY], errors.StripeIdempotencyConflict, True),
        ([CUT_OFF, IN_USE], errors.StripeIdempotencyConflict, True),
        ([CUT_OFF, REJECTED], errors.StripeRejected, False),
        ([UNSENT, BUSY], errors.StripeRateLimited, False),
        ([UNSENT, MISSING], errors.StripeMissing, False),
    ],
)
def test_an_effect_that_is_possible_is_never_denied(steps, kind, possible):
    refusal, _, _ = run(POST, *steps)
    assert type(refusal) is kind
    assert refusal.effect_possible is possible


@pytest.mark.parametrize(
    "step",
    [
        (200, b""),
        (200, b"<html>"),
        (200, b'{"object": "subscrip'),
        (200, b"\xff\xfe"),
        (200, b"[" * 100_000),
        (200, [1]),
        (200, "text"),
        (200, None),
        (500, {"error": "text"}),
        (500, {"error": []}),
        (400, {"error": None}),
        (400, {"error": {"type": 1, "code": {}}}),
        (200, OK[1], {"Date": "yesterday"}),
        (200, OK[1], {"Date": ""}),
        (302, b""),
    ],
)
@pytest.mark.parametrize("call", [GET, DELETE])
def test_an_answer_that_is_not_stripes_is_no_bug_of_ours(step, call):
    refusal, _, _attempts = run(call, step)
    assert isinstance(refusal, errors.StripeUnavailable | errors.StripeRejected), refusal
    assert refusal.effect_possible is (call is DELETE and isinstance(refusal, errors.StripeUnavailable))


@given(
    st.integers(200, 599),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["error", "type", "code", "message", "param"]), inner)
        ),
    ),
)
def test_no_answer_is_a_bug_of_ours(status, body):
    result, _, _ = run(DELETE, (status, body))
    assert isinstance(result, errors.BillingError) or status < 300


def test_a_failure_of_ours_is_not_taken_for_stripes():
    class OutOfTime(Exception):
        """As RQ raises it in a job, from a signal."""

    with pytest.raises(OutOfTime):
        run(GET, OutOfTime())


def test_as_of_is_the_date_less_the_duration_of_the_last_attempt():
    answer, _, _ = run(GET, BROKEN, OK, seconds=1.25)
    assert answer.as_of == datetime(2026, 11, 22, 2, 59, 58, 750_000, tzinfo=UTC)
    assert answer.request_id == "req_1"


def test_a_429_slows_the_budget_down_and_a_lock_does_not():
    for headers, held in (({"Retry-After": "3"}, 3.0), ({}, 0.0)):
        _, _, attempts = run(GET, (*BUSY, headers))
        bucket = attempts.budget._bucket
        assert bucket.halved_until > 0
        assert bucket.hold_until - bucket.halved_until + 60 == pytest.approx(held)
    _, _, attempts = run(GET, (*LOCKED, {"Retry-After": "3"}))
    assert attempts.budget._bucket.halved_until == 0


def test_five_failures_open_the_circuit_and_refusals_do_not():
    for step in (BUSY, LOCKED, MISSING, REJECTED, (401, told()), (403, told()), IN_USE):
        _, _, attempts = run(GET, step)
        assert attempts.circuit._failures == 0
    _, http, attempts = run(GET, CUT_OFF)
    with pytest.raises(errors.StripeUnavailable):
        attempts.carry_out(POST, background=False)
    assert attempts.circuit.state == "open"
    assert len(http.seen) == 5
    with pytest.raises(errors.StripeCircuitOpen) as refused:
        attempts.carry_out(GET, background=False)
    assert refused.value.effect_possible is False
    assert len(http.seen) == 5
