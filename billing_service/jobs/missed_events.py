"""Each hour: the events that Stripe has and that never reached us, a slice at a time."""

import time
from typing import Any

from redis.exceptions import RedisError

from ..observability import log
from ..runtime import runtime
from ..webhooks import missed
from . import runs, shutdown, wakeups
from .queues import enqueue_run, job

SLICE_SECONDS = 20.0


@job("batch", timeout=120)
def missed_events() -> dict[str, Any]:
    """Receive what the ledger lacks; what does not fit into the time slice is a run of its own."""
    if not runtime.settings.stripe_secret_key:
        return {"complete": False, "skipped": "stripe_not_configured"}
    deadline = time.monotonic() + SLICE_SECONDS
    try:
        with runtime.stripe.background():
            reading = missed.read_on(
                runtime.stripe,
                livemode=runtime.settings.livemode,
                stop=lambda: shutdown.requested() or time.monotonic() >= deadline,
                received=wakeups.wake,
            )
    except missed.Overtaken as other:
        log.info("missed_events_overtaken", detail=str(other))
        return {"complete": False, "overtaken": True}
    if not reading.complete:
        _go_on(reading)
    return reading.summary


def _go_on(reading: missed.Reading) -> None:
    # Named by the place that was reached: of two readers that got there one goes on.
    slot = f"{reading.until:%Y%m%dT%H%M%S}-{reading.pages}"
    if not runs.claim("missed_events", slot):
        return
    try:
        enqueue_run(missed_events, slot, 1)
    except RedisError as error:
        # The claim has two minutes to start; then the sweep takes it up.
        log.warning("slot_not_enqueued", job_name="missed_events", slot=slot, error=type(error).__name__)
