"""What an organization used in one week. Weeks are those of ISO 8601, in UTC, whatever the machine's zone."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from mongoengine import DateTimeField, DictField, Document, LongField, ObjectIdField, StringField


def week_of(at: datetime) -> str:
    """The week of a time, as in `2026-W53`; the days around New Year may belong to the other year's."""
    year, week, _ = at.astimezone(UTC).isocalendar()
    return f"{year}-W{week:02d}"


def week_start(at: datetime) -> datetime:
    """When the week of a time began: its Monday, 00:00 UTC."""
    midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=midnight.weekday())


class UsageWeek(Document):
    """`used` of the week's `quota`, and what was beyond it.

    `used` never counts what was beyond the quota (`overflow`, debited from extras), but what the week paid of earlier
    weeks' overflow (`settled`): used - settled + overflow is what was recorded. `quota` None: the plan is none of the
    plan file's; then nothing is beyond it. `breakdown` is by the names that the SaaS gave.
    """

    organization = ObjectIdField(required=True)
    week = StringField(required=True)
    quota = LongField()
    used = LongField(required=True, default=0)
    overflow = LongField(required=True, default=0)
    settled = LongField(required=True, default=0)
    breakdown = DictField()
    made_at = DateTimeField()

    meta = {
        "collection": "usage_weeks",
        "auto_create_index": False,
        "strict": False,
        "indexes": [{"fields": ["organization", "week"], "name": "organization_week", "unique": True}],
    }

    @classmethod
    def fresh(cls, org_id: ObjectId, quota: int | None, now: datetime) -> dict[str, Any]:
        """An unused week as it is stored."""
        counts = {"used": 0, "overflow": 0, "settled": 0, "breakdown": {}, "made_at": now}
        return {"organization": org_id, "week": week_of(now), "quota": quota} | counts

    @classmethod
    def quota_write(cls, org_id: ObjectId, quota: int | None, now: datetime) -> tuple[dict, dict]:
        """Filter and update, for an upsert, that give the current week a quota; what was used stays.

        It makes the week, so that whoever makes it at the same time with another quota conflicts with this.
        """
        fresh = cls.fresh(org_id, quota, now)
        held = {name: fresh.pop(name) for name in ("organization", "week")}
        return held, {"$set": {"quota": fresh.pop("quota")}, "$setOnInsert": fresh}
