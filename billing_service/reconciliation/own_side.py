"""What Stripe's list says nothing about: rows that it need not show, and plans of organizations without a row."""

from collections.abc import Callable, Iterable
from typing import Any

from bson import ObjectId
from pymongo.errors import ExecutionTimeout

from ..documents import Organization, Subscription
from ..errors import StoreUnavailable
from ..subscriptions.statuses import ENDED
from ..subscriptions.stored_row import PROJECTION, StoredRow
from .books import LONGEST_MS, TOO_LONG, read_span
from .diagnosis import diagnose
from .holding import Hold, Suspect, Trouble
from .neighbours import plans_of, suspect_of
from .picture import Picture

SPAN = 2_000
# Of which extras and usage are added up at once.
BOOKS_SPAN = 500
FIRST = ObjectId("0" * 24)
UNLISTED_ROWS = {
    "$or": [
        {"stripe_created_at": None},
        {"stripe_subscription_id": None},
        {"status": {"$in": [None, *sorted(ENDED)]}},
    ]
}

Raw = dict[str, Any]
Stop = Callable[[], bool]
Judge = Callable[[Hold, list[Raw]], tuple[Iterable[Suspect], int]]


def read_rows(hold: Hold, stop: Stop) -> None:
    """Judge the rows that the listing passes over by what they say themselves."""
    rows = Subscription._get_collection()
    _in_spans(hold, stop, rows, lambda span: rows.find(span | UNLISTED_ROWS, PROJECTION), _unfit_rows, "organizations")


def read_organizations(hold: Hold, stop: Stop) -> None:
    """Find plans that were granted to organizations without a row."""
    paid = {"plan": {"$nin": [None, hold.desk.plans.free]}}
    found = Organization._get_collection()
    _in_spans(hold, stop, found, lambda span: found.find(span | paid, {"plan": 1}), _without_row, "books")


def _in_spans(hold: Hold, stop: Stop, every: Any, find: Callable[[Raw], Any], judge: Judge, then: str) -> None:
    """Go through a collection in spans of ids, so that no read is long, however few documents are wanted."""
    while not stop():
        hold.pulse()
        low = hold.run.place or FIRST
        high = end_of_span(every, low, SPAN)
        suspects, checked = judge(hold, list(find({"_id": {"$gt": low} | ({"$lte": high} if high else {})})))
        if high is None:
            hold.commit(inc={"checked": checked}, sets={"phase": then, "place": None}, suspects=suspects)
            return
        hold.commit(inc={"checked": checked}, sets={"place": high}, suspects=suspects)


def read_books(hold: Hold, stop: Stop, longest_ms: int = LONGEST_MS) -> None:
    """Suspect whose books do not fit, a span of organizations at a time; whoever is not in METER_MODE has none.

    Each sum is of its own moment, so somebody may be suspected who was using units just then: the second look is exact.
    """
    if not hold.desk.meter_mode:
        hold.enter("confirming")
        return
    span = BOOKS_SPAN
    while not stop():
        hold.pulse()
        low = hold.run.place or FIRST
        high = end_of_span(Organization._get_collection(), low, span)
        troubles: list[Trouble] = []
        try:
            read = read_span({"$gt": low} | ({"$lte": high} if high else {}), hold.desk.clock(), longest_ms)
            suspects = [Suspect(org_id, (), books.evidence) for org_id, books in read.items() if books.evidence]
        except ExecutionTimeout:
            if span > 1:
                span = max(1, span // 10)
                continue
            # Alone it may be added up; if not, that is an error of this one.
            suspects = [Suspect(high)] if high else []
            troubles = [] if high else [Trouble(f"organizations after {low}", StoreUnavailable.code, TOO_LONG)]
        if high is None:
            end = {"phase": "confirming", "place": None, "metered": not troubles}
            hold.commit(sets=end, suspects=suspects, troubles=troubles)
            return
        hold.commit(sets={"place": high}, suspects=suspects)
        span = min(BOOKS_SPAN, span * 2)


def end_of_span(collection: Any, low: ObjectId, count: int) -> ObjectId | None:
    """The id that is so many after this one; None if there are not so many."""
    last = collection.find({"_id": {"$gt": low}}, {"_id": 1}).sort("_id", 1).skip(count - 1).limit(1)
    return next((each["_id"] for each in last), None)


def _unfit_rows(hold: Hold, batch: list[Raw]) -> tuple[Iterable[Suspect], int]:
    rows = [StoredRow(raw) for raw in batch]
    plans, now = plans_of(row.organization for row in rows), hold.desk.clock()
    suspects = []
    for row in rows:
        ours = Picture(row.organization, row, plans.get(row.organization), row.organization in plans, looked=False)
        found = diagnose(ours, hold.desk.plans, now)
        # Nobody knows when it was made, so it could not be missed in the list.
        undated = row.stripe_subscription_id and row.stripe_created_at is None and row.status not in ENDED
        if found or undated:
            suspects.append(suspect_of(row.organization, (row.stripe_subscription_id,) if undated else (), found))
    return suspects, len(rows)


def _without_row(hold: Hold, batch: list[Raw]) -> tuple[Iterable[Suspect], int]:
    wanted = {"organization": {"$in": [each["_id"] for each in batch]}}
    billed = {raw["organization"] for raw in Subscription._get_collection().find(wanted, {"organization": 1, "_id": 0})}
    now, plans = hold.desk.clock(), hold.desk.plans
    suspects = []
    for each in batch:
        if each["_id"] not in billed:
            ours = Picture(each["_id"], None, each["plan"], exists=True, looked=False)
            suspects.append(suspect_of(each["_id"], (), diagnose(ours, plans, now)))
    return suspects, 0
