"""The states of an event, and the only code that moves it from one to another.

Every transition names the lease owner and the attempt it was made under; a holder whose condition fails has
lost the event and writes nothing. Times are the database's clock (`$$NOW`): the processes' clocks differ.
"""

import random
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import metadata
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection

from ..documents import WebhookEvent, database_now
from ..documents.webhook_event import PENDING_STATES
from .failures import fingerprint_of, message_of

LEASE = timedelta(seconds=30)
LEASE_LOSSES = 10
HISTORY = 20
KEPT = timedelta(days=90)
OUTAGE_FIRST = 5.0
OUTAGE_LONGEST = 900.0
OUTAGE_LIMIT = timedelta(days=3)
UNKNOWN_OWNER = "organization_unknown"

CODE_VERSION = metadata.version("billing-service")

_LEASE_FIELDS = ("lease_owner", "lease_until")
_WAITING_FIELDS = ("next_attempt_at", "deferred_since", "deferrals")


class LeaseLost(Exception):
    """Another process has taken the event up; whoever gets this must not write."""


@dataclass(frozen=True)
class Trial:
    """One attempt at an event: why it is made, by whom, and since when (monotonic seconds)."""

    source: str = "delivery"
    actor: str = "worker"
    begun: float = field(default_factory=time.monotonic)


def claim(limit: int) -> list[WebhookEvent]:
    """Lease up to `limit` due events, the oldest `created` first."""
    for _ in range(3):
        now = database_now()
        due = {"state": {"$in": list(PENDING_STATES)}, "next_attempt_at": {"$not": {"$gt": now}}}
        found = list(_events().find(due, {"lease_losses": 1}).sort("created", 1).limit(limit))
        if not found:
            return []
        owner, ids = _new_owner(), _companions(found)
        _events().update_many(due | {"_id": {"$in": ids}}, [{"$set": _lease(owner)}])
        won = list(WebhookEvent.objects(id__in=ids, lease_owner=owner).order_by("created", "id"))
        if won:
            return won
    # Others were faster each time, so they have the work.
    return []


def claim_one(event_id: str, *, states: Iterable[str], returns_to: str | None = None) -> WebhookEvent | None:
    """Lease one event now, whatever its time; None if it is in none of `states`.

    With `returns_to` a failure leaves it in that state again: the replay of a dead or a succeeded event.
    """
    owner = _new_owner()
    fields = _lease(owner) | ({"returns_to": returns_to} if returns_to else {})
    _events().update_one({"event_id": event_id, "state": {"$in": list(states)}}, [{"$set": fields}])
    return WebhookEvent.objects(event_id=event_id, lease_owner=owner).first()


def renew(events: Iterable[WebhookEvent]) -> int:
    """Extend the leases that are still held; returns how many are."""
    held = list(events)
    if not held:
        return 0
    own = {"_id": {"$in": [event.pk for event in held]}, "lease_owner": held[0].lease_owner, "state": "processing"}
    return _events().update_many(own, [{"$set": {"lease_until": _later(LEASE)}}]).matched_count


def release(events: Iterable[WebhookEvent]) -> int:
    """Give back what was claimed and not begun, as if it had never been claimed."""
    held = list(events)
    if not held:
        return 0
    own = {"_id": {"$in": [event.pk for event in held]}, "lease_owner": held[0].lease_owner, "state": "processing"}
    return (
        _events().update_many(own, [{"$set": {"state": _STATE_BEFORE}}, {"$unset": list(_LEASE_FIELDS)}]).matched_count
    )


def return_expired() -> int:
    """Make events whose holder disappeared due again; the tenth disappearance makes one dead."""
    gone = {"state": "processing", "lease_until": {"$lte": database_now()}}
    losses = {"$ifNull": ["$lease_losses", 0]}
    too_many = {"$gte": [losses, LEASE_LOSSES - 1]}
    end = {"$ifNull": ["$returns_to", "dead"]}
    dies = {"$and": [too_many, {"$eq": [end, "dead"]}]}
    line = _line(Trial(), error_class="LeaseExpired", error_message="The process that held the event disappeared.")
    fields = {
        "lease_losses": {"$add": [losses, 1]},
        "state": {"$cond": [too_many, end, "failed"]},
        "reason": {"$cond": [dies, "lease_losses", "$reason"]},
        "dead_at": {"$cond": [dies, "$$NOW", "$dead_at"]},
        "fingerprint": {"$cond": [dies, "LeaseExpired", "$fingerprint"]},
        # At once for the first: a deploy is the usual cause. Then slower: it may be the event that kills.
        "next_attempt_at": {"$cond": [too_many, "$$REMOVE", {"$add": ["$$NOW", {"$multiply": [losses, 10_000]}]}]},
        "history": _with(line),
    }
    return _events().update_many(gone, [{"$set": fields}, {"$unset": list(_LEASE_FIELDS)}]).modified_count


def settle(event: WebhookEvent, outcome: str, trial: Trial, *, organization: ObjectId | None = None) -> None:
    """The event's good end: applied, superseded or ignored. Raises LeaseLost.

    Called inside the transaction of the event's effect it commits with it, and LeaseLost undoes the effect.
    """
    fields = {"state": "succeeded", "outcome": outcome, "expires_at": _later(KEPT), "history": _with(_line(trial))}
    cleared = ("reason", "fingerprint", "dead_at", "closed", "returns_to", *_WAITING_FIELDS)
    _move(event, fields | _owned_by(event, organization), cleared)


def fail(
    event: WebhookEvent,
    error: BaseException,
    trial: Trial,
    *,
    delays: tuple[int, ...],
    reason: str = "handler_failed",
    organization: ObjectId | None = None,
) -> str:
    """Use up an attempt: the event waits for the next one, or is dead; returns its state. Raises LeaseLost."""
    attempts = event.attempts + 1
    told = _told(error, trial) | {"attempts": attempts, "reason": reason} | _owned_by(event, organization)
    if event.returns_to or attempts > len(delays):
        return _end(event, told)
    wait = _spread(delays[attempts - 1])
    _move(event, told | {"state": "failed", "next_attempt_at": _later(wait)}, ("deferred_since", "deferrals"))
    return "failed"


def defer(event: WebhookEvent, error: BaseException, trial: Trial) -> str:
    """Wait for an outage to end; returns the state. Only the end of the waiting uses an attempt. Raises LeaseLost."""
    claimed_at = event.lease_until - LEASE
    told = _told(error, trial) | {"reason": "outage"} | _owned_by(event)
    if event.deferred_since and claimed_at - event.deferred_since > OUTAGE_LIMIT:
        return _end(event, told | {"attempts": event.attempts + 1})
    wait = _spread(min(OUTAGE_FIRST * 2 ** min(event.deferrals or 0, 10), OUTAGE_LONGEST))
    fields = {
        "state": "failed",
        "next_attempt_at": _later(wait),
        "deferrals": (event.deferrals or 0) + 1,
        "deferred_since": {"$ifNull": ["$deferred_since", "$$NOW"]},
    }
    _move(event, told | fields, ())
    return "failed"


def bury(
    event: WebhookEvent, error: BaseException, trial: Trial, *, reason: str, organization: ObjectId | None = None
) -> str:
    """No attempt after this one could help: dead at once; returns the state. Raises LeaseLost."""
    told = _told(error, trial) | {"reason": reason} | _owned_by(event, organization)
    return _end(event, told | {"attempts": event.attempts + 1})


def close(event_id: str, *, by: str, note: str | None) -> bool:
    """Hide a dead letter for good; False if it is not dead. Its id is recognised when it is delivered again."""
    closed = {"by": {"$literal": by}, "at": "$$NOW", "note": {"$literal": note}}
    fields = {"state": "closed", "closed": closed, "expires_at": _later(KEPT)}
    return _events().update_one({"event_id": event_id, "state": "dead"}, [{"$set": fields}]).matched_count == 1


def wake_unknown(**whose: Any) -> int:
    """Make events due again that waited for, or died of, an unknown organization; returns how many.

    `whose` are fields of the event: organization, stripe_customer_id or stripe_subscription_id.
    """
    waiting = whose | {"reason": UNKNOWN_OWNER, "state": {"$in": ["failed", "dead"]}}
    steps: list[dict] = [
        {"$set": {"state": "failed", "attempts": 0}},
        {"$unset": ["next_attempt_at", "dead_at", "returns_to"]},
    ]
    return _events().update_many(waiting, steps).modified_count


def seconds_to_next() -> float | None:
    """How long until the next waiting event is due, by the database's clock; None if none waits."""
    event = WebhookEvent.objects(state="failed", next_attempt_at__ne=None).order_by("next_attempt_at").first()
    return None if event is None else max(0.0, (event.next_attempt_at - database_now()).total_seconds())


def has_due() -> bool:
    """Whether an event is due and not leased."""
    due = {"state": {"$in": list(PENDING_STATES)}, "next_attempt_at": {"$not": {"$gt": database_now()}}}
    return _events().find_one(due, {"_id": 1}) is not None


_STATE_BEFORE = {
    "$cond": [
        {"$or": [{"$gt": ["$attempts", 0]}, {"$gt": ["$deferrals", 0]}, {"$gt": ["$lease_losses", 0]}]},
        "failed",
        "received",
    ]
}


def _events() -> Collection:
    return WebhookEvent._get_collection()


def _new_owner() -> str:
    # New for each claim: the same process may claim the same event twice.
    return uuid.uuid4().hex


def _companions(found: list[dict]) -> list[ObjectId]:
    """Those to claim together. An event that may have killed its process is claimed alone, so that it takes
    no neighbour with it again."""
    if found[0].get("lease_losses"):
        return [found[0]["_id"]]
    suspect = next((place for place, each in enumerate(found) if each.get("lease_losses")), len(found))
    return [each["_id"] for each in found[:suspect]]


def _lease(owner: str) -> dict[str, Any]:
    return {"state": "processing", "lease_owner": owner, "lease_until": _later(LEASE)}


def _later(duration: timedelta) -> dict[str, Any]:
    return {"$add": ["$$NOW", round(duration.total_seconds() * 1000)]}


def _spread(seconds: float) -> timedelta:
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311


def _line(trial: Trial, **error: str) -> dict[str, Any]:
    told = {
        "source": trial.source,
        "actor": trial.actor,
        "code_version": CODE_VERSION,
        "milliseconds": round((time.monotonic() - trial.begun) * 1000),
        **error,
    }
    # Literal: a message may begin with a dollar sign, which an update pipeline would evaluate.
    return {"at": "$$NOW"} | {name: {"$literal": value} for name, value in told.items()}


def _with(line: dict[str, Any]) -> dict[str, Any]:
    return {"$slice": [{"$concatArrays": [{"$ifNull": ["$history", []]}, [line]]}, -HISTORY]}


def _told(error: BaseException, trial: Trial) -> dict[str, Any]:
    line = _line(trial, error_class=type(error).__name__, error_message=message_of(error))
    return {"fingerprint": {"$literal": fingerprint_of(error)}, "history": _with(line)}


def _owned_by(event: WebhookEvent, organization: ObjectId | None = None) -> dict[str, Any]:
    # What the handler has learnt stands in the event, also when the handler failed afterwards.
    owner = organization or event.organization
    return {"organization": owner} if owner else {}


def _end(event: WebhookEvent, fields: dict[str, Any]) -> str:
    # A forced replay of a good event that fails leaves it as it was, with one more line.
    state = event.returns_to or "dead"
    if state == "dead":
        fields = fields | {"state": "dead", "dead_at": "$$NOW"}
    else:
        fields = {"state": state, "history": fields["history"], "attempts": fields.get("attempts", event.attempts)}
    _move(event, fields, ("returns_to", *_WAITING_FIELDS))
    return state


def _move(event: WebhookEvent, fields: dict[str, Any], cleared: Iterable[str]) -> None:
    held = {
        "_id": event.pk,
        "state": "processing",
        "lease_owner": event.lease_owner,
        "attempts": event.attempts,
    }
    steps: list[dict] = [{"$set": fields}, {"$unset": [*_LEASE_FIELDS, *cleared]}]
    if _events().update_one(held, steps).matched_count == 0:
        raise LeaseLost(f"{event.event_id} is held by another process now")
