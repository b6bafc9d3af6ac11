"""The job that handles due webhook events."""

import time
from collections import Counter

from .. import outbox
from ..documents import STORE_ERRORS
from ..observability import log
from ..runtime import runtime
from ..webhooks import Desk, handle_due, ledger
from . import shutdown, wakeups
from .queues import job
from .verify import wake_for_next

SLICE_SECONDS = 20.0
STORE_PAUSE_SECONDS = 5.0
# While events keep arriving: a slice costs its round trips however few are in it.
GATHERING_SECONDS = 0.1


@job("webhooks", timeout=wakeups.DISPATCH_TIMEOUT)
def dispatch() -> dict[str, int]:
    """Handle due events until none is left or the time slice ends; whoever must go on is woken."""
    wakeups.begun()
    deadline = time.monotonic() + SLICE_SECONDS
    try:
        ends = _handle_until(deadline)
        if (ends["applied"] or ends["dead"]) and outbox.count_due():
            wakeups.wake_outbox()
        wake_for_the_rest(deadline)
    except STORE_ERRORS as error:
        log.error("dispatch_without_store", error=type(error).__name__)
        wakeups.wake_in(STORE_PAUSE_SECONDS)
        return {}
    return dict(ends)


def desk() -> Desk:
    """What handling an event needs of this process."""
    return Desk(
        stripe=runtime.stripe,
        plans=runtime.plans,
        retry_delays=runtime.settings.webhook_retry_delays,
        clock=runtime.clock,
        metered=runtime.settings.meter_mode,
    )


def _handle_until(deadline: float) -> Counter:
    with runtime.stripe.background():
        return handle_due(
            desk(),
            stop=lambda: shutdown.requested() or time.monotonic() >= deadline,
            busy=wakeups.wake_behind_others,
            gather=lambda: shutdown.wait(GATHERING_SECONDS),
        )


def wake_for_the_rest(deadline: float | None = None) -> None:
    """Wake whoever goes on: now, behind the others if the time slice is over, or when the next event is due."""
    if ledger.has_due():
        if deadline is not None and time.monotonic() >= deadline:
            wakeups.wake_behind_others()
        else:
            wakeups.wake()
    # Asked of the database as a duration: the clocks of the processes differ.
    seconds = ledger.seconds_to_next()
    if seconds is not None:
        wakeups.wake_in(seconds)
    wake_for_next()
