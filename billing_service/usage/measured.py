"""What is recorded: units under a key, and the record that is kept of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId

from ..documents import UsageRecord, week_of

KEPT = timedelta(days=35)
# A week's breakdown has no more names; units under others are counted, but not by name.
MOST_NAMES = 100


@dataclass(frozen=True)
class Usage:
    """Units that an organization used, under the SaaS's own key, and which parts of them it gives a name.

    `metered`: METER_MODE is on, so its extras expire.
    """

    organization: ObjectId
    key: str
    units: int
    at: datetime
    breakdown: Mapping[str, int]
    metered: bool

    @property
    def week(self) -> str:
        return week_of(self.at)


def recorded(usage: Usage, *, within: int, quota: int | None, used: int, extras: int) -> UsageRecord:
    """The record of usage; `used` and `extras` are what they are then."""
    return UsageRecord(
        id=ObjectId(),
        organization=usage.organization,
        key=usage.key,
        units=usage.units,
        breakdown=dict(usage.breakdown),
        week=usage.week,
        within=within,
        quota=quota,
        used=used,
        extras=extras,
        at=usage.at,
        expires_at=usage.at + KEPT,
    )
