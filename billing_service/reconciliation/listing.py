"""Stripe's list beside our rows, a page at a time: which subscriptions may not fit. Nothing is judged here.

What is suspected for nothing costs one more look; what is not suspected is not seen until the next run.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from ..documents import EPOCH, ReconciliationCandidate, ScanWindow, Subscription
from ..errors import StripeMissing
from ..stripe_gateway import LiveSubscription, shapes
from ..stripe_gateway.answers import UNREADABLE
from ..subscriptions.statuses import ENDED
from ..subscriptions.stored_row import PROJECTION, StoredRow
from .diagnosis import diagnose
from .holding import Hold, Suspect
from .neighbours import OUR_SIDE, owners_of, plans_of, suspect_of
from .picture import UNLISTED, Picture, unlisted

BEAT_SECONDS = 0.25
SECOND = timedelta(seconds=1)
WINDOWS = 4
# Below so many rows one list after the other is as fast.
ROWS_FOR_WINDOWS = 1_000
# Rows between two subscriptions that Stripe lists one after the other: more are judged in several steps.
ROWS_AT_ONCE = 2_000
ROWS_FOR_DOUBT = 200
SAMPLE = 5


@dataclass
class Page:
    """A page of Stripe's list, read; `low` is the second down to which it goes."""

    found: list[LiveSubscription]
    unreadable: list[str]
    after: str | None
    low: datetime
    last: bool


def windows_until(until: datetime) -> list[ScanWindow]:
    """Spans of equally many stored rows, the newest first."""
    rows = Subscription._get_collection()
    told = {"stripe_created_at": {"$gt": EPOCH, "$lte": until}}
    count = rows.count_documents(told)
    edges: list[datetime] = []
    for number in range(1, WINDOWS if count >= ROWS_FOR_WINDOWS else 1):
        at = rows.find(told, {"stripe_created_at": 1, "_id": 0}).sort("stripe_created_at", 1)
        edge = next(at.skip(count * number // WINDOWS).limit(1))["stripe_created_at"]
        edges.append(edge.replace(microsecond=0))
    spans = list(pairwise(sorted({EPOCH, *edges, until})))
    # An edge belongs to the span that begins with it.
    ends = [high if high == until else high - SECOND for _, high in spans]
    return [ScanWindow(since=low, until=end, at=end) for (low, _), end in reversed(list(zip(spans, ends, strict=True)))]


def read_listing(hold: Hold, stop: Callable[[], bool]) -> None:
    """Read all windows, each in a thread, until they are done or it is time to stop. Raises what a reader raises."""
    halt = threading.Event()
    left = [number for number, window in enumerate(hold.run.windows) if not window.done]
    if left:
        with ThreadPoolExecutor(len(left), thread_name_prefix="reconcile") as pool:
            readers = [pool.submit(_read_window, hold, number, halt) for number in left]
            try:
                while wait(readers, timeout=BEAT_SECONDS, return_when=FIRST_EXCEPTION).not_done:
                    hold.pulse()
                    if stop() or any(each.done() and each.exception() for each in readers):
                        halt.set()
            finally:
                halt.set()
        for each in readers:
            each.result()
    if _is_doubtful(hold):
        _ask_of_the_key(hold)
    elif all(window.done for window in hold.run.windows):
        hold.enter("rows")


def _read_window(hold: Hold, number: int, halt: threading.Event) -> None:
    # Said in each thread: the class of a request belongs to the thread that makes it.
    with hold.desk.stripe.background():
        while not (halt.is_set() or hold.run.windows[number].done or _is_doubtful(hold)):
            _take_step(hold, number)


def _take_step(hold: Hold, number: int) -> None:
    window = hold.run.windows[number]
    try:
        page = _read_page(hold, window)
    except StripeMissing:
        # The cursor is gone: the same place by its time, what is settled of that second is not counted again.
        window.after = None
        page = _read_page(hold, window)
    rows = _rows_beside(window, page)
    counts, suspects = _compare(hold, window, page, rows)
    new = _moved(window, page)
    fields = {name: getattr(new, name) for name in ("at", "after", "settled", "done")}
    hold.commit(
        inc=counts | {"stripe_requests": 1},
        sets={f"windows.{number}.{name}": value for name, value in fields.items()},
        suspects=suspects,
    )
    hold.run.windows[number] = new
    if not hold.run.key_trusted and hold.run.rows >= ROWS_FOR_DOUBT and not _is_doubtful(hold):
        # What is missing later on is missing, whatever key it is.
        hold.commit(sets={"key_trusted": True})


def _read_page(hold: Hold, window: ScanWindow) -> Page:
    bounds = {
        "gte": int(window.since.timestamp()),
        "lte": int((window.until if window.after else window.at).timestamp()),
    }
    read = hold.desk.stripe.subscriptions_page(created=bounds, starting_after=window.after).value
    raw = read["data"]
    found, unreadable = [], []
    for each in raw:
        try:
            found.append(shapes.subscription(each))
        except UNREADABLE:  # asked for by itself it says why
            unreadable.append(str(each["id"]))
    known = set(window.settled)
    fresh = [each for each in found if not (each.created >= window.at and each.id in known)]
    last = not read["has_more"] or not raw
    low = window.since if last else min((each.created for each in found), default=window.at)
    return Page(fresh, unreadable, raw[-1]["id"] if raw else window.after, low, last)


def _rows_beside(window: ScanWindow, page: Page) -> list[StoredRow]:
    """The rows down to the page's last second that Stripe should list; where there are too many, the page is cut."""
    limit = ROWS_AT_ONCE
    while True:
        span = {"stripe_created_at": {"$gte": page.low, "$lte": window.at}}
        own = span | {"status": {"$nin": sorted(ENDED)}, "stripe_subscription_id": {"$gt": ""}}
        found = Subscription._get_collection().find(own, PROJECTION).hint("stripe_created_at")
        rows = [StoredRow(raw) for raw in found.sort("stripe_created_at", -1).limit(limit)]
        if len(rows) < limit:
            return rows
        if rows[-1].stripe_created_at < window.at:
            _cut(window, page, rows[-1].stripe_created_at)
            return rows
        limit *= 4  # all of one second


def _cut(window: ScanWindow, page: Page, low: datetime) -> None:
    kept = [each for each in page.found if each.created > low]
    page.after = kept[-1].id if kept else window.after
    page.found, page.low, page.last, page.unreadable = kept, low, False, []


def _compare(hold: Hold, window: ScanWindow, page: Page, rows: list[StoredRow]) -> tuple[dict[str, int], list[Suspect]]:
    """What a page and the rows beside it come to: counts, and what may not fit."""
    by_id = {row.stripe_subscription_id: row for row in rows}
    strange = [each for each in [*(one.id for one in page.found), *page.unreadable] if each not in by_id]
    if strange:
        others = Subscription._get_collection().find({"stripe_subscription_id": {"$in": strange}}, PROJECTION)
        by_id |= {raw["stripe_subscription_id"]: StoredRow(raw) for raw in others}
    shown = {each.id for each in page.found} | set(window.settled) | set(page.unreadable)
    due = [row for row in rows if page.last or row.stripe_created_at > page.low]
    hidden = [row for row in due if row.stripe_subscription_id not in shown]
    known = [(by_id[each.id], each) for each in page.found if each.id in by_id]
    strangers, foreign = owners_of([each for each in page.found if each.id not in by_id], hold.desk)
    unreadable = [Suspect(by_id[each].organization if each in by_id else None, (each,)) for each in page.unreadable]
    counts = {
        "checked": len(page.found) - foreign + len(hidden),
        "foreign": foreign,
        "rows": len(known) + len(hidden),
        "unshown": len(hidden),
    }
    return counts, [*_unfit(hold, known), *strangers, *_hidden(hold, hidden), *unreadable]


def _unfit(hold: Hold, pairs: Sequence[tuple[StoredRow, LiveSubscription]]) -> Iterable[Suspect]:
    plans, now = plans_of(row.organization for row, _ in pairs), hold.desk.clock()
    for row, live in pairs:
        exists = row.organization in plans
        picture = Picture(row.organization, row, plans.get(row.organization), exists, found=(live,))
        found = diagnose(picture, hold.desk.plans, now)
        if found:
            asks = any(each.kind not in OUR_SIDE for each in found)
            yield suspect_of(row.organization, (live.id,) if asks else (), found)


def _hidden(hold: Hold, rows: list[StoredRow]) -> Iterable[Suspect]:
    plans = plans_of(row.organization for row in rows)
    for row in rows:
        ours = Picture(row.organization, row, plans.get(row.organization), row.organization in plans, looked=False)
        found = diagnose(ours, hold.desk.plans, hold.desk.clock())
        suspect = suspect_of(row.organization, (row.stripe_subscription_id,), found)
        yield Suspect(
            suspect.organization, suspect.subscriptions, suspect.evidence | {unlisted(row.stripe_subscription_id)}
        )


def _moved(window: ScanWindow, page: Page) -> ScanWindow:
    """The window after a page. Of the boundary second more may follow, so what was shown of it is kept."""
    if page.last:
        return ScanWindow(since=window.since, until=window.until, at=window.at, after=page.after, done=True)
    settled = [each.id for each in page.found if each.created == page.low]
    if page.low == window.at:
        settled = [*window.settled, *settled]
    return ScanWindow(since=window.since, until=window.until, at=page.low, after=page.after, settled=settled)


def _is_doubtful(hold: Hold) -> bool:
    run = hold.run
    return not run.key_trusted and run.rows >= ROWS_FOR_DOUBT and run.unshown * 2 > run.rows


def _ask_of_the_key(hold: Hold) -> None:
    """Most rows are not listed: is it the right key? If what is not listed does not exist either, the run fails."""
    suspects = ReconciliationCandidate.objects(run=hold.run.pk, seen__endswith=UNLISTED).limit(SAMPLE)
    hidden = [told.split()[0] for each in suspects for told in each.seen if told.endswith(UNLISTED)]
    missing = asked = 0
    with hold.desk.stripe.background():
        for each in hidden:
            asked += 1
            try:
                hold.desk.stripe.subscription(each)
            except StripeMissing:
                missing += 1
    if missing * 2 > asked:
        words = f"{hold.run.unshown} of {hold.run.rows} stored subscriptions are not at Stripe, of {asked} asked for "
        words += f"{missing} do not exist: STRIPE_SECRET_KEY may be of another account or mode."
        hold.end("failed", hold.desk.clock(), error=f"stripe_misconfigured: {words}")
    else:
        hold.commit(inc={"stripe_requests": asked}, sets={"key_trusted": True})
