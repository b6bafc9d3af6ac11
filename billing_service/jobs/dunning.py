"""Each day: who has been past due for too long is suspended, a part at a time."""

import time
from datetime import timedelta
from typing import Any

from ..documents import EPOCH
from ..runtime import runtime
from ..subscriptions import Dunned, suspend_overdue
from . import shutdown, wakeups
from .queues import job
from .runs import Part

PART_SECONDS = 20.0
OUTAGE_PAUSE = timedelta(minutes=5)


@job("batch", timeout=120, in_parts=True)
def dunning(*, cursor: dict[str, Any]) -> Part:
    """Suspend what is overdue; while Stripe is away it waits and goes on where it was."""
    days = runtime.settings.dunning_days
    if not days:
        return Part({"skipped": "DUNNING_DAYS is 0"})
    if not runtime.settings.stripe_secret_key:
        return Part({"skipped": "stripe_not_configured"})
    deadline, now = time.monotonic() + PART_SECONDS, runtime.clock()
    with runtime.stripe.background():
        done = suspend_overdue(
            Dunned(cursor.get("since", EPOCH), list(cursor.get("seen", []))),
            overdue_since=now - timedelta(days=days),
            stripe=runtime.stripe,
            plans=runtime.plans,
            now=now,
            stop=lambda: shutdown.requested() or time.monotonic() >= deadline,
        )
    if done.counts["suspended"] or done.counts["kept"]:
        wakeups.wake_outbox()
    summary = {name: done.counts[name] for name in ("suspended", "kept", "failed")}
    if done.complete:
        return Part(summary)
    return Part(summary, {"since": done.since, "seen": done.seen}, OUTAGE_PAUSE if done.outage else None)
