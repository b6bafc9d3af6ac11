"""One call to Stripe as a bounded row of attempts: circuit, budget, request, and whether to try again."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import orjson
import stripe

from .. import errors
from ..observability import STRIPE_REQUESTS, STRIPE_SECONDS, log
from .budget import Budget
from .circuit import Circuit
from .translation import malformed, retry_seconds, translate
from .transport import NotSent

# The SDK keeps this outside of its clients. Telemetry would store an id file and report our platform.
stripe.enable_telemetry = False

ATTEMPTS = 3
PAUSE_SECONDS = 0.2
# Who has waited longer for an attempt is not made to wait for another: jobs and admins repeat calls themselves.
PATIENCE_SECONDS = 2.0
# With the same key, these speak for an earlier attempt too.
DECISIVE = (errors.StripeRejected, errors.StripeMissing, errors.StripeIdempotencyConflict)
# The answer to a repeated key is the first one again, of unknown age under a new Date: no snapshot of now.
REPLAYED_AS_OF = datetime.fromtimestamp(0, UTC)


def json_object(content: bytes) -> dict[str, Any]:
    """A JSON object; raises ValueError that says what it is not."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ValueError("it is no JSON") from error
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")
    return body


@dataclass(frozen=True)
class Call:
    """What to ask of Stripe; `operation` names it in logs and metrics.

    `parse` reads the answer's content; it raises ValueError that says what it is not.
    """

    operation: str
    method: Literal["get", "post", "delete"]
    path: str
    params: Mapping[str, Any]
    idempotency_key: str | None = None
    parse: Callable[[bytes], Any] = json_object

    @property
    def writes(self) -> bool:
        return self.method != "get"


@dataclass(frozen=True)
class Answer:
    """What the call made of Stripe's answer, the time of Stripe's clock that it is certainly not older than, and that
    of the answer.
    """

    body: Any
    as_of: datetime
    request_id: str | None
    date: datetime


class Attempts:
    """Carries out calls with one SDK client, thread-safe. An attempt longer than `patience` seconds is the last."""

    def __init__(
        self,
        client: stripe.StripeClient,
        circuit: Circuit,
        budget: Budget,
        *,
        patience: float = PATIENCE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.circuit = circuit
        self.budget = budget
        self._client = client
        self._patience = patience
        self._monotonic = monotonic
        self._sleep = sleep

    def carry_out(self, call: Call, *, background: bool) -> Answer:
        """Stripe's answer, or the BillingError of the last attempt.

        Once an attempt may have had an effect, no later failure hides that: a POST that was cut off and is then
        refused by the circuit, the budget or a 429 stays a StripeUnavailable with `effect_possible`.
        """
        earlier: errors.BillingError | None = None
        for number in range(1, ATTEMPTS + 1):
            began = None
            try:
                self.circuit.admit()
                self.budget.take(background)
                began = self._monotonic()
                with STRIPE_SECONDS.labels(call.operation).time():
                    return self._attempt(call, began)
            except errors.BillingError as refusal:
                seconds = 0.0 if began is None else self._monotonic() - began
                last = number == ATTEMPTS or seconds > self._patience or not may_repeat(call, refusal)
                _report(call, refusal, number, seconds, last)
                if last:
                    raise _outcome(refusal, earlier)  # noqa: B904  (its cause is the SDK's exception, and stays)
                earlier = earlier if earlier and earlier.effect_possible else refusal
            self._sleep(PAUSE_SECONDS * 2 ** (number - 1) * random.uniform(0.5, 1.5))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, call: Call, began: float) -> Answer:
        try:
            answer = _read(self._send(call), call, lambda: self._monotonic() - began)
        except stripe.StripeError as error:
            refusal = translate(error, writes=call.writes)
            self._learn(refusal, error)
            raise refusal from error
        except errors.StripeUnavailable:
            self.circuit.failed()
            raise
        self.circuit.succeeded()
        STRIPE_REQUESTS.labels(call.operation, "ok").inc()
        return answer

    def _send(self, call: Call) -> Any:
        options = {"idempotency_key": call.idempotency_key} if call.idempotency_key else {}
        try:
            return self._client.raw_request(call.method, call.path, **call.params, **options)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # The SDK reads an error's members without looking: {"error": []} ends here.
            raise malformed("its error has an unknown shape", writes=call.writes) from error

    def _learn(self, refusal: errors.BillingError, error: stripe.StripeError) -> None:
        if isinstance(refusal, errors.StripeUnavailable):
            self.circuit.failed()
            return
        self.circuit.succeeded()
        if isinstance(refusal, errors.StripeRateLimited) and not _is_lock(refusal):
            self.budget.slow_down(retry_seconds(error) or 0.0)


def may_repeat(call: Call, refusal: errors.BillingError) -> bool:
    """Whether the same request may be sent again.

    A GET has no effect and a POST has its idempotency key. A DELETE has neither: the second of two answers
    "missing" although the first has canceled, so it is repeated only where the first was certainly not
    carried out (no connection, or Stripe could not lock the object); else the caller looks.
    """
    error = refusal.__cause__
    if isinstance(error, stripe.StripeError) and (error.headers or {}).get("Stripe-Should-Retry") == "false":
        return False
    if isinstance(error, NotSent) or _is_lock(refusal):
        return True
    if call.method == "delete" or (call.method == "post" and call.idempotency_key is None):
        return False
    if isinstance(refusal, errors.StripeIdempotencyConflict):
        return isinstance(error, stripe.APIError)  # still running (409), not "other parameters"
    return isinstance(refusal, errors.StripeUnavailable)


def _is_lock(refusal: errors.BillingError) -> bool:
    return refusal.facts.get("stripeCode") == "lock_timeout"


def _outcome(refusal: errors.BillingError, earlier: errors.BillingError | None) -> errors.BillingError:
    if earlier is None or isinstance(refusal, DECISIVE):
        return refusal
    hides_effect = earlier.effect_possible and not refusal.effect_possible
    # A circuit that this call's own failures opened says less than the failure.
    return earlier if hides_effect or isinstance(refusal, errors.StripeCircuitOpen) else refusal


def _read(response: Any, call: Call, elapsed: Callable[[], float]) -> Answer:
    request_id = response.request_id
    try:
        body = call.parse(response.headers.content)
    except ValueError as error:
        raise malformed(str(error), writes=call.writes, request_id=request_id) from error
    try:
        date = parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise malformed("it has no readable Date", writes=call.writes, request_id=request_id) from error
    if response.headers.get("Idempotent-Replayed") == "true":
        return Answer(body, REPLAYED_AS_OF, request_id, date)
    # Stripe read the object and wrote the Date both between our sending and our reading, so the object is at
    # most the duration older than the Date. The Date has whole seconds, cut off: earlier still, which is the
    # safe side (an older as_of makes later events count, never dropped).
    return Answer(body, date - timedelta(seconds=elapsed()), request_id, date)


def _report(call: Call, refusal: errors.BillingError, number: int, seconds: float, last: bool) -> None:
    STRIPE_REQUESTS.labels(call.operation, refusal.code).inc()
    # Stripe's message stays out: it may quote an e-mail address or part of the key.
    getattr(log, "error" if last and refusal.level == "error" else "warning")(
        "stripe_request_failed",
        operation=call.operation,
        code=refusal.code,
        attempt=number,
        milliseconds=round(seconds * 1000, 1),
        effect_possible=refusal.effect_possible,
        cause=type(refusal.__cause__).__name__ if refusal.__cause__ else None,
        stripe_status=getattr(refusal.__cause__, "http_status", None),
        **{name: refusal.facts.get(name) for name in ("stripeCode", "stripeRequestId", "budget")},
    )
