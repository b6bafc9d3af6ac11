"""Events that Stripe has and the ledger lacks: listed from the watermark on, received like any delivery.

Why one is missing is not asked here, and what it does is its handler's.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mongoengine.errors import NotUniqueError

from .. import outbox
from ..documents import Watermark, WebhookEvent, database_now, in_transaction
from ..documents.watermark import Window
from ..errors import BadRequest, StripeMissing, StripeRejected, StripeUnavailable
from ..observability import log
from ..stripe_gateway import Read, StripeGateway, VerifiedEvent
from .handlers import HANDLERS
from .intake import receive

WATERMARK = "missed_events"
SOURCE = "missed"
# Stripe's lists lag by seconds, in an incident by minutes: each event is looked for by two hourly runs, at the
# price of a second page per hundred events. Deliveries may be as late as they like, they find the event known.
OVERLAP = timedelta(hours=1)
# Younger ones may still be on their way.
LATE = timedelta(minutes=10)
STRIPE_KEEPS = timedelta(days=30)
# Names, not patterns: Stripe documents `*` for its other parameter only, and what nobody handles need not be read.
TYPES_PER_LIST = 20
SAMPLE = 5


class Overtaken(Exception):
    """Another reader has moved on from where this one was; it does the rest."""


@dataclass(frozen=True)
class Reading:
    """How far the reading of a window has come; `since` None: the first start, nothing was to be read."""

    since: datetime | None
    until: datetime
    complete: bool
    pages: int = 0
    listed: int = 0
    missed: int = 0
    alerted: int = 0

    @property
    def summary(self) -> dict[str, Any]:
        """What the run's row and the log tell."""
        return {
            "from": _text(self.since) if self.since else None,
            "to": _text(self.until),
            "listed": self.listed,
            "missed": self.missed,
            "alerted": self.alerted,
            "pages": self.pages,
            "complete": self.complete,
        }


def read_on(
    stripe: StripeGateway, *, livemode: bool, stop: Callable[[], bool], received: Callable[[], object]
) -> Reading:
    """Receive what the ledger lacks, until all is read that was there at the window's beginning, or `stop()`.

    At least one page is read; the next call goes on from there, whatever ended this one. `received` is called
    after each page that brought something. Raises Overtaken and what Stripe and the store raise.
    """
    mark = _opened(stripe)
    if mark.window is None:
        return Reading(None, mark.at, complete=True)
    resumed = True
    while not _read_out(mark.window):
        mark = _read_page(mark, stripe, livemode, received, resumed=resumed)
        resumed = False
        if not _read_out(mark.window) and stop():
            return _reading(mark.window, _found_in(mark.window), complete=False)
    return _close(mark)


def _opened(stripe: StripeGateway) -> Watermark:
    """The watermark with the window to be read, a new one unless there is one to go on with."""
    mark = _stored()
    types = sorted(HANDLERS)
    if mark and mark.window and mark.window.types == types:
        return mark
    now = _stripe_now(stripe)
    if mark is None:
        return _started(now)
    window = Window(
        since=_since(mark, now),
        until=now,
        types=types,
        # When the code changed in the middle, what its predecessor has found counts as found here.
        begun_at=mark.window.begun_at if mark.window else database_now(),
        read_at=now,
    )
    return _kept(mark, window)


def _since(mark: Watermark, now: datetime) -> datetime:
    # A mark that is ahead of Stripe's clock (a sandbox made anew, another clock once) must not hide anything.
    overlapping = min(mark.at, now) - OVERLAP
    return overlapping if mark.started_at > now else max(mark.started_at, overlapping)


def _stripe_now(stripe: StripeGateway) -> datetime:
    # Stripe's clock, because it is `created` that is compared; whole seconds, as `created` has.
    return stripe.events(created_gte=None, limit=1).as_of.replace(microsecond=0)


def _started(now: datetime) -> Watermark:
    first = Watermark(name=WATERMARK, at=now, started_at=now, moved_at=database_now())
    try:
        first.save(force_insert=True)
    except NotUniqueError:
        return _stored() or first
    log.info("missed_events_started", at=_text(now))
    return first


def _read_page(
    mark: Watermark,
    stripe: StripeGateway,
    livemode: bool,
    received: Callable[[], object],
    *,
    resumed: bool,
) -> Watermark:
    window = mark.window
    try:
        page = stripe.events(
            created_gte=int(window.since.timestamp()),
            created_lte=int(window.until.timestamp()),
            types=window.types[window.place : window.place + TYPES_PER_LIST],
            starting_after=window.after,
        )
    except (StripeMissing, StripeRejected) as refusal:
        # An event of a moment ago is not forgotten: then it is the request that Stripe does not like.
        if window.after is None or not resumed:
            raise
        log.warning("missed_events_restarted", after=window.after, code=refusal.code)
        begun_again = _kept(mark, _changed(window, after=None))
        return _read_page(begun_again, stripe, livemode, received, resumed=False)
    if _receive_lacking(page.value["data"], livemode):
        received()
    return _kept(mark, _after(page, window))


def _receive_lacking(events: list[dict[str, Any]], livemode: bool) -> int:
    ids = [each["id"] for each in events]
    known = set(WebhookEvent.objects(event_id__in=ids).scalar("event_id"))
    lacking = [each for each in events if each["id"] not in known]
    if not lacking:
        return 0
    now = database_now()
    return sum(_receive(each, livemode, now) for each in lacking)


def _receive(event: dict[str, Any], livemode: bool, now: datetime) -> bool:
    payload = json.dumps(event).encode()
    try:
        return not receive(VerifiedEvent(event), payload, livemode=livemode, now=now, source=SOURCE).known
    except BadRequest as refusal:
        # It would be refused as a delivery too, and must not hide all that are older.
        log.error("missed_event_unreadable", alert=True, event_id=event["id"], detail=refusal.detail)
        return False


def _after(page: Read[dict[str, Any]], window: Window) -> Window:
    """The window's place after the page."""
    events, more = page.value["data"], page.value["has_more"]
    if more and not events:
        raise StripeUnavailable("Stripe's answer cannot be used: an empty page says that more follow.")
    return _changed(
        window,
        place=window.place if more else window.place + TYPES_PER_LIST,
        after=events[-1]["id"] if more else None,
        pages=window.pages + 1,
        listed=window.listed + len(events),
        read_at=page.as_of,
    )


def _read_out(window: Window) -> bool:
    return window.place >= len(window.types)


@dataclass(frozen=True)
class _Found:
    """What a window has brought, as the ledger tells: counts kept beside it would be wrong after a crash."""

    missed: int
    late: int
    oldest: datetime | None
    types: list[str]


def _found_in(window: Window) -> _Found:
    late = {"$lte": ["$created", window.until - LATE]}
    counts = {
        "missed": {"$sum": 1},
        "late": {"$sum": {"$cond": [late, 1, 0]}},
        "oldest": {"$min": "$created"},
    }
    steps = [{"$match": _brought(window)}, {"$group": {"_id": "$type", **counts}}]
    rows = list(WebhookEvent._get_collection().aggregate(steps))
    return _Found(
        missed=sum(each["missed"] for each in rows),
        late=sum(each["late"] for each in rows),
        oldest=min((each["oldest"] for each in rows), default=None),
        types=sorted(each["_id"] for each in rows if each["late"]),
    )


def _brought(window: Window) -> dict[str, Any]:
    return {"received_at": {"$gte": window.begun_at}, "source": SOURCE}


def _close(mark: Watermark) -> Reading:
    """Move the watermark and store the alerts, both or neither; then say what was found."""
    window = mark.window
    found = _found_in(window)
    alerts = _alerts(mark, found)
    moved_at = database_now()

    def move() -> None:
        outbox.put(
            outbox.signal(name, f"{name}:{_text(window.until)}", now=moved_at, facts=facts) for name, facts in alerts
        )
        _replace(mark, moved_at, set__at=window.until, unset__window=True)

    in_transaction(move)
    for name, facts in alerts:
        log.error(name, alert=True, **facts)
    reading = _reading(window, found, complete=True)
    log.info("missed_events_read", **reading.summary)
    return reading


def _alerts(mark: Watermark, found: _Found) -> list[tuple[str, dict[str, Any]]]:
    window, alerts = mark.window, []
    if found.late and found.oldest:
        late = _brought(window) | {"created": {"$lte": window.until - LATE}}
        sample = WebhookEvent.objects(__raw__=late).order_by("created").limit(SAMPLE).scalar("event_id")
        facts = {"count": found.late, "oldest": _text(found.oldest), "types": found.types, "event_ids": list(sample)}
        alerts.append(("missed_events", facts))
    listed_since = window.read_at - STRIPE_KEEPS
    if mark.at < listed_since:
        remedy = "Stripe does not list these events any more: reconcile, and sync what that finds."
        facts = {"from": _text(mark.at), "to": _text(listed_since), "remedy": remedy}
        alerts.append(("missed_events_gap", facts))
    return alerts


def _reading(window: Window, found: _Found, *, complete: bool) -> Reading:
    return Reading(
        window.since,
        window.until,
        complete,
        pages=window.pages,
        listed=window.listed,
        missed=found.missed,
        alerted=found.late if complete else 0,
    )


def _stored() -> Watermark | None:
    return Watermark.objects(name=WATERMARK).first()


def _kept(mark: Watermark, window: Window) -> Watermark:
    """The watermark with the window stored."""
    moved_at = database_now()
    _replace(mark, moved_at, set__window=window)
    # Not read again: another reader may be further already, and then the next write has to fail.
    fields = {"name": mark.name, "at": mark.at, "started_at": mark.started_at, "moved_at": moved_at}
    return Watermark(**fields, window=window, version=mark.version + 1)


def _replace(mark: Watermark, moved_at: datetime, **updates: Any) -> None:
    """Update what is stored. Raises Overtaken if it is not as `mark` any more."""
    as_read = Watermark.objects(name=mark.name, version=mark.version)
    if not as_read.update_one(inc__version=1, set__moved_at=moved_at, **updates):
        raise Overtaken("another reader is further")


def _changed(window: Window, **fields: Any) -> Window:
    return Window(**({name: getattr(window, name) for name in window._fields} | fields))


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
