"""What each of the SDK's exceptions means here: one row per class, and nothing decides it elsewhere."""

import math
import re
from collections.abc import Callable
from typing import Any

import stripe

from .. import errors
from ..observability import mask
from .transport import NotSent

DEFAULT_RETRY_SECONDS = 1.0
# A proxy's or a bug's "try again in a year" must not stop the service.
LONGEST_RETRY_SECONDS = 60.0

_EMAIL = re.compile(r"[^\s@'\"<>(),;:]+@[^\s@'\"<>(),;:]+")
_PERMISSION = re.compile(r"\brak_[a-z0-9_]+\b")


def translate(error: stripe.StripeError, *, writes: bool) -> errors.BillingError:
    """The refusal that stands for `error`; `writes` says whether the request could change something at Stripe.

    Facts, as far as Stripe told them: `param`, `stripeCode`, `stripeRequestId`, `declineCode`.
    """
    row = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    refusal = row(error)
    if not writes:
        refusal.effect_possible = False
    return refusal


def malformed(words: str, *, writes: bool, request_id: str | None = None) -> errors.BillingError:
    """The refusal for an answer that arrived but cannot be Stripe's."""
    known: dict[str, Any] = {"stripeRequestId": request_id} if request_id else {}
    refusal = errors.StripeUnavailable(f"Stripe's answer cannot be used: {words}.", **known)
    refusal.effect_possible = writes
    return refusal


def retry_seconds(error: stripe.StripeError) -> float | None:
    """What Retry-After says in seconds, at most a minute; None without a readable one."""
    try:
        seconds = float((error.headers or {}).get("Retry-After", "nan"))
    except ValueError:
        return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_RETRY_SECONDS)


def code_of(error: stripe.StripeError) -> str | None:
    """Stripe's own code; the SDK leaves `error.code` empty for several classes."""
    return error.code or _member(error, "code")


def _member(error: stripe.StripeError, name: str) -> Any:
    body = error.json_body
    told = body.get("error") if isinstance(body, dict) else None
    return told.get(name) if isinstance(told, dict) else None


def _facts(error: stripe.StripeError) -> dict[str, Any]:
    facts = {
        "param": _member(error, "param"),
        "stripeCode": code_of(error),
        "declineCode": _member(error, "decline_code"),
        "stripeRequestId": error.request_id,
    }
    return {name: _masked(value) for name, value in facts.items() if value}


def _words(error: stripe.StripeError) -> str:
    return _masked(error.user_message or "no reason given")


def _masked(value: Any) -> str:
    # The detail of a refusal is logged, so what Stripe quotes of a customer must not be in it either.
    return _EMAIL.sub("[e-mail]", mask(str(value)))


def _refused(error: stripe.StripeError) -> errors.BillingError:
    if code_of(error) == "resource_missing":
        return errors.StripeMissing(f"Stripe does not know the object: {_words(error)}", **_facts(error))
    return errors.StripeRejected(f"Stripe refuses the request: {_words(error)}", **_facts(error))


def _bad_key(error: stripe.StripeError) -> errors.BillingError:
    # Stripe's message quotes parts of the key, so it is not passed on.
    return errors.StripeMisconfigured(
        "Stripe does not accept STRIPE_SECRET_KEY: it is wrong, expired or revoked.", **_facts(error)
    )


def _weak_key(error: stripe.StripeError) -> errors.BillingError:
    lacking = sorted(set(_PERMISSION.findall(str(error.user_message or ""))))
    if lacking:
        words = f"STRIPE_SECRET_KEY lacks the permission {' or '.join(lacking)}; grant it in Stripe's dashboard."
        return errors.StripeMisconfigured(words, lacks=lacking, **_facts(error))
    return errors.StripeMisconfigured(f"STRIPE_SECRET_KEY may not do this: {_words(error)}", **_facts(error))


def _rate_limited(error: stripe.StripeError) -> errors.BillingError:
    seconds = retry_seconds(error) or DEFAULT_RETRY_SECONDS
    if code_of(error) == "lock_timeout":
        words = "Stripe is changing the same object for another request; try again."
    else:
        words = "Stripe's rate limit is reached; try again."
    return errors.StripeRateLimited(words, retry_after=seconds, **_facts(error))


def _key_conflict(error: stripe.StripeError) -> errors.BillingError:
    if code_of(error) == "idempotency_key_in_use" or error.http_status == 409:
        words = "Stripe is still carrying out an earlier request with this idempotency key."
    else:
        words = "Stripe has this idempotency key with other parameters; nothing was carried out now."
    return errors.StripeIdempotencyConflict(words, **_facts(error))


def _failed(error: stripe.StripeError) -> errors.BillingError:
    status = error.http_status
    told = isinstance(_member(error, "type"), str)
    if status == 429:
        return _rate_limited(error)
    if status == 409 and told:
        return _key_conflict(error)
    if status is not None and 400 <= status < 500 and told:
        return _refused(error)
    if status is not None and not told:
        return malformed(f"status {status} and not JSON of Stripe's", writes=True, request_id=error.request_id)
    return errors.StripeUnavailable(f"Stripe failed with status {status}.", **_facts(error))


def _unsent(error: stripe.StripeError) -> errors.BillingError:
    refusal = errors.StripeUnavailable(f"Stripe cannot be reached ({_words(error)}); the request was not sent.")
    refusal.effect_possible = False
    return refusal


def _unanswered(error: stripe.StripeError) -> errors.BillingError:
    return errors.StripeUnavailable(f"Stripe did not answer ({_words(error)}).")


def _unknown(error: stripe.StripeError) -> errors.BillingError:
    return errors.StripeUnavailable(f"Stripe failed in an unknown way ({type(error).__name__}).", **_facts(error))


TABLE: dict[type, Callable[[Any], errors.BillingError]] = {
    stripe.InvalidRequestError: _refused,
    stripe.CardError: _refused,
    stripe.AuthenticationError: _bad_key,
    stripe.PermissionError: _weak_key,
    stripe.RateLimitError: _rate_limited,
    stripe.IdempotencyError: _key_conflict,
    NotSent: _unsent,
    stripe.APIConnectionError: _unanswered,
    stripe.APIError: _failed,
    # The classes of the v2 API, which is not called here.
    stripe.StripeError: _unknown,
}
