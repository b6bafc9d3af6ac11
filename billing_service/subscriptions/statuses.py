"""Stripe's subscription statuses in the three sets that decide access, and the effective plan."""

from datetime import datetime

from ..documents import Override
from ..plans import Plans

LIVE = frozenset({"trialing", "active", "past_due"})
ENDED = frozenset({"canceled", "incomplete_expired"})
SUSPENDED = frozenset({"incomplete", "unpaid", "paused"})
PAID_UP = frozenset({"trialing", "active"})


def holds(override: Override | None, now: datetime) -> bool:
    """Whether an admin's override is in force at `now`."""
    return override is not None and (override.until is None or override.until > now)


def effective_plan(
    plans: Plans,
    now: datetime,
    *,
    override: Override | None,
    status: str | None,
    suspended_at: datetime | None,
    stripe_plan: str | None,
) -> str:
    """The plan that access control reads; every writer of a row asks here."""
    if override is not None and holds(override, now):
        return override.plan
    if suspended_at is not None or status not in LIVE:
        return plans.free
    return stripe_plan or plans.free
