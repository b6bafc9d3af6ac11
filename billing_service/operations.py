"""Every admin mutation as one operation: idempotent by its key, recorded before and after it happens.

An operation that died half way is found by its intent row: the next call with its key resumes it, the sweep
closes its record, and one that asked Stripe for something is looked after until the effect is seen.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from bson import ObjectId
from mongoengine.errors import NotUniqueError

from .asked import Asked, Outcome, stored_refusal
from .documents import AdminAction, AdminOperation, Subscription, in_transaction
from .errors import BillingError, Conflict, IdempotencyInProgress, IdempotencyMismatch

LEASE = timedelta(minutes=2)
KEPT = timedelta(hours=24)
AUDIT_KEPT = timedelta(days=5 * 365)
SETTLE_BATCH = 100
# A request has no bound of its own: well after its lease it is taken for dead.
DEAD_AFTER = timedelta(minutes=10)

# Not the caller's fault, or not about this request: the same key may be tried again.
UNSTORED = frozenset({401, 403, 429})

Clock = Callable[[], datetime]


class Running:
    """One attempt at an operation. Whatever it records stands only while no other attempt took over."""

    def __init__(self, asked: Asked, record: AdminOperation, clock: Clock):
        self.asked = asked
        self.record = record
        self.clock = clock
        self.completed = False
        self.announced = False
        # An effect asked for by an earlier attempt may still come, whatever this one learns.
        self.pursued_before = record.pursued

    def announce(self, organization: ObjectId | None = None, **parameters: Any) -> None:
        """Write the intent to the audit log, once and before any effect, with what was found out since it began."""
        if self.announced:
            return
        self.announced = True
        if organization:
            self.asked = replace(self.asked, organization=organization)
            self.record.parameters = {**self.record.parameters, **parameters}
            self._record(organization=organization, parameters=self.record.parameters)
        self.audit("intent", "pending", before=stored_subscription(self.asked))

    def complete(self, outcome: Outcome) -> None:
        """Record the success; called inside the work's own transaction, so that all of it stands or falls.

        Raises IdempotencyInProgress when another attempt took the operation over.
        """
        now = self.clock()
        self._record(
            state="done",
            stored=True,
            answer_status=outcome.status,
            answer=outcome.answer,
            next_check_at=None,
            expires_at=now + KEPT,
        )
        result = "failed" if outcome.error else "succeeded"
        self.audit("outcome", result, before=outcome.before, after=outcome.after, error=outcome.error)
        self.completed = True

    def leave_open(self, outcome: Outcome) -> None:
        """Record that nobody knows yet; this answer is not the key's, the next call with it resumes."""
        now, pursued = self.clock(), self.record.pursued
        self._record(
            state="unknown",
            stored=False,
            answer_status=outcome.status,
            answer=outcome.answer,
            lease_until=now,
            next_check_at=None,
            expires_at=None if pursued else now + KEPT,
        )
        self.audit("outcome", "unknown", before=outcome.before, after=outcome.after, error=outcome.error)
        self.completed = True

    def tell(self, **facts: Any) -> None:
        """What the outcome's row in the audit log says besides what was asked for."""
        self.record.parameters = {**self.record.parameters, **facts}

    def pursue(self, **parameters: Any) -> None:
        """From now on an effect may happen at Stripe: have it looked for until it is seen, even if we die now."""
        self.record.pursued = True
        self.record.parameters = {**self.record.parameters, **parameters}
        self.record.first_unknown_at = self.clock()
        self._record(
            parameters=self.record.parameters,
            pursued=True,
            first_unknown_at=self.record.first_unknown_at,
            next_check_at=self.clock() + LEASE + timedelta(minutes=1),
            expires_at=None,
        )

    def nothing_was_sent(self) -> None:
        """This attempt certainly had no effect."""
        self.record.pursued = self.pursued_before

    def nothing_happened(self) -> None:
        """No attempt had an effect, and none will."""
        self.record.pursued = self.pursued_before = False

    def refused(self, refusal: BillingError) -> None:
        """Record a refusal; while an effect may still come the operation stays unknown until somebody has looked."""
        now, unknown = self.clock(), self.record.pursued
        passing = isinstance(refusal, Conflict | IdempotencyInProgress)
        stored = 400 <= refusal.status < 500 and refusal.status not in UNSTORED and not passing
        result = "unknown" if unknown else "failed"
        mine = self._record(
            required=False,
            state=result,
            pursued=unknown,
            stored=stored and not unknown,
            answer_status=refusal.status,
            answer=refusal.problem(self.asked.request_id),
            lease_until=now,
            next_check_at=now + timedelta(minutes=1) if unknown else None,
            first_unknown_at=(self.record.first_unknown_at or now) if unknown else None,
            expires_at=None if unknown else now + KEPT,
        )
        if mine:  # another attempt that took over, or a success that was committed, has its own row
            error = f"{refusal.code}: {refusal.detail}"
            self.audit("outcome", result, before=stored_subscription(self.asked), error=error)

    def look_again(self, pause: timedelta) -> None:
        """Give an unknown operation back: nothing was seen this time."""
        now = self.clock()
        self._record(required=False, state="unknown", lease_until=now, next_check_at=now + pause)

    def give_up(self, error: str) -> None:
        """Record that nobody will look any more; raises IdempotencyInProgress if another attempt took over."""
        now = self.clock()
        self._record(state="failed", stored=False, next_check_at=None, pursued=False, expires_at=now + KEPT)
        self.audit("outcome", "failed", before=stored_subscription(self.asked), error=error)

    def _record(self, required: bool = True, **values: Any) -> bool:
        """Write to the operation if it is still this attempt's; says whether it was."""
        mine = AdminOperation.objects(id=self.record.pk, attempt=self.record.attempt, state="started")
        written = mine.update_one(**{f"set__{name}": value for name, value in values.items()})
        if required and not written:
            raise IdempotencyInProgress(
                "This operation took so long that it was taken over; nothing was written here. Ask again.",
                retry_after=2,
            )
        return bool(written)

    def audit(
        self,
        phase: str,
        result: str,
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """Add a row to the audit log."""
        asked, now = self.asked, self.clock()
        AdminAction(
            operation=self.record.pk,
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
            parameters=self.record.parameters,
            before=before,
            after=after,
            error=error,
            expires_at=now + AUDIT_KEPT,
        ).save(force_insert=True)


def stored_subscription(asked: Asked) -> dict[str, Any] | None:
    """The organization's subscription object as it is stored now."""
    row = Subscription.objects(organization=asked.organization).first() if asked.organization else None
    return row.describe() if row else None


def perform(
    asked: Asked, clock: Clock, work: Callable[[Running], Outcome], *, announces: bool = False
) -> tuple[Outcome, bool]:
    """Do the work once for this key; returns its outcome and whether it is a stored one.

    Work that `announces` writes the intent itself, once it knows whose it is and before any effect.

    Refuses with IdempotencyMismatch (key used with another request) and IdempotencyInProgress. A refusal by
    the work is recorded and raised again; refusals of status 4xx but 401, 403, 429 are the key's answer too.
    """
    record, stored = _begin(asked, clock())
    if stored is not None:
        return stored, True
    running = Running(asked, record, clock)
    if not announces:
        running.announce()
    try:
        outcome = work(running)
        if not running.completed:
            running.announce()
            in_transaction(partial(running.complete, outcome))
    except BillingError as refusal:
        running.announce()
        in_transaction(partial(running.refused, refusal))
        raise
    except Exception as bug:
        running.announce()
        # In no transaction: that would be tried for two minutes if it is the database that fails.
        running.refused(BillingError(f"{type(bug).__name__}; see the log line of request {asked.request_id}"))
        raise
    return outcome, False


def _begin(asked: Asked, now: datetime) -> tuple[AdminOperation, Outcome | None]:
    record = AdminOperation(
        kind=asked.kind,
        target=asked.target,
        organization=asked.organization,
        actor=asked.actor,
        route=asked.route,
        idempotency_key=asked.idempotency_key,
        body_hash=asked.body_hash,
        parameters=asked.body,
        role=asked.role,
        note=asked.note,
        request_id=asked.request_id,
        state="started",
        lease_until=now + LEASE,
        created_at=now,
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
            raise stored_refusal(known)
        return known, Outcome(answer=known.answer, status=known.answer_status)
    if known.state == "started" and known.lease_until > now:
        raise IdempotencyInProgress(
            "The operation with this Idempotency-Key is still running; ask again in a moment.", retry_after=2
        )
    taken = take_over(known, now)
    if taken is None:
        raise IdempotencyInProgress("Another call resumed this operation a moment ago.", retry_after=2)
    return taken, None


def take_over(known: AdminOperation, now: datetime) -> AdminOperation | None:
    """Begin the next attempt at an operation; None when somebody else did."""
    # What is not at its end must not vanish, however long nobody looks.
    values: dict[str, Any] = {"set__state": "started", "set__expires_at": None, "set__lease_until": now + LEASE}
    if known.pursued:
        values["set__next_check_at"] = now + LEASE + timedelta(minutes=1)
    if not AdminOperation.objects(id=known.pk, attempt=known.attempt, state=known.state).update_one(
        inc__attempt=1, **values
    ):
        return None
    return AdminOperation.objects(id=known.pk).first()


def settle_lapsed(*, clock: Clock) -> int:
    """Close the records of operations whose process died and that asked Stripe for nothing; returns how many.

    The same key still resumes them. Those that did ask are looked after by their follow-up.
    """
    now = clock()
    lapsed = AdminOperation.objects(state="started", lease_until__lt=now - DEAD_AFTER, pursued=False).limit(
        SETTLE_BATCH
    )
    settled = 0
    for known in lapsed:
        if taken := take_over(known, now):
            in_transaction(partial(_close, taken, clock))
            settled += 1
    return settled


def _close(taken: AdminOperation, clock: Clock) -> None:
    running = Running(Asked.of(taken), taken, clock)
    # It may have died while it found out what to announce.
    if AdminAction.objects(operation=taken.pk).first() is None:
        running.announce()
    running.refused(BillingError("the process died or took far too long; the same Idempotency-Key resumes it"))
