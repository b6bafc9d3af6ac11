"""The job that sends the signals that are due."""

import time

from .. import outbox
from ..documents import STORE_ERRORS
from ..observability import log
from ..runtime import runtime
from . import shutdown, wakeups
from .queues import job

SLICE_SECONDS = 20.0


@job("admin", timeout=wakeups.DISPATCH_TIMEOUT)
def send_outbox() -> dict[str, int]:
    """Send due signals until none is left or the time slice ends; whoever must go on is woken."""
    wakeups.begun(wakeups.OUTBOX_PENDING)
    deadline = time.monotonic() + SLICE_SECONDS
    receivers = outbox.receivers_of(runtime.settings)
    try:
        ends = outbox.send_due(
            receivers,
            clock=runtime.clock,
            stop=lambda: shutdown.requested() or time.monotonic() >= deadline,
            share_seconds=SLICE_SECONDS / max(1, len(receivers)),
        )
        _wake_for_the_rest(outbox.seconds_to_next(receivers))
    except STORE_ERRORS as error:  # the sweep goes on
        log.error("outbox_without_store", error=type(error).__name__)
        return {}
    return dict(ends)


def _wake_for_the_rest(seconds: float | None) -> None:
    if seconds == 0:
        wakeups.wake_outbox()
    elif seconds is not None:
        wakeups.wake_outbox_in(seconds)
