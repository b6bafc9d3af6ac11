"""The second look at rows whose last one may have shown what was, not what is."""

from datetime import timedelta

from ..documents import STORE_ERRORS
from ..observability import log
from ..runtime import runtime
from ..subscriptions import OF_STRIPE, next_verify_at, verify_due
from . import wakeups
from .queues import job


@job("webhooks", timeout=60)
def verify() -> int:
    """Look again at the rows that are due; whoever must look later is woken then."""
    try:
        with runtime.stripe.background():
            done = verify_due(stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())
    except (*OF_STRIPE, *STORE_ERRORS) as error:  # the sweep goes on when it is over
        log.warning("verify_waits", error=type(error).__name__)
        return 0
    wake_for_next()
    return done


def wake_for_next() -> None:
    """Have the next row that needs a second look verified when it is due."""
    due_at = next_verify_at()
    if due_at is not None:
        # What a failed look leaves overdue is the sweep's.
        wakeups.wake_verify_in(max(timedelta(seconds=1), due_at - runtime.clock()).total_seconds())
