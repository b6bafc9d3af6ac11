"""What Stripe's list says nothing about: rows that it need not show, and plans of organizations without a row."""

from collections.abc import Callable, Iterable
from typing import Any

from bson import ObjectId

from ..documents import Organization, Subscription
from ..subscriptions.statuses import ENDED
from ..subscriptions.stored_row import PROJECTION, StoredRow
from .diagnosis import diagnose
from .holding import Hold, Suspect
from .neighbours import plans_of, suspect_of
from .picture import Picture

SPAN = 2_000
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
    _in_spans(hold, stop, found, lambda span: found.find(span | paid, {"plan": 1}), _without_row, "confirming")


def _in_spans(hold: Hold, stop: Stop, every: Any, find: Callable[[Raw], Any], judge: Judge, then: str) -> None:
    """Go through a collection in spans of ids, so that no read is long, however few documents are wanted."""
    while not stop():
        hold.pulse()
        after = {"_id": {"$gt": hold.run.place or FIRST}}
        ids = every.find(after, {"_id": 1}).sort("_id", 1)
        last = next(ids.clone().skip(SPAN - 1).limit(1), None)
        suspects, checked = judge(hold, list(find({"_id": after["_id"] | ({"$lte": last["_id"]} if last else {})})))
        if last is None:
            hold.commit(inc={"checked": checked}, sets={"phase": then, "place": None}, suspects=suspects)
            return
        hold.commit(inc={"checked": checked}, sets={"place": last["_id"]}, suspects=suspects)


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
