"""Recording usage: once for each key, within the week's quota and then from extras, in one transaction.

Usage is never refused for want of quota or extras: the work was done. Who wants to know before asks for entitlements.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from bson import ObjectId
from mongoengine.errors import NotUniqueError
from pymongo.errors import DuplicateKeyError

from .. import extras
from ..documents import Organization, UsageRecord, UsageWeek, in_transaction
from ..errors import Conflict, OrganizationNotFound, UsageMismatch
from ..group_commit import Interrupted
from ..observability import log
from ..plans import Plans
from .measured import KEPT, MOST_NAMES, Usage, recorded
from .settlement import settle
from .together import together

TRIES = 8


class _Repeated(Exception):
    """Extras were debited for this key before."""


def record(
    org_id: ObjectId,
    key: str,
    units: int,
    breakdown: Mapping[str, int] | None = None,
    *,
    plans: Plans,
    now: datetime,
    metered: bool,
) -> UsageRecord:
    """Record usage; the same key and body again are the record that there is, whenever it was made.

    What is beyond the quota is taken from extras, which may then be owed. `metered` (METER_MODE): extras that are
    over have expired, and whoever makes the week also settles what earlier weeks owe. Raises OrganizationNotFound,
    UsageMismatch, and Conflict if others were first every time.
    """
    usage = Usage(org_id, key, units, now, dict(breakdown or {}), metered)
    with contextlib.suppress(Interrupted):  # whoever wrote for all was stopped; the key says what became of it
        if made := together.put(usage):
            return made
    return _record_alone(usage, plans)


def _record_alone(usage: Usage, plans: Plans) -> UsageRecord:
    for attempt in range(TRIES):
        try:
            return in_transaction(_recorder(usage, plans))
        except (DuplicateKeyError, NotUniqueError, _Repeated) as error:
            # The key was used before, or the week or the balance was made by somebody else meanwhile.
            if known := UsageRecord.objects(organization=usage.organization, key=usage.key).first():
                return _same(known, usage)
            if isinstance(error, _Repeated):
                raise UsageMismatch(
                    f"The key {usage.key} was used for usage more than {KEPT.days} days ago. Nothing was recorded. "
                    "Other usage needs a key of its own."
                ) from error
            time.sleep(0.01 * 2**attempt)
    raise Conflict(
        f"The usage of {usage.organization} was changed by others {TRIES} times. Nothing was recorded. Try again."
    )


def _recorder(usage: Usage, plans: Plans) -> Callable[[], UsageRecord]:
    def write() -> UsageRecord:
        before = _count(usage) or _open_week(usage, plans)
        quota, used = before["quota"], before["used"]
        within = usage.units if quota is None else min(usage.units, max(0, quota - used))
        balance = _debit(usage, usage.units - within)
        made = recorded(usage, within=within, quota=quota, used=used + within, extras=balance)
        return made.save(force_insert=True)

    return write


def _count(usage: Usage, quota: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Count the units on the week; returns the week as it was before, None if there is none with such a quota.

    How many are within the quota is decided by the database, so that this one write is all that races for the week.
    """
    held = {"organization": usage.organization, "week": usage.week, "quota": quota or {"$gte": 0}}
    left = {"$max": [0, {"$ifNull": [{"$subtract": ["$quota", "$used"]}, usage.units]}]}
    within = {"$min": [usage.units, left]}
    counted: dict[str, Any] = {
        "used": {"$add": ["$used", within]},
        "overflow": {"$add": ["$overflow", {"$subtract": [usage.units, within]}]},
    }
    counted |= {f"breakdown.{name}": _added(f"$breakdown.{name}", units) for name, units in usage.breakdown.items()}
    return UsageWeek._get_collection().find_one_and_update(held, [{"$set": counted}])


def _added(path: str, units: int) -> dict[str, Any]:
    """A name's units and these; a new name is only taken up while there are few."""
    names = {"$size": {"$objectToArray": {"$ifNull": ["$breakdown", {}]}}}
    is_there = {"$ne": [{"$type": path}, "missing"]}
    counted = {"$add": [{"$ifNull": [path, 0]}, units]}
    return {"$cond": [{"$or": [is_there, {"$lt": [names, MOST_NAMES]}]}, counted, "$$REMOVE"]}


def _open_week(usage: Usage, plans: Plans) -> dict[str, Any]:
    """Make the week by the organization's plan and count on it; returns the week as it was before that.

    A change of the plan makes the week too: one of the two conflicts, so no quota is that of a former plan.
    """
    organization = Organization.objects(id=usage.organization).only("plan").first()
    if organization is None:
        raise OrganizationNotFound(
            f"There is no organization {usage.organization}. Nothing was recorded. Tell of it by "
            f"PUT /api/billing/organizations/{usage.organization}, then send the same key again."
        )
    quota = plans.quota(organization.plan or plans.free)
    write = UsageWeek.quota_write(usage.organization, quota, usage.at)
    made = UsageWeek._get_collection().update_one(*write, upsert=True).upserted_id is not None
    if made and quota is None:
        log.error("plan_unknown", alert=True, organization=str(usage.organization), plan=organization.plan)
    if usage.metered:
        settle(usage.organization, usage.at)
    before = _count(usage, {"$exists": True})
    assert before is not None
    return before


def _debit(usage: Usage, overflow: int) -> int:
    """Take what is beyond the quota from extras that are not over; returns their balance. Raises _Repeated."""
    if usage.metered:
        extras.expire_ended(usage.organization, usage.at)
    if not overflow:
        return extras.balance_of(usage.organization)
    ref = f"usage:{usage.organization}:{usage.key}"
    fields = {"organization": usage.organization, "kind": "debit", "units": -overflow, "ref": ref, "at": usage.at}
    booked = extras.enter(fields)
    if not booked.applied:
        raise _Repeated
    return booked.balance


def _same(known: UsageRecord, usage: Usage) -> UsageRecord:
    if (known.units, dict(known.breakdown)) != (usage.units, usage.breakdown):
        raise UsageMismatch(
            f"The key {usage.key} was used at {known.at:%Y-%m-%dT%H:%M:%SZ} for {known.units} units, with another "
            "number of units or another breakdown. Nothing was recorded. Other usage needs a key of its own."
        )
    return known
