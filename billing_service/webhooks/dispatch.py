"""Handling due events, a slice at a time: claimed together, read together, each to its own end.

What its payload settles goes first, in one transaction; for the rest Stripe is asked once for each organization,
however many of its events wait.
"""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from ..documents import STORE_ERRORS, WebhookEvent
from ..observability import log
from . import ledger
from .errands import Task, ended, make_task, run_errands
from .handlers import Desk
from .quick import settle_quickly

SLICE = 100
RENEWAL_SECONDS = 10.0


def handle_due(
    desk: Desk, *, stop: Callable[[], bool], limit: int = SLICE, busy: Callable[[], object] | None = None
) -> Counter:
    """Handle due events until none is left or `stop()`; returns how many came to which end.

    `busy` is called when a whole slice was due, so that others can be woken to help. Raises STORE_ERRORS.
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
    return ends


def _handle_slice(events: list[WebhookEvent], desk: Desk, stop: Callable[[], bool], ends: Counter) -> None:
    left = {event.event_id: event for event in events}

    def note(event: WebhookEvent, end: str) -> None:
        left.pop(event.event_id, None)
        ends[end] += 1
        ended(event, end)

    try:
        for event, outcome in _quickly(events, desk):
            note(event, outcome)
        tasks: list[Task] = []
        for event in list(left.values()):
            if stop():
                return
            task = make_task(event, desk, ledger.trial_of(event))
            if isinstance(task, Task):
                tasks.append(task)
            else:
                note(event, task)
        for group in _by_organization(tasks):
            if stop():
                return
            for event, end in run_errands(group, desk):
                note(event, end)
    finally:
        # On the way out of a failing store this fails too; then the leases run out.
        with contextlib.suppress(*STORE_ERRORS):
            ledger.release(left.values())


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


def _by_organization(tasks: list[Task]) -> Iterator[list[Task]]:
    """What asks for a look at the same organization together, everything else alone, in the order of arrival."""
    groups: dict[object, list[Task]] = {}
    for task in tasks:
        key = task.errand.organization if task.errand.look else task.event.event_id
        groups.setdefault(key, []).append(task)
    yield from groups.values()


@contextlib.contextmanager
def _renewed(events: list[WebhookEvent]) -> Iterator[None]:
    """Keep the leases of a slice while it is worked on: one slow answer of Stripe takes as long as a lease."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(RENEWAL_SECONDS):
            try:
                ledger.renew(events)
            except Exception as error:
                log.warning("lease_not_renewed", error=type(error).__name__)

    thread = threading.Thread(target=keep, name="lease-renewal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
