"""Each day: rows that were not reset in this week get their new week, a part at a time. METER_MODE switches it on."""

import time
from typing import Any

from .. import outbox
from ..documents import week_of
from ..runtime import runtime
from ..usage import Place, Reset, reset_due
from . import shutdown, wakeups
from .queues import job
from .runs import Part

PART_SECONDS = 20.0


@job("batch", timeout=120, in_parts=True)
def weekly_reset(*, cursor: dict[str, Any]) -> Part:
    """Reset what is due; who could not be reset is named, told of once a day, and due again."""
    if not runtime.settings.meter_mode:
        return Part({"skipped": "METER_MODE is false"})
    deadline = time.monotonic() + PART_SECONDS
    begun = Reset(Place(**cursor.get("place", {})), failing=list(cursor.get("failing", [])))
    done = reset_due(
        begun,
        plans=runtime.plans,
        now=runtime.clock(),
        stop=lambda: shutdown.requested() or time.monotonic() >= deadline,
    )
    failed = cursor.get("failed", 0) + done.counts["failed"]
    summary: dict[str, Any] = {name: done.counts[name] for name in ("reset", "settled", "units_settled", "failed")}
    if not done.complete:
        return Part(summary, {"place": vars(done.place), "failing": done.failing, "failed": failed})
    if failed:
        _alert(failed, done.failing)
        summary["failing"] = done.failing
    return Part(summary)


def _alert(failed: int, failing: list[str]) -> None:
    now = runtime.clock()
    facts = {"week": week_of(now), "count": failed, "organization_ids": failing}
    outbox.put([outbox.signal("weekly_reset_failed", f"weekly_reset_failed:{now:%Y%m%d}", now=now, facts=facts)])
    wakeups.wake_outbox()
