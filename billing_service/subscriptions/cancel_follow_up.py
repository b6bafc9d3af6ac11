"""Cancels whose result could not be seen: looked at again, never asked for again."""

from datetime import datetime, timedelta

from bson import ObjectId

from ..documents import AdminOperation, Finding
from ..errors import BillingError, StripeMissing
from ..observability import log
from ..operations import Asked, Running
from ..plans import Plans
from ..stripe_gateway import LiveSubscription, Read, StripeGateway
from .cancellation import Wanted, outcome_of, prove_gone, write_cancelled
from .synchronization import require_row

EAGER, PATIENT = timedelta(hours=1), timedelta(hours=24)
FOLLOW_UP_BATCH = 50


def follow_up_cancels(*, stripe: StripeGateway, plans: Plans, now: datetime) -> int:
    """Look, and only look, whether unseen cancels have happened; returns how many were settled.

    Each minute for an hour, each hour for a day; after that the operation has failed and a finding tells of it.
    """
    due = AdminOperation.objects(kind="cancel", state="unknown", next_check_at__lte=now).limit(FOLLOW_UP_BATCH)
    return sum(_follow_up(operation, stripe, plans, now) for operation in due)


def _follow_up(record: AdminOperation, stripe: StripeGateway, plans: Plans, now: datetime) -> bool:
    waited = now - record.first_unknown_at
    pause = timedelta(minutes=1) if waited < EAGER else timedelta(hours=1)
    claimed = AdminOperation.objects(id=record.pk, state="unknown", next_check_at=record.next_check_at).update_one(
        set__next_check_at=now + pause
    )
    if not claimed:
        return False
    running = Running(Asked.of(record), record, now)
    try:
        if _settled(running, stripe, plans, now):
            return True
    except BillingError as refusal:
        log.warning("cancel_follow_up_failed", operation=str(record.pk), organization=record.target, code=refusal.code)
    if waited < EAGER + PATIENT:
        return False
    _note_unverified(record, now)
    running.give_up("cancel_unverified: the wanted state was not seen at Stripe within 25 hours")
    return True


def _settled(running: Running, stripe: StripeGateway, plans: Plans, now: datetime) -> bool:
    wanted = Wanted(mode=running.record.parameters["mode"])
    target_id = running.record.parameters["stripe_target_id"]
    org_id = ObjectId(running.record.target)
    read: Read[LiveSubscription] | None
    try:
        read = stripe.subscription(target_id)
    except StripeMissing:
        prove_gone(require_row(org_id), target_id, stripe)
        read = None
    if read is not None and not wanted.reached(read.value):
        return False
    write_cancelled(
        org_id,
        target_id,
        read,
        stripe=stripe,
        plans=plans,
        now=now,
        also=lambda cancelled: running.complete(outcome_of(cancelled)),
    )
    return True


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
        set_on_insert__stripe_subscription_ids=[record.parameters["stripe_target_id"]],
        set_on_insert__first_seen_at=now,
    )
