"""The new week: each subscription row gets its week with the plan's quota, and pays what past weeks owe."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from bson import ObjectId
from pymongo.errors import BulkWriteError

from ..documents import (
    STORE_ERRORS,
    ExtraBalance,
    Subscription,
    UsageWeek,
    driver_error,
    in_transaction,
    week_start,
)
from ..observability import log
from ..plans import Plans
from .settlement import settle

PAGE = 500
MOST_NAMED = 20
DUPLICATE_KEY = 11000
FIRST_ID = ObjectId("0" * 24)
FIELDS = {"organization": 1, "plan": 1, "status": 1, "last_reset_at": 1}

Row = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A place in the index of due rows: every row up to this one was reset, or found to fail."""

    status: str | None = None
    last_reset_at: datetime | None = None
    row_id: ObjectId = FIRST_ID


@dataclass
class Reset:
    """How far the reset has come; `complete`: no row is left.

    `counts`: reset, settled (organizations that owed), units_settled, failed; `failing` names some of the latter.
    """

    place: Place = Place()
    complete: bool = False
    counts: Counter = field(default_factory=Counter)
    failing: list[str] = field(default_factory=list)

    def fails(self, row: Row, error: Exception) -> None:
        """Name a row that could not be reset; it stays due."""
        org_id = str(row["organization"])
        log.error("organization_not_reset", organization=org_id, error=f"{type(error).__name__}: {error}"[:500])
        self.counts["failed"] += 1
        if len(self.failing) < MOST_NAMED:
            self.failing.append(org_id)


class PlanUnknown(Exception):
    """The row's plan is none of the plan file's: nobody knows its quota."""


def reset_due(done: Reset, *, plans: Plans, now: datetime, stop: Callable[[], bool]) -> Reset:
    """Reset what is due, from where `done` ends, until nothing is left or `stop()`; at least one page is done.

    A row that fails is named and passed. Raises STORE_ERRORS.
    """
    while not done.complete:
        page = find_due(done.place, now)
        if page:
            _reset_page(done, page, plans, now)
            last = page[-1]
            done.place = Place(last.get("status"), last.get("last_reset_at"), last["_id"])
            if stop():
                return done
        elif (status := _status_after(done.place.status)) is not None:
            done.place = Place(status)
        else:
            done.complete = True
    return done


def find_due(place: Place, now: datetime, limit: int = PAGE) -> list[Row]:
    """Rows of the place's status after it that were not reset in this week, in the order of their index."""
    rows = Subscription._get_collection()
    beside = {"status": place.status, "last_reset_at": place.last_reset_at, "_id": {"$gt": place.row_id}}
    found = list(rows.find(beside, FIELDS).sort("_id", 1).limit(limit))
    if len(found) < limit:
        since = {"$gt": place.last_reset_at} if place.last_reset_at else {}
        later = {"status": place.status, "last_reset_at": since | {"$lt": week_start(now)}}
        found += rows.find(later, FIELDS).sort([("last_reset_at", 1), ("_id", 1)]).limit(limit - len(found))
    return found


def _status_after(status: str | None) -> str | None:
    """The next status in the index; whatever Stripe's words are, none is left out."""
    later = {"status": {"$gt": status or ""}}
    row = Subscription._get_collection().find_one(later, {"status": 1}, sort=[("status", 1)])
    return row["status"] if row else None


def _reset_page(done: Reset, page: Sequence[Row], plans: Plans, now: datetime) -> None:
    """All that owe nothing in two writes; who owes, and all if one of them fails, each in a transaction of its own."""
    ids = [row["organization"] for row in page]
    owing = set(ExtraBalance.objects(organization__in=ids, units__lt=0).scalar("organization"))
    known = [row for row in page if plans.quota(row.get("plan")) is not None]
    plain = [row for row in known if row["organization"] not in owing]
    for row in page:
        if plans.quota(row.get("plan")) is None:
            done.fails(row, PlanUnknown(row.get("plan")))
    singly = [row for row in known if row["organization"] in owing]
    try:
        count, other = _reset_all(plain, plans, now)
        done.counts["reset"] += count
        singly += other
    except STORE_ERRORS:
        raise
    except Exception as error:
        log.warning("weekly_reset_one_by_one", rows=len(plain), error=type(error).__name__)
        singly += plain
    for row in singly:
        _reset_singly(done, row, plans, now)


def _reset_all(rows: Sequence[Row], plans: Plans, now: datetime) -> tuple[int, list[Row]]:
    """Make the weeks, then mark the rows: who dies in between leaves rows that are due.

    Returns how many were marked, and the rows that are not: their week is there, with another quota than the plan's.
    """
    if not rows:
        return 0, []
    weeks = [UsageWeek.fresh(row["organization"], plans.quota(row["plan"]), now) for row in rows]
    other: set[ObjectId] = set()
    try:
        UsageWeek._get_collection().insert_many(weeks, ordered=False)
    except BulkWriteError as error:
        refused = error.details["writeErrors"]
        if not refused or any(each["code"] != DUPLICATE_KEY for each in refused):
            raise
        other = _with_another_quota([each["op"] for each in refused])
    ids = [row["_id"] for row in rows if row["organization"] not in other]
    marked = Subscription._get_collection().update_many(
        {"_id": {"$in": ids}, **_due(now)}, {"$set": {"last_reset_at": now}}
    )
    return marked.modified_count, [row for row in rows if row["organization"] in other]


def _due(now: datetime) -> dict[str, Any]:
    return {"last_reset_at": {"$not": {"$gte": week_start(now)}}}


def _with_another_quota(wanted: Sequence[dict[str, Any]]) -> set[ObjectId]:
    """Whose week has another quota than wanted: none, as the plan was unknown, or that of a plan that just changed."""
    quotas = {week["organization"]: week["quota"] for week in wanted}
    held = {"organization": {"$in": list(quotas)}, "week": wanted[0]["week"]}
    found = UsageWeek._get_collection().find(held, {"organization": 1, "quota": 1})
    return {week["organization"] for week in found if week.get("quota") != quotas[week["organization"]]}


def _reset_singly(done: Reset, row: Row, plans: Plans, now: datetime) -> None:
    try:
        settled = in_transaction(partial(_reset_one, row["_id"], plans, now))
    except STORE_ERRORS:
        raise
    except Exception as error:
        if isinstance(driver_error(error), STORE_ERRORS):
            raise
        # One organization must not hold up the others; nothing of it was written.
        done.fails(row, error)
        return
    if settled is not None:
        done.counts["reset"] += 1
        done.counts["settled"] += settled > 0
        done.counts["units_settled"] += settled


def _reset_one(row_id: ObjectId, plans: Plans, now: datetime) -> int | None:
    """Reset one row and settle what it owes; returns the units settled, None if it is no longer due."""
    row = Subscription._get_collection().find_one_and_update(
        {"_id": row_id, **_due(now)}, {"$set": {"last_reset_at": now}}, FIELDS
    )
    if row is None:
        return None
    quota = plans.quota(row["plan"])
    if quota is None:
        raise PlanUnknown(row["plan"])
    write = UsageWeek.quota_write(row["organization"], quota, now)
    UsageWeek._get_collection().update_one(*write, upsert=True)
    return settle(row["organization"], now)
