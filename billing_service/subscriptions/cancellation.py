"""Cancelling at Stripe: ask, look until it is seen, only then write.

A cancel is never believed without looking; one that could not be seen is followed up by looking only.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from bson import ObjectId

from ..documents import Subscription
from ..errors import (
    BillingError,
    CancelUnverified,
    StripeMissing,
    StripeRejected,
)
from ..operations import Outcome, Running
from ..plans import Plans
from ..stripe_gateway import StripeGateway
from ..stripe_gateway.shapes import LiveSubscription, Read
from .cancel_target import Target, Wanted, find_target, target_of
from .convergence import converge
from .decision import Change
from .observation import Observation, observe
from .selection import choose
from .synchronization import require_row

# Refused before anything could happen, so there is nothing to look for.
NOT_SENT = frozenset({"stripe_circuit_open", "stripe_rate_limited", "stripe_misconfigured", "stripe_not_configured"})


@dataclass(frozen=True)
class Cancelled:
    """The result. `stripe_status` is what Stripe shows of the cancelled subscription, None if it is gone."""

    change: Change
    subscription_id: str | None
    stripe_status: str | None
    verified: bool


def cancel(
    org_id: ObjectId,
    wanted: Wanted,
    *,
    stripe: StripeGateway,
    plans: Plans,
    now: datetime,
    running: Running,
    verify_seconds: float,
) -> Cancelled:
    """Cancel the organization's subscription at Stripe, verify it by retrieving, then write the row.

    The operation remembers its target before Stripe is asked, so a resumed one never chooses again. Refuses with
    SubscriptionNotFound, NoStripeSubscription, SeveralLive, ManagedBySchedule, OrganizationConflict, StripeMissing,
    MissingUnproven, StripeRejected, what the gateway refuses, and CancelUnverified: then the row is untouched and
    `follow_up_cancels` looks again.
    """
    remembered = running.record.parameters.get("stripe_target_id")
    row = require_row(org_id)
    target = find_target(row, replace(wanted, subscription_id=remembered or wanted.subscription_id), stripe, remembered)
    failure = None
    if target.id:
        running.pursue(stripe_target_id=target.id)
    if target.live is not None and not _is_reached(target.live, wanted, stripe):
        failure = _ask(target.live.id, wanted, stripe, running)
    return write_cancelled(
        org_id,
        target,
        wanted,
        failure,
        stripe=stripe,
        plans=plans,
        now=now,
        verify_seconds=verify_seconds,
        also=lambda cancelled: running.complete(outcome_of(cancelled)),
    )


def foretell(org_id: ObjectId, wanted: Wanted, *, stripe: StripeGateway, plans: Plans, now: datetime) -> Cancelled:
    """What a cancel would do, with the same refusals; nothing is asked for and nothing is written."""
    row = require_row(org_id)
    seen = observe(stripe, row, named=(wanted.subscription_id,) if wanted.subscription_id else ())
    target = target_of(row, wanted, seen, stripe, None)
    after = target.live if target.live is None or target.is_over else _after(target.live, wanted, now)
    found = tuple(after if after and each.id == after.id else each for each in seen.found)
    imagined = replace(seen, found=found, chosen=choose(found))
    change = converge(org_id, lambda _: imagined, plans=plans, now=now, source="cancel", dry_run=True)
    return Cancelled(change, target.id, after.status if after else None, verified=False)


def _ask(subscription_id: str, wanted: Wanted, stripe: StripeGateway, running: Running) -> BillingError | None:
    """Send the cancel; returns a failure that leaves open whether it took effect."""
    try:
        if wanted.mode == "now":
            stripe.cancel_now(subscription_id, prorate=wanted.prorate, invoice_now=wanted.invoice_now)
        else:
            # A key of its own for each attempt: Stripe repeats the first answer, a 500 too, for a day.
            key = f"cancel_admin_{running.record.pk}_{running.record.attempt}"
            stripe.cancel_at_period_end(subscription_id, idempotency_key=key)
    except BillingError as refusal:
        if refusal.code in NOT_SENT or isinstance(refusal, StripeRejected):
            running.nothing_was_sent()
        if refusal.code in NOT_SENT:
            raise
        return refusal
    return None


def _is_reached(live: LiveSubscription, wanted: Wanted, stripe: StripeGateway) -> bool:
    """Whether nothing needs asking; a list may lag, so its word is confirmed by a retrieval."""
    if not wanted.reached(live):
        return False
    try:
        return wanted.reached(stripe.subscription(live.id).value)
    except StripeMissing:
        return True


def _verify(
    target: Target, wanted: Wanted, failure: BillingError | None, stripe: StripeGateway, seconds: float
) -> Read[LiveSubscription] | None:
    """Retrieve until the wanted state is seen; returns what was read, None for gone. Raises CancelUnverified."""
    assert target.id is not None
    deadline, pause = time.monotonic() + seconds, 0.1
    while True:
        reached, read, looks = _look(target, wanted, stripe)
        if reached:
            return read
        if isinstance(failure, StripeRejected):
            raise failure
        if time.monotonic() + pause > deadline:
            raise CancelUnverified(
                f"The cancel of {target.id} ({wanted.mode}) could not be seen at Stripe: {looks}. "
                "The database is unchanged. It is looked at each minute from now and written as soon as it shows; "
                "repeat with the same Idempotency-Key, or look with GET /customer.",
                pending=True,
                stripeSubscriptionId=target.id,
                cause=failure.code if failure else None,
            )
        time.sleep(pause)
        pause = min(pause * 2, 1.0)


def _look(target: Target, wanted: Wanted, stripe: StripeGateway) -> tuple[bool, Read[LiveSubscription] | None, str]:
    """Whether the wanted state shows now, what was read (None for gone), and what was seen in words."""
    assert target.id is not None
    try:
        read = stripe.subscription(target.id)
        return wanted.reached(read.value), read, f"Stripe shows it as {read.value.status}"
    except StripeMissing:
        if target.live is None:
            return True, None, "gone"
        # It was there a moment ago; with its customer in sight it is gone for good.
        try:
            stripe.customer(target.live.customer)
            return True, None, "gone"
        except BillingError as refusal:
            return False, None, f"it is not shown, and its customer neither ({refusal.code})"
    except BillingError as refusal:
        return False, None, f"retrieving it failed with {refusal.code}"


def write_cancelled(
    org_id: ObjectId,
    target: Target,
    wanted: Wanted,
    failure: BillingError | None,
    *,
    stripe: StripeGateway,
    plans: Plans,
    now: datetime,
    verify_seconds: float,
    also: Callable[[Cancelled], None],
) -> Cancelled:
    """See the wanted state at Stripe, after the row was read, and write what is then the organization's state."""
    seen: dict[str, str | None] = {}

    def look(row: Subscription) -> Observation:
        read = _verify(target, wanted, failure, stripe, verify_seconds) if target.id else None
        seen["status"] = read.value.status if read else None
        return observe(stripe, row, known=(read,) if read else ())

    def result(change: Change) -> Cancelled:
        return Cancelled(change, target.id, seen["status"], verified=True)

    change = converge(org_id, look, plans=plans, now=now, source="cancel", also=lambda change: also(result(change)))
    return result(change)


def _after(target: LiveSubscription, wanted: Wanted, now: datetime) -> LiveSubscription:
    if wanted.mode == "now":
        return replace(target, status="canceled", canceled_at=now, ended_at=now)
    return replace(target, cancel_at_period_end=True, cancel_at=target.current_period_end)


def outcome_of(cancelled: Cancelled) -> Outcome:
    """The answer of endpoint 4.6: previous, updated, changed, stripe_status, verified."""
    change = cancelled.change
    return Outcome(
        answer={
            "previous": change.previous,
            "updated": change.updated,
            "changed": change.changed,
            "stripe_subscription_id": cancelled.subscription_id,
            "stripe_status": cancelled.stripe_status,
            "verified": cancelled.verified,
        },
        before=change.previous,
        after=change.updated,
    )
