"""Stripe's whole list as items, a page at a time, in several spans of `created` at once. Nothing is decided but whose
each one is.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pymongo import UpdateOne

from .. import scans
from ..documents import EPOCH, ImportItem, ScanWindow
from ..errors import StripeMisconfigured
from ..stripe_gateway import LiveCustomer, Read, shapes
from ..stripe_gateway.answers import UNREADABLE
from ..subscriptions import MARKER
from .holding import Hold
from .ownership import Listed, Owner, owners_of

ITEMS_KEPT = timedelta(days=30)
READERS = 4
# Equal spans of time, of which many are few requests and some are many: readers take the next one.
SPANS = 16
STRIPE_BEGAN = datetime(2010, 1, 1, tzinfo=UTC)
NEAR_ENOUGH = timedelta(days=30)
# What is read of a subscription later.
OF_SUBSCRIPTION = (
    "id",
    "status",
    "created",
    "current_period_start",
    "current_period_end",
    "cancel_at_period_end",
    "cancel_at",
    "canceled_at",
    "ended_at",
)
OF_ITEM = ("quantity", "current_period_start", "current_period_end")
OF_PRICE = ("id", "metadata", "unit_amount", "amount", "currency", "recurring", "interval", "interval_count")


def plan_windows(hold: Hold, stop: scans.Stop) -> None:
    """Cut the account's life into spans; a small account is one."""
    desk, canceled = hold.desk, hold.run.canceled
    with desk.stripe.background():
        first = desk.stripe.subscriptions_page(created={}, canceled=canceled)
        until, requests = first.seen_until, 1
        assert until is not None
        edges = [EPOCH, until]
        if first.value["has_more"]:
            oldest, requests = _oldest(hold, until)
            span = (until - oldest) / SPANS
            edges += [(oldest + span * number).replace(microsecond=0) for number in range(1, SPANS)]
    windows = scans.windows_between(edges)
    fields = {"phase": "listing", "until": until, "windows": [window.to_mongo() for window in windows]}
    hold.commit(inc={"stripe_requests": requests}, sets=fields)
    hold.run.windows = windows


def _oldest(hold: Hold, until: datetime) -> tuple[datetime, int]:
    """About when the oldest subscription was made, by halving; Stripe lists the newest first only."""
    low, high, requests = STRIPE_BEGAN, until, 1
    while high - low > NEAR_ENOUGH:
        hold.pulse()
        middle = low + (high - low) / 2
        bounds = {"lte": int(middle.timestamp())}
        page = hold.desk.stripe.subscriptions_page(created=bounds, limit=1, canceled=hold.run.canceled).value
        requests += 1
        if page["data"]:
            high = min(middle, datetime.fromtimestamp(int(page["data"][0]["created"]), UTC))
        else:
            low = middle
    return low, requests


def read_listing(hold: Hold, stop: scans.Stop) -> None:
    """Read all windows, some at a time, until they are done or it is time to stop. Raises what a reader raises."""

    def read(number: int, halted: scans.Stop) -> None:
        while not (halted() or hold.run.windows[number].done):
            _take_step(hold, number)

    if scans.read_windows(hold, read, stop, READERS):
        hold.enter("customers")


def _take_step(hold: Hold, number: int) -> None:
    window = hold.run.windows[number]
    page = partial(hold.desk.stripe.subscriptions_page, canceled=hold.run.canceled, with_customers=True)
    read = scans.next_page(window, page)
    raw, more = read.value["data"], read.value["has_more"]
    after = scans.cursor_after(window, [each["id"] for each in raw], more=more)
    items = _items(hold, raw, read)
    low = min((each["stripe_created_at"] for each in items if "stripe_created_at" in each), default=window.at)
    new = ScanWindow(since=window.since, until=window.until, at=min(low, window.at), after=after, done=not more)
    sets = {f"windows.{number}.{name}": getattr(new, name) for name in ("at", "after", "done")}
    # What is there already, as after a cursor that was gone, is not counted again.
    hold.commit(lambda: {"listed": _insert(hold, items)}, inc={"stripe_requests": 1}, sets=sets)
    hold.run.windows[number] = new


def _items(hold: Hold, raw: Sequence[dict[str, Any]], read: Read[Any]) -> list[dict[str, Any]]:
    """The items of a page, each with whose it is."""
    listed: list[Listed] = []
    bodies: list[dict[str, Any]] = []
    unreadable: list[dict[str, Any]] = []
    for each in raw:
        try:
            listed.append(Listed(shapes.subscription(each), _customer(each["customer"])))
            bodies.append(each)
        except UNREADABLE:  # one that cannot be read must not hide the others
            facts = {"stripe_subscription_id": str(each["id"]), "stripe_customer_id": ""}
            unreadable.append(facts | {"state": "unmapped", "reason": "unreadable"})
    owners = owners_of(listed, hold.desk)
    return [_item(*each, read) for each in zip(listed, bodies, owners, strict=True)] + unreadable


def _customer(raw: Any) -> LiveCustomer:
    if not isinstance(raw, dict):
        raise StripeMisconfigured(
            f"Stripe listed subscriptions without their customers ({raw}), whose metadata may say whose they are: "
            "STRIPE_SECRET_KEY must be allowed to read customers."
        )
    return shapes.customer(raw)


def _item(listed: Listed, raw: dict[str, Any], owner: Owner, read: Read[Any]) -> dict[str, Any]:
    live = listed.subscription
    return {
        "stripe_subscription_id": live.id,
        "stripe_customer_id": live.customer,
        "stripe_created_at": live.created,
        "status": live.status,
        "price_id": live.items[0].price_id if live.items else None,
        "named": [text[:100] for text in listed.named],
        "organization": owner.organization,
        "state": "unmapped" if owner.reason else "pending",
        "snapshot": json.dumps(_short(raw, deleted=listed.customer.deleted)),
        "as_of": read.as_of,
        "seen_until": read.seen_until,
        **({"reason": owner.reason} if owner.reason else {}),
        **({"detail": owner.detail[:300]} if owner.detail else {}),
    }


def _short(raw: dict[str, Any], *, deleted: bool) -> dict[str, Any]:
    """What a row is made of; a key that Stripe did not send is not there either."""
    items = [
        {name: each[name] for name in OF_ITEM if name in each}
        | {"price": {name: price[name] for name in OF_PRICE if name in price}}
        for each in (raw.get("items") or {}).get("data") or ()
        if (price := each.get("price") or each.get("plan") or {}) is not None
    ]
    named = (raw.get("metadata") or {}).get(MARKER)
    return {name: raw[name] for name in OF_SUBSCRIPTION if name in raw} | {
        "customer": shapes.id_of(raw["customer"]),
        "items": {"data": items},
        "metadata": {MARKER: named} if named else {},
        "customer_deleted": deleted,
    }


def _insert(hold: Hold, items: Sequence[dict[str, Any]]) -> int:
    """Store those that are not there yet; returns how many that were."""
    if not items:
        return 0
    also = {"expires_at": hold.desk.clock() + ITEMS_KEPT}
    writes = [
        UpdateOne(
            {"run": hold.run.pk, "stripe_subscription_id": each["stripe_subscription_id"]},
            {"$setOnInsert": each | also},
            upsert=True,
        )
        for each in items
    ]
    return ImportItem._get_collection().bulk_write(writes, ordered=False).upserted_count
