"""What all transitions of an event share: who makes an attempt, and the line of history that tells of it."""

import random
import time
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import metadata
from typing import Any

from pymongo.collection import Collection

from ...documents import WebhookEvent
from ..failures import fingerprint_of, message_of

LEASE = timedelta(seconds=30)
HISTORY = 20
KEPT = timedelta(days=90)

CODE_VERSION = metadata.version("billing-service")

LEASE_FIELDS = ("lease_owner", "lease_until")


@dataclass(frozen=True)
class Trial:
    """One attempt at an event: why it is made, by whom, for which replay, and since when (monotonic seconds)."""

    source: str = "webhook"
    actor: str = "worker"
    job_id: str | None = None
    begun: float = field(default_factory=time.monotonic)


def trial_of(event: WebhookEvent) -> Trial:
    """The attempt that is due for a claimed event: the replay that was asked for, or an ordinary one."""
    asked = event.replay
    return Trial(source="replay", actor=asked.actor, job_id=asked.job_id) if asked else Trial()


def collection() -> Collection:
    """The events, past MongoEngine: transitions are update pipelines."""
    return WebhookEvent._get_collection()


def later(duration: timedelta) -> dict[str, Any]:
    """So long after the database's now, for an update pipeline."""
    return {"$add": ["$$NOW", round(duration.total_seconds() * 1000)]}


def spread(seconds: float) -> timedelta:
    """A delay with jitter, so that what failed together does not come back together."""
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311


def line(trial: Trial, **told: str) -> dict[str, Any]:
    """A line of history; `told` are outcome or error."""
    facts = {
        "source": trial.source,
        "actor": trial.actor,
        "job_id": trial.job_id,
        "code_version": CODE_VERSION,
        "milliseconds": round((time.monotonic() - trial.begun) * 1000),
        **told,
    }
    # Literal: a message may begin with a dollar sign, which an update pipeline would evaluate.
    return {"at": "$$NOW"} | {name: {"$literal": value} for name, value in facts.items() if value is not None}


def with_line(added: dict[str, Any], *, again: Any = False) -> dict[str, Any]:
    """The history with one more line, the last ones kept; in place of the last one if `again` holds."""
    history = {"$ifNull": ["$history", []]}
    but_last = {
        "$cond": [{"$gt": [{"$size": history}, 1]}, {"$slice": [history, {"$subtract": [{"$size": history}, 1]}]}, []]
    }
    before = history if again is False else {"$cond": [again, but_last, history]}
    return {"$slice": [{"$concatArrays": [before, [added]]}, -HISTORY]}


def told(error: BaseException, trial: Trial, *, again: Any = False) -> dict[str, Any]:
    """The fields that tell of a failed attempt; `again`: an expression that holds if the last line told the same."""
    added = line(trial, error_class=type(error).__name__, error_message=message_of(error))
    return {"fingerprint": {"$literal": fingerprint_of(error)}, "history": with_line(added, again=again)}
