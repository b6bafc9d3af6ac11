"""Handling due events, a slice at a time: claimed together, handled one by one, each to its own end."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from ..documents import STORE_ERRORS, WebhookEvent
from ..errors import CustomerShared
from ..observability import EVENTS, log
from . import ledger
from .failures import is_outage
from .handlers import HANDLERS, Desk
from .ownership import OwnerDisputed, OwnerUnknown, exists, known_owner, wake_organization

SLICE = 50
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


def handle(event: WebhookEvent, desk: Desk, trial: ledger.Trial | None = None) -> str:
    """Bring one leased event to an end of this attempt; returns its state or outcome. Raises STORE_ERRORS."""
    trial = trial or ledger.Trial(source="webhook")
    try:
        end = _attempt(event, desk, trial)
    except ledger.LeaseLost:
        end = "lease_lost"
    EVENTS.labels(end).inc()
    log.info("webhook_handled", event_id=event.event_id, type=event.type, end=end, attempts=event.attempts)
    return end


def _handle_slice(events: list[WebhookEvent], desk: Desk, stop: Callable[[], bool], ends: Counter) -> None:
    left = list(events)
    try:
        while left and not stop():
            ends[handle(left[0], desk)] += 1
            left.pop(0)
    finally:
        # On the way out of a failing store this fails too; then the leases run out.
        with contextlib.suppress(*STORE_ERRORS):
            ledger.release(left)


def _attempt(event: WebhookEvent, desk: Desk, trial: ledger.Trial) -> str:
    handler = HANDLERS.get(event.type)
    try:
        if handler is None:
            ledger.settle(event, "ignored", trial)
            return "ignored"
        handler(event, desk, trial)
        return "handled"
    except ledger.LeaseLost:
        raise
    except Exception as error:
        return _refused(event, error, desk, trial)


def _refused(event: WebhookEvent, error: Exception, desk: Desk, trial: ledger.Trial) -> str:
    """What an event comes to whose handler raised."""
    if event.organization is None:
        event.organization = known_owner(event.stripe_subscription_id, event.stripe_customer_id)
    if isinstance(error, OwnerUnknown):
        return _wait_for_owner(event, error, desk, trial)
    if isinstance(error, OwnerDisputed):
        return ledger.bury(event, error, trial, reason=error.reason, organization=error.organization)
    if isinstance(error, CustomerShared):
        return ledger.bury(event, error, trial, reason=error.code)
    if is_outage(error):
        log.warning("webhook_deferred", event_id=event.event_id, error=type(error).__name__, detail=str(error))
        return ledger.defer(event, error, trial)
    log.error("webhook_failed", event_id=event.event_id, type=event.type, attempt=event.attempts + 1, exc_info=error)
    return ledger.fail(event, error, trial, delays=desk.retry_delays)


def _wait_for_owner(event: WebhookEvent, error: OwnerUnknown, desk: Desk, trial: ledger.Trial) -> str:
    end = ledger.fail(
        event,
        error,
        trial,
        delays=desk.retry_delays,
        reason=ledger.UNKNOWN_OWNER,
        organization=error.organization,
    )
    # It may have become known between our look and this write, when there was nothing to wake yet.
    if error.organization and exists(error.organization):
        wake_organization(error.organization)
    return end


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
