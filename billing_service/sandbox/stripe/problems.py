"""Stripe's errors: what a refusal says, and with which status. No rules live here."""

from __future__ import annotations

DOCUMENTED = "https://stripe.com/docs/error-codes/"


class Problem(Exception):
    """A refusal. `executed` says whether the endpoint had begun (its answer is then kept for an idempotency key),
    `keeps_effect` whether what it wrote before refusing stays."""

    def __init__(
        self,
        status,
        message,
        *,
        type="invalid_request_error",
        code=None,
        param=None,
        headers=None,
        executed=True,
        keeps_effect=False,
        **more,
    ):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.executed = executed
        self.keeps_effect = keeps_effect
        self.error = {"message": message, "type": type}
        if code:
            self.error |= {"code": code, "doc_url": DOCUMENTED + code.replace("_", "-")}
        if param:
            self.error["param"] = param
        self.error |= more


def missing(noun, object_id, param="id", status=404):
    return Problem(status, f"No such {noun}: '{object_id}'", code="resource_missing", param=param)


def of_live_mode(noun, object_id, param):
    words = "a similar object exists in live mode, but a test mode key was used to make this request."
    return Problem(404, f"No such {noun}: '{object_id}'; {words}", code="resource_missing", param=param)


def invalid(message, param=None, code=None, **more):
    return Problem(400, message, code=code, param=param, **more)


def required(param):
    return Problem(400, f"Missing required param: {param}.", code="parameter_missing", param=param, executed=False)


def unknown_parameter(param):
    return Problem(400, f"Received unknown parameter: {param}", code="parameter_unknown", param=param, executed=False)


def unknown_path(method, path):
    return Problem(
        404,
        f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove the "
        "trailing slash. If you are trying to retrieve an object, make sure you passed a valid "
        "(non-empty) identifier in your code. Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        executed=False,
    )


def not_imitated(what):
    return Problem(501, f"The sandbox does not imitate {what}.", type="api_error", executed=False)


def rate_limited(reason="global-rate", retry_after=None):
    headers = {"Stripe-Rate-Limited-Reason": reason}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return Problem(
        429,
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        headers=headers,
        executed=False,
    )


def lock_timeout():
    return Problem(
        429,
        "This object cannot be accessed right now because another API request or Stripe process is "
        "currently accessing it. If you see this error intermittently, retry the request. If you see "
        "this error frequently and are making multiple concurrent requests to a single object, make your "
        "requests serially or at a lower rate.",
        code="lock_timeout",
        headers={"Stripe-Should-Retry": "true"},
        executed=False,
    )
