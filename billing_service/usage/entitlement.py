"""What an organization may do now, and why not: read from what is stored, nothing is written, Stripe is not asked."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId

from ..documents import Organization, Subscription, UsageWeek, week_of, week_start
from ..extras import balance_of, spendable_of
from ..plans import Plans
from ..subscriptions.statuses import holds

CODES = {
    "ok": "nothing stands against it",
    "past_due_grace": "a payment is overdue; access goes on until `graceUntil`",
    "plan_unknown": "the plan file does not know the plan, so nothing is metered; an operator has to add it",
    "payment_past_due": "a payment is overdue and the days of grace are over",
    "quota_exhausted": "the week's quota is used up and there are no extras",
    "organization_unknown": "nobody has told of the organization (`PUT /api/billing/organizations/{orgId}`)",
}
ALLOWED = frozenset({"ok", "past_due_grace", "plan_unknown"})


@dataclass(frozen=True)
class Entitlement:
    """What an organization has, in units of this ISO week, which ends at `week_until`; `code` is one of CODES."""

    organization: ObjectId
    allowed: bool
    code: str
    plan: str | None
    status: str | None
    quota: int | None
    used: int
    left: int | None
    extras: int
    week: str
    week_until: datetime
    grace_until: datetime | None


def entitlement_of(org_id: ObjectId, *, plans: Plans, now: datetime, grace: timedelta, metered: bool) -> Entitlement:
    """What the organization may do; one that nobody has told of may do nothing.

    `metered` (METER_MODE): extras that are over have expired, also before the night that books them out.
    """
    organization = Organization.objects(id=org_id).only("plan").first()
    row = Subscription.objects(organization=org_id).only("status", "past_due_since", "override").first()
    week = UsageWeek.objects(organization=org_id, week=week_of(now)).only("quota", "used").first()
    plan = (organization.plan or plans.free) if organization else None
    quota = plans.quota(plan) if week is None or week.quota is None else week.quota
    used, extras = week.used if week else 0, spendable_of(org_id, now) if metered else balance_of(org_id)
    left = None if quota is None else max(0, quota - used)
    grace_until = _grace_until(row, grace, now)
    code = _code(plan, left, extras, grace_until, now)
    return Entitlement(
        organization=org_id,
        allowed=code in ALLOWED,
        code=code,
        plan=plan,
        status=row.status if row else None,
        quota=quota,
        used=used,
        left=left,
        extras=extras,
        week=week_of(now),
        week_until=week_start(now) + timedelta(days=7),
        grace_until=grace_until,
    )


def _grace_until(row: Subscription | None, grace: timedelta, now: datetime) -> datetime | None:
    """Until when an overdue payment is tolerated; None if none is overdue, or an admin's override stands."""
    if row is None or row.status != "past_due" or row.past_due_since is None or holds(row.override, now):
        return None
    return row.past_due_since + grace


def _code(plan: str | None, left: int | None, extras: int, grace_until: datetime | None, now: datetime) -> str:
    if plan is None:
        return "organization_unknown"
    if grace_until and grace_until <= now:
        return "payment_past_due"
    if left is None:
        return "plan_unknown"
    if not left and extras <= 0:
        return "quota_exhausted"
    return "past_due_grace" if grace_until else "ok"
