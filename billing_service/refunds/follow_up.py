"""Refunds of which nobody knows, looked after by the sweep: asked for again with the same key, then only looked for."""

import time
from datetime import timedelta

from .. import outbox
from ..documents import EPOCH, Finding, RefundRequest, in_transaction
from ..errors import BillingError, IdempotencyInProgress
from ..observability import log
from ..operations import Clock
from ..stripe_gateway import StripeGateway
from .asking import ASKING, ask_again, look
from .refunding import record
from .requests import claim
from .settling import ACCEPTED_PAUSE, Seen, close_operation, fingerprint_of, settle

BATCH = 50
# Of the sweep's minute, which others need as well; a Stripe that does not answer takes seconds for each.
SECONDS = 15.0
TROUBLE_PAUSE = timedelta(minutes=10)


def follow_up_refunds(*, stripe: StripeGateway, clock: Clock) -> int:
    """Find out what became of refunds that nobody knows of; returns how many were settled.

    Those whose process died while it sent them are among them.
    """
    now, begun = clock(), time.monotonic()
    due = RefundRequest.objects(next_check_at__gt=EPOCH, next_check_at__lte=now).order_by("next_check_at").limit(BATCH)
    settled = 0
    for request in due:
        if time.monotonic() - begun > SECONDS:
            break
        settled += _follow_up(request, stripe, clock)
    return settled


def _follow_up(request: RefundRequest, stripe: StripeGateway, clock: Clock) -> bool:
    facts = {"refund_request_id": request.refund_request_id, "organization": str(request.organization)}
    try:
        return _find_out(request, stripe, clock)
    except IdempotencyInProgress:
        return False
    except BillingError as refusal:
        log.warning("refund_follow_up_failed", code=refusal.code, **facts)
        return request.state != "accepted"  # certainly not made is an end, too
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as bug:
        # One row that cannot be read must not hold up the others.
        log.error("refund_follow_up_failed", exc_info=bug, **facts)
        RefundRequest.objects(id=request.pk).update_one(set__next_check_at=clock() + TROUBLE_PAUSE)
        return False


def _find_out(request: RefundRequest, stripe: StripeGateway, clock: Clock) -> bool:
    if request.state == "accepted":
        return _look_at_accepted(request, stripe, clock)
    if request.state not in ("pending", "unknown"):
        in_transaction(lambda: close_operation(request, clock))
        return False
    claimed = claim(request, clock())
    outcome = record(claimed, ask_again(claimed, stripe, clock()), clock)
    if outcome.status != 202:
        return True
    if clock() >= claimed.sent_at + ASKING and not claimed.unresolved_at:
        in_transaction(lambda: _tell_unresolved(claimed, clock))
    return False


def _look_at_accepted(request: RefundRequest, stripe: StripeGateway, clock: Clock) -> bool:
    """The bank takes days, and the event that tells of its end may never be handled here."""
    RefundRequest.objects(id=request.pk).update_one(set__next_check_at=clock() + ACCEPTED_PAUSE)
    live = look(request, stripe)
    if live is None:
        in_transaction(lambda: close_operation(request, clock))
        return False
    seen = Seen.of(live, request)
    in_transaction(lambda: settle(seen, clock))
    return seen.state != "accepted"


def _tell_unresolved(request: RefundRequest, clock: Clock) -> None:
    now = clock()
    if not RefundRequest.objects(id=request.pk, unresolved_at=None).update_one(set__unresolved_at=now):
        return
    names = ("refund_request_id", "charge", "amount", "currency", "actor", "sent_at")
    facts = {name: getattr(request, name) for name in names}
    Finding(
        fingerprint=fingerprint_of(request),
        kind="refund_unresolved",
        severity="high",
        organization=request.organization,
        stored=facts,
        first_seen_at=now,
        last_seen_at=now,
        state="open",
    ).save(force_insert=True)
    told = {name: facts[name] for name in ("refund_request_id", "amount", "currency")} | {"charge_id": request.charge}
    key = fingerprint_of(request)
    outbox.put([outbox.signal("refund_unresolved", key, now=now, organization=request.organization, facts=told)])
