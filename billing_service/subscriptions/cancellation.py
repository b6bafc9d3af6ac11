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
    ManagedBySchedule,
    MissingUnproven,
    OrganizationConflict,
    SeveralLive,
    StripeMissing,
    StripeRejected,
)
from ..operations import Outcome
from ..plans import Plans
from ..stripe_gateway import StripeGateway
from ..stripe_gateway.shapes import LiveSubscription, Read
from .convergence import converge
from .decision import Change
from .observation import Observation, observe
from .selection import choose
from .statuses import ENDED
from .synchronization import refuse_foreign, require_row

# Refused before anything could happen, so there is nothing to look for.
NOT_SENT = frozenset({"stripe_circuit_open", "stripe_rate_limited", "stripe_misconfigured", "stripe_not_configured"})


@dataclass(frozen=True)
class Wanted:
    """What the admin asked for; `mode` is now or period_end."""

    mode: str
    subscription_id: str | None = None
    prorate: bool = False
    invoice_now: bool = False

    def reached(self, live: LiveSubscription) -> bool:
        """Whether Stripe shows the wanted state. `cancel_at` and `cancel_at_period_end` are one intent."""
        if live.status in ENDED:
            return True
        if self.mode == "now":
            return False
        end = live.current_period_end
        return live.cancel_at_period_end or bool(live.cancel_at and end and live.cancel_at <= end)


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
    idempotency_key: str,
    verify_seconds: float,
    remember: Callable[[str], None],
    also: Callable[[Cancelled], None] | None = None,
    dry_run: bool = False,
) -> Cancelled:
    """Cancel the organization's subscription at Stripe, verify it by retrieving, then write the row.

    `remember` keeps the target's id before Stripe is asked, `also` runs in the write's transaction. Refuses with
    SubscriptionNotFound, SeveralLive, ManagedBySchedule, OrganizationConflict, MissingUnproven, StripeRejected,
    what the gateway refuses, and CancelUnverified: then the row is untouched and `follow_up_cancels` looks again.
    """
    row = require_row(org_id)
    seen = observe(stripe, row, named=(wanted.subscription_id,) if wanted.subscription_id else ())
    target = _target(row, wanted, seen, stripe)
    if dry_run:
        return _foretell(org_id, target, wanted, seen, plans, now)
    read: Read[LiveSubscription] | None = None
    if target is not None:
        remember(target.id)
        read = _ask_and_verify(target, wanted, stripe, idempotency_key, verify_seconds)
    return write_cancelled(org_id, target.id if target else None, read, stripe=stripe, plans=plans, now=now, also=also)


def _target(row: Subscription, wanted: Wanted, seen: Observation, stripe: StripeGateway) -> LiveSubscription | None:
    """The subscription to cancel; None when there is nothing left to cancel."""
    named = wanted.subscription_id
    target = _named(row, named, seen, stripe) if named else _only(row, seen)
    if target is not None and target.status not in ENDED and target.schedule:
        raise ManagedBySchedule(
            f"{target.id} is managed by {target.schedule}; Stripe would refuse or undo the change. Nothing was "
            "written. Release or cancel the schedule at Stripe, then repeat.",
            schedule=target.schedule,
        )
    return None if target is None or target.status in ENDED else target


def _named(
    row: Subscription, subscription_id: str, seen: Observation, stripe: StripeGateway
) -> LiveSubscription | None:
    found = next((each for each in (*seen.found, *seen.conflicting) if each.id == subscription_id), None)
    if found is None:
        prove_gone(row, subscription_id, stripe)
        return None
    refuse_foreign(row.organization, found, stripe)
    known = {row.stripe_customer_id, *(each.stripe_customer_id for each in row.candidates)}
    if found.customer not in known and found.metadata.get("organizationId") != str(row.organization):
        raise OrganizationConflict(
            f"{subscription_id} is of customer {found.customer}, which nothing ties to organization "
            f"{row.organization}. Nothing was written. If it is theirs, link it first."
        )
    return found


def prove_gone(row: Subscription, subscription_id: str, stripe: StripeGateway) -> None:
    """A missing subscription is gone only if this key sees the row's customer (promise P4)."""
    try:
        if row.stripe_customer_id:
            stripe.customer(row.stripe_customer_id)
            return
    except StripeMissing:
        pass
    raise MissingUnproven(
        f"Stripe does not show {subscription_id} and this key does not see the organization's customer either. "
        "Nothing was written. Check STRIPE_SECRET_KEY."
    )


def _only(row: Subscription, seen: Observation) -> LiveSubscription | None:
    # One that is unpaid or paused has not ended: an admin who cancels wants that one gone as well.
    for among in (seen.live, tuple(each for each in seen.found if each.status not in ENDED)):
        if len(among) > 1:
            raise SeveralLive(
                f"Organization {row.organization} has {len(among)} subscriptions that have not ended. Nothing was "
                "written. Name the one to cancel in stripeSubscriptionId.",
                subscriptions=[{"id": each.id, "status": each.status} for each in among],
            )
        if among:
            return among[0]
    return None


def _ask_and_verify(
    target: LiveSubscription, wanted: Wanted, stripe: StripeGateway, idempotency_key: str, seconds: float
) -> Read[LiveSubscription] | None:
    """Send the cancel and retrieve until it shows; returns what was seen, None for proven gone."""
    failure: BillingError | None = None
    if not wanted.reached(target):
        try:
            _ask(target.id, wanted, stripe, idempotency_key)
        except BillingError as refusal:
            if refusal.code in NOT_SENT:
                raise
            failure = refusal
    verified, read, looks = _verify(target, wanted, stripe, seconds, once=isinstance(failure, StripeRejected))
    if verified:
        return read
    if isinstance(failure, StripeRejected):
        raise failure
    raise CancelUnverified(
        f"Stripe was asked to cancel {target.id} ({wanted.mode}) and the result could not be seen: {looks}. The "
        "database is unchanged. It is looked at each minute from now and written as soon as it shows; repeat with "
        "the same Idempotency-Key, or look with GET /customer.",
        pending=True,
        stripeSubscriptionId=target.id,
        cause=failure.code if failure else None,
    )


def _ask(subscription_id: str, wanted: Wanted, stripe: StripeGateway, idempotency_key: str) -> None:
    if wanted.mode == "now":
        stripe.cancel_now(subscription_id, prorate=wanted.prorate, invoice_now=wanted.invoice_now)
    else:
        stripe.cancel_at_period_end(subscription_id, idempotency_key=idempotency_key)


def _verify(
    target: LiveSubscription, wanted: Wanted, stripe: StripeGateway, seconds: float, *, once: bool
) -> tuple[bool, Read[LiveSubscription] | None, str]:
    """Retrieve until the wanted state is seen; (seen, what was read or None for gone, what was seen last)."""
    deadline, pause, looks = time.monotonic() + seconds, 0.1, "nothing was read"
    while True:
        try:
            read = stripe.subscription(target.id)
            if wanted.reached(read.value):
                return True, read, read.value.status
            looks = f"Stripe shows it as {read.value.status}"
        except StripeMissing:
            # It was there a moment ago; with its customer in sight it is gone for good.
            try:
                stripe.customer(target.customer)
                return True, None, "gone"
            except BillingError as refusal:
                looks = f"it is not shown, and its customer neither ({refusal.code})"
        except BillingError as refusal:
            looks = f"retrieving it failed with {refusal.code}"
        if once or time.monotonic() + pause > deadline:
            return False, None, looks
        time.sleep(pause)
        pause = min(pause * 2, 1.0)


def write_cancelled(
    org_id: ObjectId,
    target_id: str | None,
    read: Read[LiveSubscription] | None,
    *,
    stripe: StripeGateway,
    plans: Plans,
    now: datetime,
    also: Callable[[Cancelled], None] | None,
    source: str = "cancel",
) -> Cancelled:
    def result(change: Change) -> Cancelled:
        status = read.value.status if read else None if target_id else change.updated["status"]
        return Cancelled(change, target_id, status, verified=True)

    def look(row: Subscription) -> Observation:
        return observe(stripe, row, known=(read,) if read else ())

    change = converge(
        org_id,
        look,
        plans=plans,
        now=now,
        source=source,
        also=(lambda change: also(result(change))) if also else None,
    )
    return result(change)


def _foretell(
    org_id: ObjectId,
    target: LiveSubscription | None,
    wanted: Wanted,
    seen: Observation,
    plans: Plans,
    now: datetime,
) -> Cancelled:
    """What the row would become: the same decision over Stripe's state as it would be afterwards."""
    after = _after(target, wanted, now) if target else None
    found = tuple(after if after and each.id == after.id else each for each in seen.found)
    imagined = replace(seen, found=found, chosen=choose(found))
    change = converge(org_id, lambda _: imagined, plans=plans, now=now, source="cancel", dry_run=True)
    status = after.status if after else change.updated["status"]
    return Cancelled(change, target.id if target else None, status, verified=False)


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
