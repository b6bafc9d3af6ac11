"""Each class of the SDK's exceptions, as the endpoint answers it: one row per class, one test per row."""

import pytest
import stripe as sdk

from billing_service.documents import AdminAction, RefundRequest
from billing_service.stripe_gateway.translation import TABLE
from billing_service.stripe_gateway.transport import NotSent

URL = "/api/admin/billing/refund"
ASK = {"method": "POST", "path": r"/v1/refunds$"}


def told(kind="invalid_request_error", **members):
    return {"error": {"type": kind, "message": "Words of Stripe's.", **members}}


# The SDK's class, the fault at Stripe, our status, our code (of a refusal) or cause (of what nobody knows), state
ROWS = [
    (sdk.InvalidRequestError, ("error", 400, told()), 422, "stripe_rejected", "rejected"),
    (
        sdk.InvalidRequestError,
        ("error", 400, told(code="charge_already_refunded")),
        422,
        "stripe_rejected",
        "rejected",
    ),
    (sdk.InvalidRequestError, ("error", 404, told(code="resource_missing")), 422, "stripe_missing", "rejected"),
    (sdk.CardError, ("error", 402, told("card_error", code="card_declined")), 422, "stripe_rejected", "rejected"),
    (sdk.AuthenticationError, ("error", 401, told()), 502, "stripe_misconfigured", "rejected"),
    (sdk.PermissionError, ("error", 403, told()), 502, "stripe_misconfigured", "rejected"),
    (sdk.RateLimitError, ("rate_limited", 429, None), 429, "stripe_rate_limited", "rejected"),
    (sdk.RateLimitError, ("lock_timeout", 429, None), 429, "stripe_rate_limited", "rejected"),
    (
        sdk.IdempotencyError,
        ("error", 400, told("idempotency_error")),
        202,
        "stripe_idempotency_conflict",
        "unknown",
    ),
    (
        sdk.APIError,
        ("error", 409, told("idempotency_error", code="idempotency_key_in_use")),
        202,
        "stripe_idempotency_conflict",
        "unknown",
    ),
    (sdk.APIError, ("error", 500, told("api_error")), 202, "stripe_unavailable", "unknown"),
    (sdk.APIError, ("error", 503, told("api_error")), 202, "stripe_unavailable", "unknown"),
    (sdk.APIConnectionError, ("drop", None, None), 202, "stripe_unavailable", "unknown"),
    (sdk.APIConnectionError, ("timeout_before", None, None), 202, "stripe_unavailable", "unknown"),
]


@pytest.fixture
def ask(client, admin, billed, stripe):
    paid = stripe.charges.list({"customer": billed("pro").customer}).data[0]
    body = {"chargeId": paid.id, "amountCents": 500, "refundRequestId": "request-1"}
    return lambda: client.post(URL, headers=admin, json=body)


@pytest.mark.parametrize(("theirs", "fault", "status", "code", "state"), ROWS)
def test_each_refusal_has_its_answer(ask, sandbox, theirs, fault, status, code, state):
    kind, answered, body = fault
    more = {"status": answered, "body": body, "stored": False} if kind == "error" else {}
    more |= {"seconds": 1.5} if kind == "timeout_before" else {"retry_after": 7} if kind == "rate_limited" else {}
    sandbox.arm(kind, times=None, **ASK, **more)
    answer = ask()
    assert answer.status_code == status
    request = RefundRequest.objects.get()
    assert (request.state, request.error) == (state, code)
    outcome = AdminAction.objects(phase="outcome").get()
    if status == 202:
        assert (answer.json["state"], answer.json["error"], outcome.outcome) == ("unknown", code, "unknown")
    else:
        assert (answer.json["code"], outcome.outcome) == (code, "failed")
        assert answer.content_type == "application/problem+json"
    if status == 422:
        assert "Words of Stripe's." in answer.json["detail"]
        assert answer.json.get("stripeCode") == body["error"].get("code")
    if status == 429:
        assert answer.headers["Retry-After"] == ("7" if kind == "rate_limited" else "1")


def test_no_network_is_502_and_nothing_was_sent(ask, app, environment):
    from billing_service.runtime import build
    from billing_service.sandbox.servers import free_port
    from billing_service.settings import Settings

    before = app.extensions["billing"]
    nowhere = {"STRIPE_API_BASE": f"http://127.0.0.1:{free_port()}"}
    app.extensions["billing"] = build(Settings.from_env(environment | nowhere))
    try:
        answer = ask()
    finally:
        app.extensions["billing"] = before
    assert (answer.status_code, answer.json["code"]) == (502, "stripe_unavailable")
    assert len(RefundRequest.objects) == 0


def test_the_network_lost_between_look_and_refund_is_502_and_rejected(ask, app, environment):
    """What could not be sent certainly was not carried out."""
    from billing_service.runtime import build
    from billing_service.sandbox.servers import free_port
    from billing_service.settings import Settings

    assert ask().status_code == 200
    RefundRequest.objects.update(set__state="rejected", unset__stripe_refund_id=True)
    before = app.extensions["billing"]
    nowhere = {"STRIPE_API_BASE": f"http://127.0.0.1:{free_port()}"}
    app.extensions["billing"] = build(Settings.from_env(environment | nowhere))
    try:
        answer = ask()
    finally:
        app.extensions["billing"] = before
    assert (answer.status_code, answer.json["code"]) == (502, "stripe_unavailable")
    assert RefundRequest.objects.get().state == "rejected"


def test_our_own_conflict_of_the_id_is_409(ask, client, admin):
    charge = ask().json["chargeId"]
    body = {"chargeId": charge, "amountCents": 501, "refundRequestId": "request-1"}
    answer = client.post(URL, headers=admin, json=body)
    assert (answer.status_code, answer.json["code"]) == (409, "refund_request_mismatch")


def test_every_row_of_the_table_is_tried():
    assert {row[0] for row in ROWS} | {NotSent, sdk.StripeError} == set(TABLE)
