"""Cancels whose result could not be seen: looked at again, never asked for again."""

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

from bson import ObjectId

from ..documents import EPOCH, AdminOperation, Finding, in_transaction
from ..errors import BillingError, CancelUnverified, IdempotencyInProgress
from ..observability import log
from ..operations import Asked, Running, take_over
from ..plans import Plans
from ..stripe_gateway import StripeGateway
from .cancel_target import Wanted, find_target
from .cancellation import outcome_of, write_cancelled
from .synchronization import require_row

EAGER, PATIENT = timedelta(hours=1), timedelta(hours=24)
FOLLOW_UP_BATCH = 50


def follow_up_cancels(*, stripe: StripeGateway, plans: Plans, clock: Callable[[], datetime]) -> int:
    """Look, and only look, whether unseen cancels have happened; returns how many were settled.

    Each minute for an hour, each hour for a day; after that the operation has failed and a finding tells of it.
    Cancels whose process died after asking Stripe are among them.
    """
    now = clock()
    due = AdminOperation.objects(
        kind="cancel", pursued=True, next_check_at__gt=EPOCH, next_check_at__lte=now, state__in=("unknown", "started")
    ).limit(FOLLOW_UP_BATCH)
    return sum(_follow_up(record, stripe, plans, clock) for record in due)


def _follow_up(known: AdminOperation, stripe: StripeGateway, plans: Plans, clock: Callable[[], datetime]) -> bool:
    record = take_over(known, clock())
    if record is None:
        return False
    running = Running(Asked.of(record), record, clock)
    waited = clock() - (record.first_unknown_at or record.created_at)
    try:
        _look(running, stripe, plans, clock())
        return True
    except IdempotencyInProgress:
        return False
    except CancelUnverified as unseen:
        log.info("cancel_not_seen_yet", operation=str(record.pk), organization=record.target, detail=unseen.detail)
    except BillingError as refusal:
        log.warning("cancel_follow_up_failed", operation=str(record.pk), organization=record.target, code=refusal.code)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as bug:
        # One record that cannot be read must not hold up the others.
        log.error("cancel_follow_up_failed", operation=str(record.pk), organization=record.target, exc_info=bug)
    if waited < EAGER + PATIENT:
        running.look_again(timedelta(minutes=1) if waited < EAGER else timedelta(hours=1))
        return False
    with contextlib.suppress(IdempotencyInProgress):
        in_transaction(lambda: _give_up(running, clock()))
    return True


def _give_up(running: Running, now: datetime) -> None:
    running.give_up("cancel_unverified: the wanted state was not seen at Stripe within 25 hours")
    _note_unverified(running.record, now)


def _look(running: Running, stripe: StripeGateway, plans: Plans, now: datetime) -> None:
    target_id = running.record.parameters["stripe_target_id"]
    wanted = Wanted(mode=running.record.parameters["mode"], subscription_id=target_id)
    org_id = ObjectId(running.record.target)
    target = find_target(require_row(org_id), wanted, stripe, remembered=target_id)
    write_cancelled(
        org_id,
        target,
        wanted,
        None,
        stripe=stripe,
        plans=plans,
        now=now,
        verify_seconds=0,
        also=lambda cancelled: running.complete(outcome_of(cancelled)),
    )


def _note_unverified(record: AdminOperation, now: datetime) -> None:
    Finding.objects(fingerprint=f"cancel_unverified:{record.pk}", state__in=("open", "acknowledged")).update_one(
        upsert=True,
        set__last_seen_at=now,
        inc__times_seen=1,
        set_on_insert__kind="cancel_unverified",
        set_on_insert__severity="high",
        set_on_insert__cause="unknown",
        set_on_insert__state="open",
        set_on_insert__organization=ObjectId(record.target),
        set_on_insert__stripe_subscription_ids=[record.parameters.get("stripe_target_id", "unknown")],
        set_on_insert__first_seen_at=now,
    )
