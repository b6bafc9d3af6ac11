"""The job that carries on with a batch of replays, a slice at a time."""

import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError
from rq import Queue

from ..documents import STORE_ERRORS
from ..observability import log
from ..runtime import runtime
from ..webhooks import batches, ledger
from ..webhooks.batch_items import carry_on
from . import shutdown, wakeups
from .dispatch import desk, wake_for_the_rest
from .queues import job

SLICE_SECONDS = 20.0
# What waits for a worker gets it after so long; with none of it a busy installation's batches would not move.
LEAST_SECONDS = 2.0
STORE_PAUSE_SECONDS = 5.0
BEFORE_BATCHES = ("webhooks", "admin")


@job("batch", timeout=wakeups.DISPATCH_TIMEOUT)
def replay_batches() -> dict[str, Any]:
    """Carry on with the batch that has waited longest; whoever must go on is woken."""
    wakeups.begun(wakeups.BATCHES_PENDING)
    try:
        ledger.return_expired()
        batch = batches.claim()
        end = None
        if batch is not None:
            with runtime.stripe.background():
                livemode = runtime.settings.livemode
                end = carry_on(batch, desk(), livemode=livemode, stop=_slice(time.monotonic()), pause=shutdown.wait)
            wake_for_the_rest()
            wakeups.wake_outbox()
        _wake_for_next()
    except STORE_ERRORS as error:
        log.error("batch_without_store", error=type(error).__name__)
        wakeups.wake_batches_in(STORE_PAUSE_SECONDS)
        return {}
    return {"batch_id": str(batch.pk) if batch else None, "end": end}


def _slice(begun: float) -> Callable[[], bool]:
    def over() -> bool:
        seconds = time.monotonic() - begun
        return shutdown.requested() or seconds >= SLICE_SECONDS or (seconds >= LEAST_SECONDS and _others_wait())

    return over


def _others_wait() -> bool:
    try:
        client = runtime.redis.quick()
        return any(Queue(name, connection=client).count for name in BEFORE_BATCHES)
    except RedisError:
        return False


def _wake_for_next() -> None:
    # One that somebody holds is woken for by its holder, or found by the sweep.
    seconds = batches.seconds_to_next()
    if seconds == 0:
        wakeups.wake_batches()
    elif seconds is not None:
        wakeups.wake_batches_in(seconds)
