"""What past weeks used beyond their quota and nobody paid for: a new week's quota pays for it, once a week."""

from datetime import datetime

from bson import ObjectId

from .. import extras
from ..documents import UsageWeek, week_of


def settle(org_id: ObjectId, now: datetime) -> int:
    """Pay what is owed for overflow out of the current week's quota, inside the caller's transaction; returns units.

    The week must be there. Only what is left of its quota is taken, so it does not matter whether some of it was used
    before: what the week itself used beyond its quota leaves nothing to pay with.
    """
    owed = extras.overflow_owed(org_id)
    week = UsageWeek.objects(organization=org_id, week=week_of(now)).only("quota", "used").first() if owed else None
    units = min(owed, max(0, (week.quota or 0) - week.used)) if week else 0
    if not units:
        return 0
    ref = f"settle:{org_id}:{week_of(now)}"
    booked = extras.enter({"organization": org_id, "kind": "settlement", "units": units, "ref": ref, "at": now})
    if not booked.applied:
        return 0
    UsageWeek.objects(organization=org_id, week=week_of(now)).update_one(inc__used=units, inc__settled=units)
    return units
