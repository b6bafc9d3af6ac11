"""The ends of an attempt, each under the lease and the attempt number it was made with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId
from pymongo import ReturnDocument, UpdateOne

from ... import outbox
from ...documents import OutboxSignal, WebhookEvent, in_transaction
from ...documents.webhook_event import FINAL_STATES
from .lines import CODE_VERSION, KEPT, LEASE, LEASE_FIELDS, Trial, collection, later, line, spread, told, with_line

OUTAGE_FIRST = 5.0
OUTAGE_LONGEST = 900.0
OUTAGE_LIMIT = timedelta(days=3)
UNKNOWN_OWNER = "organization_unknown"
# The last line tells of the same outage: it is brought up to date, so that waiting pushes out no other.
OUTAGE_GOES_ON = {
    "$and": [
        {"$eq": ["$reason", "outage"]},
        {"$gt": ["$deferrals", 0]},
        {"$ne": [{"$last": {"$ifNull": ["$history.error_class", []]}}, "LeaseExpired"]},
    ]
}

WAITING_FIELDS = ("next_attempt_at", "deferred_since", "deferrals")
WAITS_FOR_REPLAY = {"$ne": [{"$type": "$replay"}, "missing"]}
ATTEMPTED_FIELDS = (
    "learned",
    "reason",
    "fingerprint",
    "dead_at",
    "dead_version",
    "closed",
    "returns_to",
    "replay",
    *WAITING_FIELDS,
)


class LeaseLost(Exception):
    """Another process has taken the event up; whoever gets this must not write."""


@dataclass(frozen=True)
class Settlement:
    """The good end of one event: applied, superseded or ignored."""

    event: WebhookEvent
    outcome: str
    trial: Trial
    organization: ObjectId | None = None


def settle(event: WebhookEvent, outcome: str, trial: Trial, *, organization: ObjectId | None = None) -> None:
    """The event's good end. Raises LeaseLost.

    Called inside the transaction of the event's effect it commits with it, and LeaseLost undoes the effect.
    """
    settle_all([Settlement(event, outcome, trial, organization)])


def settle_all(settlements: Sequence[Settlement]) -> None:
    """Settle events in one round trip; inside a transaction all or none. Raises LeaseLost if one was lost."""
    writes = [
        UpdateOne(_held(each.event), [{"$set": _good_end(each)}, {"$unset": [*LEASE_FIELDS, *ATTEMPTED_FIELDS]}])
        for each in settlements
    ]
    if writes and collection().bulk_write(writes, ordered=False).matched_count != len(writes):
        raise LeaseLost(f"One of {', '.join(each.event.event_id for each in settlements)} is held by another process")


def _good_end(each: Settlement) -> dict[str, Any]:
    fields = {"state": "succeeded", "outcome": each.outcome, "expires_at": later(KEPT)}
    return (
        fields
        | {"history": with_line(line(each.trial, outcome=each.outcome))}
        | _owned_by(each.event, each.organization)
    )


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
    facts = told(error, trial) | {"attempts": attempts, "reason": reason} | _owned_by(event, organization)
    if event.returns_to or attempts > len(delays):
        return _end(event, facts, reason)
    wait = spread(delays[attempts - 1])
    fields = {"state": "failed", "next_attempt_at": later(wait)}
    _move(event, facts | fields, ("deferred_since", "deferrals", "replay"))
    return "failed"


def defer(event: WebhookEvent, error: BaseException, trial: Trial) -> str:
    """Wait for an outage to end; returns the state. Only the end of the waiting uses an attempt. Raises LeaseLost."""
    claimed_at = event.lease_until - LEASE
    facts = told(error, trial, again=OUTAGE_GOES_ON) | {"reason": "outage"} | _owned_by(event)
    if event.deferred_since and claimed_at - event.deferred_since > OUTAGE_LIMIT:
        return _end(event, facts | {"attempts": event.attempts + 1}, "outage")
    wait = spread(min(OUTAGE_FIRST * 2 ** min(event.deferrals or 0, 10), OUTAGE_LONGEST))
    fields = {
        "state": "failed",
        "next_attempt_at": later(wait),
        "deferrals": (event.deferrals or 0) + 1,
        "deferred_since": {"$ifNull": ["$deferred_since", "$$NOW"]},
    }
    _move(event, facts | fields, ())
    return "failed"


def bury(
    event: WebhookEvent,
    error: BaseException,
    trial: Trial,
    *,
    reason: str,
    organization: ObjectId | None = None,
    also: Iterable[OutboxSignal] = (),
) -> str:
    """No attempt after this one could help: dead at once; returns the state. Raises LeaseLost.

    `also` is told besides, as the event dies.
    """
    facts = told(error, trial) | {"reason": reason} | _owned_by(event, organization)
    return _end(event, facts | {"attempts": event.attempts + 1}, reason, also)


def ask_replay(event: WebhookEvent, *, actor: str, states: Iterable[str]) -> str | None:
    """Make a settled or waiting event due now, as a replay; returns its job id, None if it is in none of `states`.

    A failure leaves a dead, closed or succeeded event as it was. A replay that was asked for before and waits is
    the same one, due now. Raises nothing else: who asks twice gets one replay.
    """
    number = {"$add": [{"$ifNull": ["$replays", 0]}, {"$cond": [WAITS_FOR_REPLAY, 0, 1]}]}
    job_id = {"$concat": [f"replay-{event.event_id}-", {"$toString": number}]}
    asked = {"actor": {"$literal": actor}, "asked_at": "$$NOW", "job_id": job_id}
    fields = {
        "state": "failed",
        "replays": number,
        "replay": {"$cond": [WAITS_FOR_REPLAY, "$replay", asked]},
        "returns_to": {"$cond": [{"$in": ["$state", list(FINAL_STATES)]}, "$state", "$returns_to"]},
        "lease_losses": 0,
    }
    steps: list[dict] = [{"$set": fields}, {"$unset": list(WAITING_FIELDS)}]
    allowed = {"event_id": event.event_id, "state": {"$in": list(states)}}
    found = collection().find_one_and_update(allowed, steps, {"replay": 1}, return_document=ReturnDocument.AFTER)
    return found["replay"]["job_id"] if found else None


def close(event_id: str, *, by: str, note: str | None) -> bool:
    """Hide a dead letter for good; False if it is not dead. Its id is recognised when it is delivered again."""
    closed = {"by": {"$literal": by}, "at": "$$NOW", "note": {"$literal": note}}
    fields = {"state": "closed", "closed": closed, "expires_at": later(KEPT)}
    return collection().update_one({"event_id": event_id, "state": "dead"}, [{"$set": fields}]).matched_count == 1


def wake_unknown(*, learned: ObjectId | None = None, reason: str = UNKNOWN_OWNER, **whose: Any) -> int:
    """Make events due again that waited for, or died of, what was unknown (an organization); returns how many.

    `whose` are fields of the event: organization, stripe_customer_id or stripe_subscription_id. `learned` is the
    organization that they are known to be of by now.
    """
    waiting = whose | {"reason": reason, "state": {"$in": ["failed", "dead"]}}
    # A replay that waits goes on as the replay it is, only now.
    fields = {
        "state": "failed",
        "attempts": {"$cond": [WAITS_FOR_REPLAY, "$attempts", 0]},
        "returns_to": {"$cond": [WAITS_FOR_REPLAY, "$returns_to", "$$REMOVE"]},
    } | ({"organization": learned, "learned": learned} if learned else {})
    steps: list[dict] = [{"$set": fields}, {"$unset": ["next_attempt_at", "dead_at"]}]
    return collection().update_many(waiting, steps).modified_count


def _owned_by(event: WebhookEvent, organization: ObjectId | None = None) -> dict[str, Any]:
    # What the handler has learnt stands in the event, also when the handler failed afterwards.
    owner = organization or event.organization
    return {"organization": owner} if owner else {}


def _end(event: WebhookEvent, fields: dict[str, Any], reason: str, also: Iterable[OutboxSignal] = ()) -> str:
    # A forced replay of a good event that fails leaves it as it was, with one more line.
    state = event.returns_to or "dead"
    if state != "dead":
        fields = {"state": state, "history": fields["history"], "attempts": fields["attempts"]}
    else:
        # What was closed once and replayed is not closed any more; nothing removes a dead letter.
        fields = fields | {"state": "dead", "dead_at": "$$NOW", "dead_version": {"$literal": CODE_VERSION}}
        fields |= {"closed": "$$REMOVE", "expires_at": "$$REMOVE"}
    cleared = ("returns_to", "replay", *WAITING_FIELDS)
    if event.returns_to:  # whoever replays it is told
        _move(event, fields, cleared)
        return state

    def die() -> None:
        _move(event, fields, cleared)
        outbox.put([_obituary(event, reason), *also])

    in_transaction(die)
    return state


def _obituary(event: WebhookEvent, reason: str) -> OutboxSignal:
    """What people are told of a dead letter: once an hour for all of a type that die of the same reason."""
    now = event.lease_until - LEASE
    key = f"webhook_dead:{event.type}:{reason}:{now:%Y%m%dT%H}"
    facts = {"event_id": event.event_id, "type": event.type, "reason": reason}
    return outbox.signal("webhook_dead", key, now=now, organization=event.organization, facts=facts)


def _move(event: WebhookEvent, fields: dict[str, Any], cleared: Iterable[str]) -> None:
    steps: list[dict] = [{"$set": fields}, {"$unset": [*LEASE_FIELDS, *cleared]}]
    if collection().update_one(_held(event), steps).matched_count == 0:
        raise LeaseLost(f"{event.event_id} is held by another process now")


def _held(event: WebhookEvent) -> dict[str, Any]:
    return {"_id": event.pk, "state": "processing", "lease_owner": event.lease_owner, "attempts": event.attempts}
