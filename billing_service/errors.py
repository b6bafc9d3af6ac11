"""Every refusal of the service as an exception with a status and a stable code, and how HTTP shows it.

Rules raise these; `register` is the only place that turns an exception into an answer.
"""

from typing import Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from .observability import log, plain_path

PROBLEM_TYPE = "/api/docs/errors#"


class BillingError(Exception):
    """The root of all refusals.

    `detail` says in words what is wrong and what to do next, `errors` maps a field to its messages,
    `retry_after` is in seconds, `facts` are further members of the problem document.
    """

    status = 500
    code = "internal_error"
    title = "The service failed"
    level = "error"
    # May Stripe have carried the request out although we got no answer?
    effect_possible = False

    def __init__(self, detail: str = "", *, errors: dict | None = None, retry_after: float | None = None, **facts: Any):
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors
        self.retry_after = retry_after
        self.facts = facts

    def problem(self, request_id: str | None = None) -> dict[str, Any]:
        """The RFC 9457 document: type, title, status, detail, code, requestId, errors and facts."""
        document: dict[str, Any] = {
            "type": PROBLEM_TYPE + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "requestId": request_id,
        }
        if self.errors:
            document["errors"] = self.errors
        return document | self.facts


def _kind(name: str, status: int, code: str, title: str, **extra: Any) -> type[BillingError]:
    level = "info" if status < 500 else "error"
    return type(name, (BillingError,), {"status": status, "code": code, "title": title, "level": level, **extra})


BadRequest = _kind("BadRequest", 400, "bad_request", "The request cannot be read")
BadSignature = _kind("BadSignature", 400, "bad_signature", "The webhook signature does not verify")
Unauthorized = _kind("Unauthorized", 401, "unauthorized", "A valid token is needed")
Forbidden = _kind("Forbidden", 403, "forbidden", "The token lacks the permission")
LoginRefused = _kind(
    "LoginRefused", 401, "login_refused", "The e-mail or the password is wrong, or the user is disabled"
)
RefreshReused = _kind("RefreshReused", 401, "refresh_reused", "The refresh token was used before")
CsrfRejected = _kind("CsrfRejected", 403, "csrf_rejected", "The request lacks the proof that it comes from our page")
RefundLimitExceeded = _kind(
    "RefundLimitExceeded", 403, "refund_limit_exceeded", "The role may not refund that much of a charge"
)
NotFound = _kind("NotFound", 404, "not_found", "There is no such thing here")
OrganizationNotFound = _kind("OrganizationNotFound", 404, "organization_not_found", "The organization is unknown")
SubscriptionNotFound = _kind(
    "SubscriptionNotFound", 404, "subscription_not_found", "The organization has no subscription row"
)
EventNotFound = _kind("EventNotFound", 404, "event_not_found", "The ledger has no such event")
FindingNotFound = _kind("FindingNotFound", 404, "finding_not_found", "There is no such finding")
UserNotFound = _kind("UserNotFound", 404, "user_not_found", "There is no such user")
ReplayNotFound = _kind("ReplayNotFound", 404, "replay_not_found", "There is no such replay")
BatchNotFound = _kind("BatchNotFound", 404, "batch_not_found", "There is no such batch")
RequestTimeout = _kind("RequestTimeout", 408, "request_timeout", "The request took too long to arrive")
MethodNotAllowed = _kind("MethodNotAllowed", 405, "method_not_allowed", "The method is not allowed here")
Conflict = _kind("Conflict", 409, "conflict", "Somebody else changed the same thing; try again")
IdempotencyInProgress = _kind(
    "IdempotencyInProgress", 409, "idempotency_in_progress", "The same operation is still running"
)
PlanUnresolved = _kind("PlanUnresolved", 409, "plan_unresolved", "The Stripe price means no plan of the plan file")
SeveralLive = _kind(
    "SeveralLive", 409, "several_live_subscriptions", "The organization has more than one live subscription"
)
CustomerShared = _kind("CustomerShared", 409, "customer_shared", "The Stripe customer belongs to another organization")
OrganizationConflict = _kind(
    "OrganizationConflict", 409, "organization_conflict", "Stripe's metadata names another organization"
)
NotLive = _kind("NotLive", 409, "not_live", "The subscription is not live and the organization has another one")
ImportNotFound = _kind("ImportNotFound", 404, "import_not_found", "There is no such import")
ImportRunning = _kind("ImportRunning", 409, "import_running", "An import is running")
ImportUnfinished = _kind("ImportUnfinished", 409, "import_unfinished", "Another import is not finished")
ReconciliationNotFound = _kind(
    "ReconciliationNotFound", 404, "reconciliation_not_found", "There is no such reconciliation"
)
ReconciliationRunning = _kind("ReconciliationRunning", 409, "reconciliation_running", "A reconciliation is running")
FindingResolved = _kind("FindingResolved", 409, "finding_resolved", "The finding is resolved already")
NotDead = _kind("NotDead", 409, "not_dead", "The event is not a dead letter")
RefundRequestMismatch = _kind(
    "RefundRequestMismatch", 409, "refund_request_mismatch", "The refundRequestId was used for another refund"
)
DisputeNotWon = _kind("DisputeNotWon", 409, "dispute_not_won", "The dispute was not won at Stripe")
NothingToCredit = _kind("NothingToCredit", 409, "nothing_to_credit", "The dispute took no extras from the ledger")
SeveralDisputes = _kind("SeveralDisputes", 409, "several_disputes", "More than one dispute of the charge was won")
CreditRequestMismatch = _kind(
    "CreditRequestMismatch", 409, "credit_request_mismatch", "The refundRequestId was used for another credit"
)
UsageMismatch = _kind("UsageMismatch", 409, "usage_mismatch", "The key was used for other usage of the organization")
MissingUnproven = _kind(
    "MissingUnproven",
    409,
    "missing_unproven",
    "Stripe does not show the object and this key cannot prove it is gone",
)
ManagedBySchedule = _kind(
    "ManagedBySchedule", 409, "managed_by_schedule", "A subscription schedule manages this subscription"
)
LoginNotAvailable = _kind(
    "LoginNotAvailable", 409, "login_not_available", "Tokens come from the issuer; nobody signs in here"
)
UserExists = _kind("UserExists", 409, "user_exists", "There is a user with this e-mail")
LastAdmin = _kind("LastAdmin", 409, "last_admin", "No enabled admin would be left")
WrongAccount = _kind("WrongAccount", 409, "wrong_account", "The Stripe key is of another account")
WrongMode = _kind("WrongMode", 409, "wrong_mode", "The event is of the other mode, live or test")
AlreadySucceeded = _kind("AlreadySucceeded", 409, "already_succeeded", "The event has succeeded before")
EventClosed = _kind("EventClosed", 409, "closed", "The dead letter was closed")
EventInProgress = _kind("EventInProgress", 409, "event_in_progress", "The event is being handled")
SelectionChanged = _kind("SelectionChanged", 409, "selection_changed", "The selection is not what was confirmed")
BatchEnded = _kind("BatchEnded", 409, "batch_ended", "The batch has ended")
EventExpired = _kind("EventExpired", 410, "event_expired", "The event can no longer be fetched")
PreconditionFailed = _kind("PreconditionFailed", 412, "precondition_failed", "A condition of the request does not hold")
TooLarge = _kind("TooLarge", 413, "payload_too_large", "The body is too large")
UriTooLong = _kind("UriTooLong", 414, "uri_too_long", "The address is too long")
UnsupportedMediaType = _kind("UnsupportedMediaType", 415, "unsupported_media_type", "The body must be application/json")
RangeNotSatisfiable = _kind("RangeNotSatisfiable", 416, "range_not_satisfiable", "The file has no such range")
InvalidRequest = _kind("InvalidRequest", 422, "invalid_request", "The request breaks its schema")
IdempotencyMismatch = _kind(
    "IdempotencyMismatch", 422, "idempotency_mismatch", "The Idempotency-Key was used with another request"
)
SelectionInvalid = _kind("SelectionInvalid", 422, "selection_invalid", "The selection is not one of this service's")
SelectionExpired = _kind("SelectionExpired", 422, "selection_expired", "The selection is too old")
NoHandler = _kind("NoHandler", 422, "no_handler", "Events of this type are not handled here")
NoStripeSubscription = _kind(
    "NoStripeSubscription",
    422,
    "no_stripe_subscription",
    "The organization has no Stripe subscription to look at",
)
ChargeUnknown = _kind("ChargeUnknown", 422, "charge_unknown", "The charge belongs to no organization here")
StripeRejected = _kind("StripeRejected", 422, "stripe_rejected", "Stripe refuses the request itself", level="warning")
# Raised by the gateway only; the rules decide what a missing object means (product promise P4).
StripeMissing = _kind("StripeMissing", 422, "stripe_missing", "Stripe does not know the object", level="warning")
TooManyRequests = _kind("TooManyRequests", 429, "too_many_requests", "Too many requests")
LoginThrottled = _kind("LoginThrottled", 429, "login_throttled", "Signing in failed too often")
HeadersTooLarge = _kind("HeadersTooLarge", 431, "headers_too_large", "The headers are too large")
StripeRateLimited = _kind(
    "StripeRateLimited", 429, "stripe_rate_limited", "Stripe's rate limit is reached", level="warning"
)
StripeIdempotencyConflict = _kind(
    "StripeIdempotencyConflict",
    409,
    "stripe_idempotency_conflict",
    "Stripe is carrying out, or has carried out, another request with this key",
    level="warning",
    effect_possible=True,
)
StripeUnavailable = _kind(
    "StripeUnavailable", 502, "stripe_unavailable", "Stripe cannot be reached", effect_possible=True
)
StripeMisconfigured = _kind("StripeMisconfigured", 502, "stripe_misconfigured", "Stripe refuses our key")
CancelUnverified = _kind(
    "CancelUnverified",
    502,
    "cancel_unverified",
    "Stripe was asked to cancel, the result could not be seen yet",
)
StoreUnavailable = _kind("StoreUnavailable", 503, "store_unavailable", "The database cannot be reached")
IssuerUnavailable = _kind("IssuerUnavailable", 503, "issuer_unavailable", "The tokens' issuer gives no usable keys")
StripeNotConfigured = _kind("StripeNotConfigured", 503, "stripe_not_configured", "No Stripe key is configured")
StripeCircuitOpen = _kind(
    "StripeCircuitOpen", 503, "stripe_circuit_open", "Stripe failed several times in a row; calls are paused"
)
InternalError = _kind("InternalError", 500, "internal_error", "The service failed", level="exception")

KINDS: tuple[type[BillingError], ...] = tuple(
    kind for kind in list(globals().values()) if isinstance(kind, type) and issubclass(kind, BillingError)
)

_BY_STATUS = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    408: RequestTimeout,
    412: PreconditionFailed,
    413: TooLarge,
    414: UriTooLong,
    415: UnsupportedMediaType,
    416: RangeNotSatisfiable,
    422: InvalidRequest,
    429: TooManyRequests,
    431: HeadersTooLarge,
}
# What a refusal must tell besides (RFC 9110): the methods there are, the length there is.
_KEPT_HEADERS = ("Allow", "Content-Range")


def _by_field(messages: Any) -> dict[str, Any]:
    return messages if isinstance(messages, dict) else {"_schema": messages}


def from_http(error: HTTPException) -> BillingError:
    """The refusal that stands for one of Werkzeug's or webargs' exceptions."""
    messages = (getattr(error, "data", None) or {}).get("messages")
    status = error.code or 500
    kind = _BY_STATUS.get(status, BadRequest if 400 <= status < 500 else InternalError)
    if kind is InvalidRequest and messages:
        # webargs sorts them by where they were sent (query, json, headers); a field's name is enough.
        fields = {name: why for place in messages.values() for name, why in _by_field(place).items()}
        return InvalidRequest("The request breaks its schema; `errors` names each field.", errors=fields)
    if kind is InternalError:
        return InternalError()
    refusal = kind(str(error.description or kind.title))
    refusal.status = status
    return refusal


def answer(error: BillingError) -> Response:
    """The problem+json answer of a refusal."""
    response = jsonify(error.problem(g.get("request_id")))
    response.status_code = error.status
    response.mimetype = "application/problem+json"
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _report(error: BillingError, cause: BaseException) -> None:
    facts = {"code": error.code, "status": error.status, "path": plain_path(request.path), "detail": error.detail}
    if error.level == "exception":
        log.error("request_failed", exc_info=cause, **facts)
    else:
        getattr(log, error.level)("request_refused", **facts)


def register(app: Flask, store_errors: tuple[type[Exception], ...], jwt: Any) -> None:
    """Give every exception its answer; `store_errors` are the database driver's for "cannot be reached"."""

    def refuse(error: BillingError) -> Response:
        _report(error, error)
        return answer(error)

    def refuse_http(error: HTTPException) -> Any:
        if error.code is not None and error.code < 400:
            return error  # redirects
        response = refuse(from_http(error))
        response.headers.extend([each for each in error.get_headers() if each[0] in _KEPT_HEADERS])
        return response

    def refuse_store(error: Exception) -> Response:
        return refuse(StoreUnavailable("The database does not answer; nothing was written. Try again.", retry_after=5))

    def refuse_bug(error: Exception) -> Response:
        if isinstance(error.__context__, store_errors):  # MongoEngine's own, raised over the driver's
            return refuse_store(error)
        internal = InternalError()
        _report(internal, error)
        return answer(internal)

    app.register_error_handler(BillingError, refuse)
    app.register_error_handler(HTTPException, refuse_http)
    for kind in store_errors:
        app.register_error_handler(kind, refuse_store)
    app.register_error_handler(Exception, refuse_bug)
    _register_token_errors(jwt)


def _register_token_errors(jwt: Any) -> None:
    def say(detail: str) -> Response:
        error = Unauthorized(detail)
        _report(error, error)
        return answer(error)

    jwt.unauthorized_loader(lambda reason: say("No token was sent: use the header `Authorization: Bearer <token>`."))
    jwt.invalid_token_loader(lambda reason: say("The token is not valid."))
    jwt.expired_token_loader(lambda header, payload: say("The token has expired."))
    jwt.revoked_token_loader(lambda header, payload: say("The token was revoked: sign in again."))
    jwt.user_lookup_error_loader(lambda header, payload: say("The token's user does not exist."))
    jwt.token_verification_failed_loader(lambda header, payload: say("The token is not meant for this service."))
    jwt.needs_fresh_token_loader(lambda header, payload: say("A fresh token is needed."))
