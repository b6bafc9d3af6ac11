"""What became of a refund, written by whoever learns it: the request, the admin's operation, the audit, the finding.

States only move on: an answer or event that is late or comes twice changes nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .. import outbox
from ..asked import Asked, Outcome
from ..documents import AdminOperation, Finding, OutboxSignal, RefundRequest
from ..documents.finding import OPEN_STATES, resolved
from ..errors import BillingError, StripeRejected
from ..observability import log
from ..operations import Clock, Running, take_over
from ..stripe_gateway import LiveRefund

# Whatever Stripe shows is more than what we believe; a refund that succeeded can still fail.
RANK = {"pending": 0, "unknown": 0, "rejected": 0, "accepted": 1, "succeeded": 2, "failed": 3}
ENDS = {"succeeded": "succeeded", "failed": "failed", "canceled": "failed"}
# Events move accepted ones on; this is for those that are never heard of again.
ACCEPTED_PAUSE = timedelta(days=1)
SHOWN = (
    "refund_request_id",
    "organization",
    "state",
    "charge",
    "amount",
    "currency",
    "reason",
    "note",
    "actor",
    "stripe_refund_id",
    "stripe_status",
    "failure_reason",
    "error",
    "created_at",
    "updated_at",
)
UNKNOWN_WORDS = (
    "Nobody knows yet whether Stripe carried this refund out. It is looked after each minute. To ask again, "
    "repeat this id, take no new one: a new one could pay the money out twice."
)


@dataclass(frozen=True)
class Seen:
    """A refund at Stripe that carries the id of a request of ours."""

    refund_request_id: str
    id: str
    status: str | None
    failure_reason: str | None = None

    @classmethod
    def of(cls, live: LiveRefund, request: RefundRequest) -> "Seen":
        return cls(request.refund_request_id, live.id, live.status, live.failure_reason)

    @property
    def state(self) -> str:
        return ENDS.get(self.status or "", "accepted")


def outcome_of(request: RefundRequest, changed: tuple[str, ...] = ()) -> Outcome:
    """The answer of endpoint 4.7: the request as it is now, and which of its fields changed."""
    known = request.state not in ("pending", "unknown")
    answer: dict[str, Any] = {name: getattr(request, name) for name in SHOWN}
    answer |= {"changed": list(changed), "detail": None if known else UNKNOWN_WORDS}
    error = None if known else request.error or "nobody knows yet"
    if request.state == "failed":
        error = f"the refund failed at Stripe: {request.failure_reason or request.stripe_status}"
    return Outcome(answer=answer, status=200 if known else 202, error=error)


def settle(seen: Seen, clock: Clock, running: Running | None = None) -> Outcome:
    """Write what Stripe shows of a refund; called inside a transaction. `running` is an operation that waits for it.

    Raises IdempotencyInProgress if that was taken over.
    """
    request = RefundRequest.objects(refund_request_id=seen.refund_request_id).first()
    if request.stripe_refund_id not in (None, seen.id):
        log.error("refund_made_twice", refund_request_id=seen.refund_request_id, other=seen.id)
        return outcome_of(request)
    changed = _move(request, seen, clock())
    _resolve_finding(request, clock())
    return _conclude(request, changed, clock, running)


def _move(request: RefundRequest, seen: Seen, now: datetime) -> tuple[str, ...]:
    if RANK[seen.state] < RANK[request.state]:
        return ()
    values = {
        "state": seen.state,
        "stripe_refund_id": seen.id,
        "stripe_status": seen.status,
        "failure_reason": seen.failure_reason,
        "error": None,
    }
    before = request.state
    changed = tuple(name for name, value in values.items() if getattr(request, name) != value)
    if changed:
        _write(request, updated_at=now, **values)
        level = log.warning if seen.state == "failed" else log.info
        if seen.state == "failed" and before in ("accepted", "succeeded"):
            outbox.put([_told_of_failure(request, before, now)])
        level("refund_settled", refund_request_id=request.refund_request_id, stripe_refund_id=seen.id, state=seen.state)
    return changed


def _told_of_failure(request: RefundRequest, before: str, now: datetime) -> OutboxSignal:
    """An admin was told that it was made, or would be."""
    names = ("refund_request_id", "amount", "currency", "stripe_refund_id", "failure_reason", "actor")
    facts = {name: request[name] for name in names} | {"charge_id": request.charge, "before": before}
    key = f"refund_failed:{request.stripe_refund_id}"
    return outbox.signal("refund_failed", key, now=now, organization=request.organization, facts=facts)


def reject(
    request: RefundRequest, refusal: BillingError, clock: Clock, running: Running | None = None
) -> Outcome | None:
    """Write that the refund certainly was not made; called inside a transaction.

    Returns None, and an outcome instead if it turned out to be settled meanwhile.
    """
    now = clock()
    if not _let_go(request, state="rejected", error=refusal.code, updated_at=now, lease_until=now, next_check_at=None):
        return _as_it_is(request, clock, running)
    log.info("refund_rejected", refund_request_id=request.refund_request_id, code=refusal.code)
    _resolve_finding(request, now)
    if running:
        running.nothing_happened()
        running.refused(refusal)
    if not _close_operation(request, clock, refusal):
        _write(request, next_check_at=now + timedelta(minutes=1))
    return None


def leave_unknown(
    request: RefundRequest, cause: str, pause: timedelta | None, clock: Clock, running: Running | None = None
) -> Outcome:
    """Give the lease back: nobody knows yet; called inside a transaction."""
    now = clock()
    following = now + pause if pause else None
    if not _let_go(request, state="unknown", error=cause, updated_at=now, lease_until=now, next_check_at=following):
        return _as_it_is(request, clock, running)
    log.warning("refund_unknown", refund_request_id=request.refund_request_id, cause=cause)
    outcome = outcome_of(request)
    if running:
        running.leave_open(outcome)
    elif record := _lapsed_operation(request, now):
        Running(Asked.of(record), record, clock).leave_open(outcome)
    return outcome


def _as_it_is(request: RefundRequest, clock: Clock, running: Running | None) -> Outcome:
    """Somebody else was first: an event that settled it, or another call that took it up."""
    request.reload()
    return _conclude(request, (), clock, running)


def _conclude(request: RefundRequest, changed: tuple[str, ...], clock: Clock, running: Running | None) -> Outcome:
    """Complete the operations that wait for a request which is settled, as far as nobody works on them."""
    outcome = outcome_of(request, changed)
    if outcome.status == 202:
        if running:
            running.leave_open(outcome)
        return outcome
    own = running is not None and running.record.pk == request.operation
    closed = own or _close_operation(request, clock)
    if running:
        _complete(running, request, outcome)
    following = clock() + ACCEPTED_PAUSE if request.state == "accepted" else None
    _write(request, next_check_at=following if closed else clock() + timedelta(minutes=1), lease_until=clock())
    return outcome


def close_operation(request: RefundRequest, clock: Clock) -> None:
    """Complete what a settled or rejected request left open; called inside a transaction."""
    if request.state != "rejected":
        _conclude(request, (), clock, None)
        return
    refusal = StripeRejected(f"The refund was not made: {request.error}.")
    closed = _close_operation(request, clock, refusal)
    _write(request, next_check_at=None if closed else clock() + timedelta(minutes=1))


def _close_operation(request: RefundRequest, clock: Clock, refusal: BillingError | None = None) -> bool:
    """Write the outcome of the operation that had the refund sent, unless somebody works on it; False if so."""
    record, now = AdminOperation.objects(id=request.operation).first(), clock()
    if record is None or record.state in ("done", "failed"):
        return True
    # Whoever holds its lease completes it himself, or is found dead by the next look.
    if record.state == "started" and record.lease_until > now:
        return False
    taken = take_over(record, now)
    if taken is None:
        return False
    running = Running(Asked.of(taken), taken, clock)
    if refusal:
        running.nothing_happened()
        running.refused(refusal)
    else:
        _complete(running, request, outcome_of(request))
    return True


def _complete(running: Running, request: RefundRequest, outcome: Outcome) -> None:
    told = {"stripe_refund_id": request.stripe_refund_id, "refund_state": request.state}
    running.record.parameters = {**running.record.parameters, **told}
    running.complete(outcome)


def _lapsed_operation(request: RefundRequest, now: datetime) -> AdminOperation | None:
    """The operation of a process that died, taken over; None if it rests or is at work."""
    record = AdminOperation.objects(id=request.operation).first()
    if record is None or record.state != "started" or record.lease_until > now:
        return None
    return take_over(record, now)


def _let_go(request: RefundRequest, **values: Any) -> bool:
    """Write the end of an attempt, if it is still this one's and nothing has settled it."""
    held = RefundRequest.objects(id=request.pk, attempt=request.attempt, state__in=("pending", "unknown"))
    if not held.update_one(**{f"set__{name}": value for name, value in values.items()}):
        return False
    for name, value in values.items():
        setattr(request, name, value)
    return True


def _write(request: RefundRequest, **values: Any) -> None:
    RefundRequest.objects(id=request.pk).update_one(**{f"set__{name}": value for name, value in values.items()})
    for name, value in values.items():
        setattr(request, name, value)


def _resolve_finding(request: RefundRequest, now: datetime) -> None:
    if request.unresolved_at:
        known = Finding.objects(fingerprint=fingerprint_of(request), state__in=OPEN_STATES)
        known.update_one(**resolved("refund", now))


def fingerprint_of(request: RefundRequest) -> str:
    """What the finding about an unresolved request is known by."""
    return f"refund_unresolved:{request.refund_request_id}"
