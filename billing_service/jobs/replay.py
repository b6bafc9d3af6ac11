"""The job that makes the attempt at an event whose replay was asked for."""

from typing import Any

from redis.exceptions import RedisError

from ..documents import STORE_ERRORS
from ..observability import log
from ..webhooks import handle, ledger
from . import wakeups
from .dispatch import desk, wake_for_the_rest
from .queues import enqueue, job


@job("admin", timeout=120)
def replay(event_id: str) -> dict[str, Any]:
    """Make the attempt, paused or not; whoever runs it twice finds nothing to do."""
    try:
        event = ledger.claim_replay(event_id)
        if event is None:
            return {"end": None}
        end = handle(event, desk(), ledger.trial_of(event))
        wake_for_the_rest()
    except STORE_ERRORS as error:  # it is due all the same: dispatch makes the attempt
        log.error("replay_without_store", event_id=event_id, error=type(error).__name__)
        return {"end": None}
    wakeups.wake_outbox()
    return {"end": end}


def enqueue_replay(event_id: str, job_id: str) -> bool:
    """Have the replay done soon; False if Redis could not be told (the sweep's dispatch does it then)."""
    try:
        enqueue(replay, event_id, job_id=job_id)
    except RedisError as error:
        log.warning("replay_not_enqueued", event_id=event_id, error=type(error).__name__)
        return False
    return True
