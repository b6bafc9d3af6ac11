"""Each of the SDK's exceptions, raised by the SDK itself from an answer, as the service's own."""

import inspect
import json
import re

import pytest
import stripe
from stripe._api_requestor import _APIRequestor

from billing_service import errors
from billing_service.stripe_gateway.translation import TABLE, retry_seconds, translate
from billing_service.stripe_gateway.transport import NotSent


class OneAnswer(stripe.HTTPClient):
    name = "one-answer"

    def __init__(self, status, body, headers=None):
        super().__init__()
        self.answer = (body if isinstance(body, bytes) else json.dumps(body).encode(), status, headers or {})

    def request(self, method, url, headers=None, post_data=None):
        return self.answer

    def close(self):
        pass


def sdk_error(status, body, headers=None):
    client = stripe.StripeClient("sk_test_x", http_client=OneAnswer(status, body, headers))
    with pytest.raises(stripe.StripeError) as raised:
        client.raw_request("get", "/v1/customers/cus_1")
    return raised.value


def told(kind="invalid_request_error", **members):
    return {"error": {"type": kind, "message": "Words of Stripe's.", **members}}


ROWS = [
    # status, body, the SDK's class, ours, facts
    (
        404,
        told(code="resource_missing", param="id"),
        stripe.InvalidRequestError,
        errors.StripeMissing,
        {"param": "id"},
    ),
    (
        400,
        told(code="resource_missing", param="customer"),
        stripe.InvalidRequestError,
        errors.StripeMissing,
        {"param": "customer", "stripeCode": "resource_missing"},
    ),
    (404, told(), stripe.InvalidRequestError, errors.StripeRejected, {}),
    (
        400,
        told(code="charge_already_refunded"),
        stripe.InvalidRequestError,
        errors.StripeRejected,
        {"stripeCode": "charge_already_refunded"},
    ),
    (
        402,
        told("card_error", code="card_declined", decline_code="lost_card"),
        stripe.CardError,
        errors.StripeRejected,
        {"stripeCode": "card_declined", "declineCode": "lost_card"},
    ),
    (401, told(), stripe.AuthenticationError, errors.StripeMisconfigured, {}),
    (403, told(), stripe.PermissionError, errors.StripeMisconfigured, {}),
    (429, told("rate_limit_error"), stripe.RateLimitError, errors.StripeRateLimited, {}),
    (400, told(code="rate_limit"), stripe.RateLimitError, errors.StripeRateLimited, {}),
    (
        429,
        told(code="lock_timeout"),
        stripe.RateLimitError,
        errors.StripeRateLimited,
        {"stripeCode": "lock_timeout"},
    ),
    (400, told("idempotency_error"), stripe.IdempotencyError, errors.StripeIdempotencyConflict, {}),
    (
        409,
        told("idempotency_error", code="idempotency_key_in_use"),
        stripe.APIError,
        errors.StripeIdempotencyConflict,
        {"stripeCode": "idempotency_key_in_use"},
    ),
    (500, told("api_error"), stripe.APIError, errors.StripeUnavailable, {}),
    (503, told("api_error"), stripe.APIError, errors.StripeUnavailable, {}),
    (405, told(), stripe.APIError, errors.StripeRejected, {}),
    (502, b"<html>Bad gateway</html>", stripe.APIError, errors.StripeUnavailable, {}),
    (429, b"<html>Slow down</html>", stripe.APIError, errors.StripeRateLimited, {}),
    (403, b"<html>A proxy</html>", stripe.APIError, errors.StripeUnavailable, {}),
    (301, b"", stripe.APIError, errors.StripeUnavailable, {}),
    (200, b'{"object": "custom', stripe.APIError, errors.StripeUnavailable, {}),
    (500, [1], stripe.APIError, errors.StripeUnavailable, {}),
]


@pytest.mark.parametrize(("status", "body", "theirs", "ours", "facts"), ROWS)
def test_each_answer_has_its_refusal(status, body, theirs, ours, facts):
    error = sdk_error(status, body, {"request-id": "req_1"})
    assert type(error) is theirs
    refusal = translate(error, writes=True)
    assert type(refusal) is ours
    assert facts.items() <= refusal.facts.items()
    if not isinstance(body, bytes):
        assert status == 500 or refusal.facts["stripeRequestId"] == "req_1"


@pytest.mark.parametrize(
    ("error", "possible"),
    [(NotSent("ConnectTimeout"), False), (stripe.APIConnectionError("ReadTimeout"), True)],
)
def test_a_connection_error_says_whether_an_effect_is_possible(error, possible):
    refusal = translate(error, writes=True)
    assert type(refusal) is errors.StripeUnavailable
    assert refusal.effect_possible is possible


def test_an_exception_of_the_other_api_is_closed_by_default():
    assert type(translate(stripe.QuotaExceededError("words"), writes=True)) is errors.StripeUnavailable


def test_every_row_is_tried_above():
    tried = {row[2] for row in ROWS} | {NotSent, stripe.APIConnectionError, stripe.StripeError}
    assert tried == set(TABLE)


def test_every_class_that_the_sdk_raises_for_v1_has_a_row_of_its_own():
    # Read from the SDK's source: an upgrade that adds a class fails here.
    raised = set(re.findall(r"error\.(\w+)\(", inspect.getsource(_APIRequestor.specific_v1_api_error)))
    assert "RateLimitError" in raised
    assert raised <= {kind.__name__ for kind in TABLE}


def test_a_read_has_no_effect():
    assert translate(sdk_error(500, told("api_error")), writes=False).effect_possible is False
    assert translate(sdk_error(500, told("api_error")), writes=True).effect_possible is True


def test_a_missing_permission_is_named():
    words = (
        "The provided key 'rk_test_*********1234' does not have the required permissions for this endpoint. "
        "Having the 'rak_subscription_read' permission would allow this request to continue."
    )
    refusal = translate(sdk_error(403, told(message=words)), writes=False)
    assert "rak_subscription_read" in refusal.detail
    assert "1234" not in refusal.detail
    assert refusal.facts["lacks"] == ["rak_subscription_read"]


@pytest.mark.parametrize(
    "secret", ["sk_live_" + "a" * 24, "whsec_abcdefghijkl", "4242 4242 4242 4242", "ada+x@example.org"]
)
def test_no_secret_is_passed_on(secret):
    for status in (400, 401, 402, 403, 404, 409, 429, 500):
        refusal = translate(sdk_error(status, told(message=f"about {secret}", param=secret)), writes=False)
        assert secret not in json.dumps(refusal.problem(), default=str)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("86400", 60.0), ("soon", None), ("nan", None)],
)
def test_retry_after_is_read_within_bounds(header, seconds):
    error = sdk_error(429, told(), {"Retry-After": header})
    assert retry_seconds(error) == seconds


def test_a_rate_limit_without_retry_after_says_one_second():
    assert translate(sdk_error(429, told()), writes=False).retry_after == 1.0
