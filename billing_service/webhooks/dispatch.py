"""Handling due events, a slice at a time: claimed together, read together, each to its own end.

What its payload settles goes first, in one transaction; for the rest Stripe is asked once for each organization,
however many of its events wait.
"""

import contextlib
from collections import Counter
from collections.abc import Callable

from ..documents import STORE_ERRORS, WebhookEvent
from ..observability import log
from . import ledger
from .errands import Task, ended, make_task, run_errands
from .handlers import Desk
from .quick import settle_quickly
from .renewal import renewed

SLICE = 100
RENEWAL_SECONDS = 10.0


def handle_due(
    desk: Desk,
    *,
    stop: Callable[[], bool],
    limit: int = SLICE,
    busy: Callable[[], object] | None = None,
    gather: Callable[[], object] | None = None,
) -> Counter:
    """Handle due events until none is left or `stop()`; returns how many came to which end.

    `busy` is called when a whole slice was due, so that others can be woken to help; `gather` after a smaller one of
    several events, to let the next one grow. Raises STORE_ERRORS.
    """
    ends: Counter = Counter()
    ledger.return_expired()
    while not stop():
        events = ledger.claim(limit)
        if not events:
            break
        if len(events) == limit and busy:
            busy()
        with _renewed(events):
            _handle_slice(events, desk, stop, ends)
        if 1 < len(events) < limit and gather:
            gather()
    return ends


def _handle_slice(events: list[WebhookEvent], desk: Desk, stop: Callable[[], bool], ends: Counter) -> None:
    left = {event.event_id: event for event in events}
    at_hand: list[WebhookEvent] = []

    def note(event: WebhookEvent, end: str) -> None:
        left.pop(event.event_id, None)
        ends[end] += 1
        ended(event, end)

    try:
        for event, outcome in _quickly(events, desk):
            note(event, outcome)
        # At least one comes to an end, however late it is: else the same slice would be begun for ever.
        while left:
            at_hand = _together(left)
            for event, end in _look_once(at_hand, desk, stop):
                note(event, end)
            at_hand = []
            if stop():
                return
    except Exception:
        at_hand = []
        raise
    finally:
        # What the job's timeout cut off keeps its lease: given back it would be first again, and cut off again.
        begun = {event.event_id for event in at_hand}
        # On the way out of a failing store this fails too; then the leases run out.
        with contextlib.suppress(*STORE_ERRORS):
            ledger.release([event for event_id, event in left.items() if event_id not in begun])


def _quickly(events: list[WebhookEvent], desk: Desk) -> list[tuple[WebhookEvent, str]]:
    """What was settled without a look. One row or event that cannot be read there must not hold up the slice."""
    try:
        return settle_quickly(events, desk)
    except STORE_ERRORS:
        raise
    except Exception as error:
        log.error("slice_not_settled_quickly", events=len(events), exc_info=error)
        return []


def handle(event: WebhookEvent, desk: Desk, trial: ledger.Trial) -> str:
    """Bring one leased event to an end of this attempt; returns its state or outcome. Raises STORE_ERRORS."""
    with _renewed([event]):
        task = make_task(event, desk, trial)
        end = task if isinstance(task, str) else run_errands([task], desk)[0][1]
    ended(event, end)
    return end


def _together(left: dict[str, WebhookEvent]) -> list[WebhookEvent]:
    """The next event, and those that wait with it for the same subscription or customer."""
    first = next(iter(left.values()))
    return [each for each in left.values() if each is first or _related(each, first)]


def _related(one: WebhookEvent, other: WebhookEvent) -> bool:
    ids = ((each.stripe_subscription_id, each.stripe_customer_id) for each in (one, other))
    return any(mine and mine == theirs for mine, theirs in zip(*ids, strict=True))


def _look_once(events: list[WebhookEvent], desk: Desk, stop: Callable[[], bool]) -> list[tuple[WebhookEvent, str]]:
    """Find out what the events ask for, until `stop()`, and carry it out: one look for each organization."""
    ends: list[tuple[WebhookEvent, str]] = []
    groups: dict[object, list[Task]] = {}
    for event in events:
        task = make_task(event, desk, ledger.trial_of(event))
        if isinstance(task, str):
            ends.append((event, task))
        else:
            groups.setdefault(task.errand.organization if task.errand.look else event.event_id, []).append(task)
        if stop():
            break
    for tasks in groups.values():
        ends += run_errands(tasks, desk)
    return ends


def _renewed(events: list[WebhookEvent]) -> contextlib.AbstractContextManager[None]:
    return renewed(lambda: ledger.renew(events), every=RENEWAL_SECONDS, what="events")
