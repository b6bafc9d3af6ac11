"""Every admin mutation as one operation: idempotent by its key, recorded before and after it happens.

An operation that died half way is found by its intent row and resumed by the next call with its key.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from mongoengine.errors import NotUniqueError

from .documents import AdminAction, AdminOperation
from .errors import BillingError, IdempotencyInProgress, IdempotencyMismatch

LEASE = timedelta(minutes=2)
KEPT = timedelta(hours=24)
AUDIT_KEPT = timedelta(days=5 * 365)

# Not the caller's fault, or not about this request: the same key may be tried again.
UNSTORED = frozenset({401, 403, 429})


@dataclass(frozen=True)
class Asked:
    """What an admin asked for: the caller's part of an operation."""

    kind: str
    target: str
    organization: ObjectId | None
    actor: str
    role: str
    route: str
    body: dict[str, Any]
    note: str | None = None
    idempotency_key: str | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, record: AdminOperation) -> "Asked":
        """The request behind a stored operation, for a follow-up by the service itself."""
        return cls(
            kind=record.kind,
            target=record.target,
            organization=ObjectId(record.target) if ObjectId.is_valid(record.target) else None,
            actor=record.actor,
            role="follow-up",
            route=record.route,
            body=record.parameters,
            idempotency_key=record.idempotency_key,
        )

    @property
    def body_hash(self) -> str:
        """What must be equal for a key to mean the same request."""
        canonical = json.dumps([self.target, self.body], sort_keys=True, default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What an operation made: the answer as plain values and the subscription object before and after."""

    answer: dict[str, Any]
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    status: int = 200


class Running:
    """A started operation, handed to the work. `complete` is called inside the work's own transaction."""

    def __init__(self, asked: Asked, record: AdminOperation, now: datetime):
        self.asked = asked
        self.record = record
        self.now = now
        self.completed = False

    def complete(self, outcome: Outcome) -> None:
        """Record the success; the audit's outcome row and the stored answer stand or fall with the effect."""
        _audit(self.asked, self.record, "outcome", self.now, "succeeded", outcome=outcome)
        AdminOperation.objects(id=self.record.pk, attempt=self.record.attempt).update_one(
            set__state="done",
            set__stored=True,
            set__answer_status=outcome.status,
            set__answer=outcome.answer,
            set__next_check_at=None,
            set__expires_at=self.now + KEPT,
        )
        self.completed = True

    def give_up(self, error: str) -> None:
        """Record that nobody will look any more."""
        AdminOperation.objects(id=self.record.pk).update_one(
            set__state="failed", set__stored=False, set__next_check_at=None, set__expires_at=self.now + KEPT
        )
        _audit(self.asked, self.record, "outcome", self.now, "failed", error=error)

    def remember(self, **parameters: Any) -> None:
        """Keep what a follow-up needs to know if this process dies now."""
        AdminOperation.objects(id=self.record.pk).update_one(
            **{f"set__parameters__{name}": value for name, value in parameters.items()}
        )


def perform(asked: Asked, now: datetime, work: Callable[[Running], Outcome]) -> tuple[Outcome, bool]:
    """Do the work once for this key; returns its outcome and whether it is a stored one.

    Refuses with IdempotencyMismatch (key used with another request) and IdempotencyInProgress. A refusal by
    the work is recorded and raised again; refusals of status 4xx but 401, 403, 429 are the key's answer too.
    """
    record, stored = _begin(asked, now)
    if stored is not None:
        return stored, True
    running = Running(asked, record, now)
    _audit(asked, record, "intent", now, "pending")
    try:
        outcome = work(running)
    except BillingError as refusal:
        _refused(running, refusal)
        raise
    except Exception as bug:
        _refused(running, BillingError(f"{type(bug).__name__}"))
        raise
    if not running.completed:
        running.complete(outcome)
    return outcome, False


def _begin(asked: Asked, now: datetime) -> tuple[AdminOperation, Outcome | None]:
    record = AdminOperation(
        kind=asked.kind,
        target=asked.target,
        actor=asked.actor,
        route=asked.route,
        idempotency_key=asked.idempotency_key,
        body_hash=asked.body_hash,
        parameters=asked.body,
        state="started",
        lease_until=now + LEASE,
        created_at=now,
        expires_at=now + KEPT,
    )
    try:
        record.save(force_insert=True)
        return record, None
    except NotUniqueError:
        return _again(asked, now)


def _again(asked: Asked, now: datetime) -> tuple[AdminOperation, Outcome | None]:
    known = AdminOperation.objects(actor=asked.actor, route=asked.route, idempotency_key=asked.idempotency_key).first()
    if known is None:  # it expired between the two operations
        return _begin(asked, now)
    if known.body_hash != asked.body_hash:
        raise IdempotencyMismatch("This Idempotency-Key was used with another body or target. Take a new key.")
    if known.stored:
        if known.answer_status >= 400:
            raise _stored_refusal(known)
        return known, Outcome(answer=known.answer, status=known.answer_status)
    if known.state == "started" and known.lease_until > now:
        raise IdempotencyInProgress(
            "The operation with this Idempotency-Key is still running; ask again in a moment.", retry_after=2
        )
    taken = AdminOperation.objects(id=known.pk, attempt=known.attempt, state=known.state).update_one(
        set__state="started", set__lease_until=now + LEASE, inc__attempt=1
    )
    if not taken:
        raise IdempotencyInProgress("Another call resumed this operation a moment ago.", retry_after=2)
    known.reload()
    return known, None


def _stored_refusal(known: AdminOperation) -> BillingError:
    answer = dict(known.answer)
    names = {
        "code": answer.pop("code"),
        "status": known.answer_status,
        "title": answer.pop("title"),
        "level": "info",
    }
    kind = type("StoredRefusal", (BillingError,), names)
    for standard in ("type", "status", "requestId"):
        answer.pop(standard, None)
    return kind(answer.pop("detail", ""), errors=answer.pop("errors", None), **answer)


def _refused(running: Running, refusal: BillingError) -> None:
    """Record a refusal; one whose effect may still come stays unknown until somebody has looked."""
    record, now = running.record, running.now
    unknown = bool(refusal.facts.get("pending"))
    stored = 400 <= refusal.status < 500 and refusal.status not in UNSTORED
    outcome = "unknown" if unknown else "failed"
    AdminOperation.objects(id=record.pk, attempt=record.attempt).update_one(
        set__state=outcome,
        set__stored=stored,
        set__answer_status=refusal.status,
        set__answer=refusal.problem(running.asked.request_id),
        set__lease_until=now,
        set__next_check_at=now + timedelta(minutes=1) if unknown else None,
        set__first_unknown_at=(record.first_unknown_at or now) if unknown else None,
        set__expires_at=None if unknown else now + KEPT,
    )
    _audit(running.asked, record, "outcome", now, outcome, error=f"{refusal.code}: {refusal.detail}")


def _audit(
    asked: Asked,
    record: AdminOperation,
    phase: str,
    now: datetime,
    result: str,
    *,
    outcome: Outcome | None = None,
    error: str | None = None,
) -> None:
    AdminAction(
        operation=record.pk,
        phase=phase,
        at=now,
        actor=asked.actor,
        role=asked.role,
        action=asked.kind,
        target=asked.target,
        organization=asked.organization,
        note=asked.note,
        request_id=asked.request_id,
        outcome=result,
        before=outcome.before if outcome else None,
        after=outcome.after if outcome else None,
        error=error,
        expires_at=now + AUDIT_KEPT,
    ).save(force_insert=True)
