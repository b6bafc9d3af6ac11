"""A page of Stripe's list and the rows beside it: which of both may not fit. Nothing is judged or written here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..documents import ScanWindow, Subscription
from ..scans import cursor_after, next_page
from ..stripe_gateway import ListedSubscription, LiveSubscription, StripeGateway
from ..stripe_gateway.answers import UNREADABLE
from ..subscriptions.statuses import ENDED
from ..subscriptions.stored_row import PROJECTION, StoredRow
from .agreement import certainly_fits, meanings_of
from .diagnosis import diagnose
from .holding import Desk, Suspect
from .neighbours import OUR_SIDE, owners_of, plans_of, suspect_of
from .picture import Picture, unlisted

# Rows between two subscriptions that Stripe lists one after the other: more are judged in several steps.
ROWS_AT_ONCE = 2_000

Raw = dict[str, Any]


class Shown(NamedTuple):
    """A subscription as the list has it; most are never read further."""

    id: str
    created: datetime
    listed: ListedSubscription


@dataclass
class Page:
    """A page of Stripe's list; `low` is the second down to which it goes."""

    found: list[Shown]
    unreadable: list[str]
    after: str | None
    low: datetime
    last: bool


def read_page(stripe: StripeGateway, window: ScanWindow) -> Page:
    """The next page of a window, without what is settled."""
    read = next_page(window, stripe.subscriptions_at_a_glance).value
    after = cursor_after(window, [each.id for each in read.found], more=read.has_more)
    found, unreadable = [], []
    for each in read.found:
        try:
            found.append(Shown(each.id, datetime.fromtimestamp(each.created, UTC), each))
        except UNREADABLE:  # asked for by itself it says why
            unreadable.append(each.id)
    known, at = set(window.settled), window.at
    fresh = [each for each in found if not (each.created >= at and each.id in known)]
    low = min((each.created for each in found), default=window.at) if read.has_more else window.since
    return Page(fresh, unreadable, after, low, last=not read.has_more)


def rows_beside(window: ScanWindow, page: Page) -> list[Raw]:
    """The rows down to the page's last second that Stripe should list; where there are too many, the page is cut."""
    limit = ROWS_AT_ONCE
    while True:
        span = {"stripe_created_at": {"$gte": page.low, "$lte": window.at}}
        own = span | {"status": {"$nin": sorted(ENDED)}, "stripe_subscription_id": {"$gt": ""}}
        found = Subscription._get_collection().find(own, PROJECTION).hint("stripe_created_at")
        rows = list(found.sort("stripe_created_at", -1).limit(limit))
        if len(rows) < limit:
            return rows
        lowest = rows[-1]["stripe_created_at"]
        if lowest < window.at:
            _cut(window, page, lowest)
            return rows
        limit *= 4  # all of one second


def _cut(window: ScanWindow, page: Page, low: datetime) -> None:
    kept = [each for each in page.found if each.created > low]
    page.after = kept[-1].id if kept else window.after
    page.found, page.low, page.last, page.unreadable = kept, low, False, []


def compare(window: ScanWindow, page: Page, rows: list[Raw], desk: Desk) -> tuple[dict[str, int], list[Suspect]]:
    """What a page and the rows beside it come to: counts, and what may not fit."""
    by_id = _rows_by_id(page, rows)
    shown = {each.id for each in page.found} | set(window.settled) | set(page.unreadable)
    due = [row for row in rows if page.last or row["stripe_created_at"] > page.low]
    hidden = [row for row in due if row["stripe_subscription_id"] not in shown]
    known = [(by_id[each.id], each) for each in page.found if each.id in by_id]
    unknown = [each for each in page.found if each.id not in by_id]
    plans = plans_of(row["organization"] for row in (*(row for row, _ in known), *hidden))
    doubtful = _doubtful(known, plans, desk)
    read, unreadable = _read([*(each for _, each in doubtful), *unknown])
    strangers, foreign = owners_of([read[each.id] for each in unknown if each.id in read], desk)
    counts = {
        "checked": len(page.found) - len(unreadable) - foreign + len(hidden),
        "foreign": foreign,
        "rows": len(known) + len(hidden),
        "unshown": len(hidden),
    }
    pairs = [(row, read[each.id]) for row, each in doubtful if each.id in read]
    unread = [_unread(each, by_id.get(each)) for each in (*unreadable, *page.unreadable)]
    return counts, [*_unfit(pairs, plans, desk), *strangers, *_hidden(hidden, plans, desk), *unread]


def _rows_by_id(page: Page, rows: list[Raw]) -> dict[str, Raw]:
    """The rows beside the page, and those elsewhere that name what it shows."""
    by_id = {row["stripe_subscription_id"]: row for row in rows}
    strange = [each for each in [*(one.id for one in page.found), *page.unreadable] if each not in by_id]
    if strange:
        others = Subscription._get_collection().find({"stripe_subscription_id": {"$in": strange}}, PROJECTION)
        by_id |= {raw["stripe_subscription_id"]: raw for raw in others}
    return by_id


def _doubtful(known: Iterable[tuple[Raw, Shown]], plans: Mapping[Any, str | None], desk: Desk) -> list:
    meanings = meanings_of(desk.plans)
    return [
        (row, each)
        for row, each in known
        if not certainly_fits(each.listed.glance, row, plans.get(row["organization"]), meanings)
    ]


def _read(shown: Iterable[Shown]) -> tuple[dict[str, LiveSubscription], list[str]]:
    """Those that can be read, by id, and the ids of those that cannot."""
    read: dict[str, LiveSubscription] = {}
    unreadable = []
    for each in shown:
        try:
            read[each.id] = each.listed.read()
        except UNREADABLE:  # asked for by itself it says why
            unreadable.append(each.id)
    return read, unreadable


def _unread(subscription_id: str, row: Raw | None) -> Suspect:
    return Suspect(row["organization"] if row else None, (subscription_id,))


def _unfit(
    pairs: Sequence[tuple[Raw, LiveSubscription]], plans: Mapping[Any, str | None], desk: Desk
) -> Iterable[Suspect]:
    now = desk.clock()
    for raw, live in pairs:
        row = StoredRow(raw)
        exists = row.organization in plans
        picture = Picture(row.organization, row, plans.get(row.organization), exists, found=(live,))
        found = diagnose(picture, desk.plans, now)
        if found:
            asks = any(each.kind not in OUR_SIDE for each in found)
            yield suspect_of(row.organization, (live.id,) if asks else (), found)


def _hidden(rows: list[Raw], plans: Mapping[Any, str | None], desk: Desk) -> Iterable[Suspect]:
    for raw in rows:
        row = StoredRow(raw)
        ours = Picture(row.organization, row, plans.get(row.organization), row.organization in plans, looked=False)
        found = diagnose(ours, desk.plans, desk.clock())
        suspect = suspect_of(row.organization, (row.stripe_subscription_id,), found)
        yield Suspect(
            suspect.organization, suspect.subscriptions, suspect.evidence | {unlisted(row.stripe_subscription_id)}
        )


def moved(window: ScanWindow, page: Page) -> ScanWindow:
    """The window after a page. Of the boundary second more may follow, so what was shown of it is kept."""
    if page.last:
        return ScanWindow(since=window.since, until=window.until, at=window.at, after=page.after, done=True)
    settled = [each.id for each in page.found if each.created == page.low]
    if page.low == window.at:
        settled = [*window.settled, *settled]
    return ScanWindow(since=window.since, until=window.until, at=page.low, after=page.after, settled=settled)
