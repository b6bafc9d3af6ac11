"""Each day: units of prepaid extras that are over are booked out, a part at a time."""

import time
from typing import Any

from ..documents import EPOCH
from ..extras import Expired, expire
from ..extras.expiry import FIRST
from ..runtime import runtime
from . import shutdown
from .queues import job
from .runs import Part

PART_SECONDS = 20.0


@job("batch", timeout=120, in_parts=True)
def extras_expiry(*, cursor: dict[str, Any]) -> Part:
    """Book out what remains of lots whose time is over."""
    if not runtime.settings.meter_mode:
        return Part({"skipped": "METER_MODE is false"})
    deadline = time.monotonic() + PART_SECONDS
    done = expire(
        Expired(cursor.get("since", EPOCH), cursor.get("last", FIRST)),
        now=runtime.clock(),
        stop=lambda: shutdown.requested() or time.monotonic() >= deadline,
    )
    summary = {name: done.counts[name] for name in ("expired", "units", "failed")}
    return Part(summary) if done.complete else Part(summary, {"since": done.since, "last": done.last})
