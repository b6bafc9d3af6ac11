"""Extras and usage against their own records, added up by the database: what does not come to the same. Read-only."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.errors import ExecutionTimeout

from ..documents import (
    ExtraBalance,
    LedgerEntry,
    UsageRecord,
    UsageWeek,
    in_transaction,
    week_of,
)
from ..errors import StoreUnavailable

# Below the driver's timeout, after which nobody knows why there is no answer.
LONGEST_MS = 10_000
# Records are kept for 35 days, so that of these weeks none is gone.
WEEKS = 4
TOO_LONG = f"Adding up extras and usage took more than {LONGEST_MS // 1000} seconds."


@dataclass
class Books:
    """What an organization has in units of extras and used in units of each week, and what that should be.

    `balance` should be the sum of its `entries`, `remaining` (of all lots) what of it can be used; of each week
    `counted` should be what was `recorded`.
    """

    balance: int = 0
    entries: int = 0
    remaining: int = 0
    counted: dict[str, int] = field(default_factory=dict)
    recorded: dict[str, int] = field(default_factory=dict)

    @property
    def balance_off(self) -> int:
        return self.balance - self.entries

    @property
    def lots_off(self) -> int:
        return self.remaining - max(0, self.balance)

    @property
    def weeks_off(self) -> dict[str, int]:
        """Of each week that does not fit how many units too many are counted."""
        weeks = sorted({*self.counted, *self.recorded})
        off = {week: self.counted.get(week, 0) - self.recorded.get(week, 0) for week in weeks}
        return {week: units for week, units in off.items() if units}

    @property
    def evidence(self) -> frozenset[str]:
        """What does not fit, by how much; what is booked and recorded in the meantime does not change it."""
        told = [f"the balance is off by {self.balance_off}"] if self.balance_off else []
        told += [f"the lots are off by {self.lots_off}"] if self.lots_off else []
        return frozenset([*told, *(f"{week} is off by {units}" for week, units in self.weeks_off.items())])


def books_of(org_id: ObjectId, now: datetime) -> Books:
    """The books of one organization, all at one moment. Raises StoreUnavailable if they are too long to be added up."""
    try:
        return in_transaction(lambda: read_span({"$eq": org_id}, now, LONGEST_MS)).get(org_id, Books())
    except ExecutionTimeout as error:
        raise StoreUnavailable(TOO_LONG) from error


def read_span(span: Mapping[str, Any], now: datetime, longest_ms: int) -> dict[ObjectId, Books]:
    """The books of all organizations in a span of ids that have any. Raises ExecutionTimeout.

    Outside of a transaction each sum is of its own moment.
    """
    found: dict[ObjectId, Books] = defaultdict(Books)
    weeks = {"$in": [week_of(now - timedelta(weeks=ago)) for ago in range(WEEKS)]}
    for each in ExtraBalance._get_collection().find({"_id": span}, max_time_ms=longest_ms):
        found[each["_id"]].balance = each["units"]
    entries = {"_id": "$organization", "units": {"$sum": "$units"}, "remaining": {"$sum": "$remaining"}}
    for each in _grouped(LedgerEntry, {"organization": span}, entries, longest_ms):
        books = found[each["_id"]]
        books.entries, books.remaining = each["units"], each["remaining"]
    wanted = {"organization": span, "week": weeks}
    for each in UsageWeek._get_collection().find(wanted, max_time_ms=longest_ms):
        # What the week paid of earlier weeks was recorded in those, what was beyond it was recorded in it.
        found[each["organization"]].counted[each["week"]] = each["used"] - each["settled"] + each["overflow"]
    records = {"_id": {"organization": "$organization", "week": "$week"}, "units": {"$sum": "$units"}}
    for each in _grouped(UsageRecord, wanted, records, longest_ms):
        found[each["_id"]["organization"]].recorded[each["_id"]["week"]] = each["units"]
    return found


def _grouped(document: Any, wanted: dict[str, Any], group: dict[str, Any], longest_ms: int) -> Iterable[dict[str, Any]]:
    pipeline = [{"$match": wanted}, {"$group": group}]
    return document._get_collection().aggregate(pipeline, maxTimeMS=longest_ms)
