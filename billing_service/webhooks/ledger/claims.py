"""Leases: who works on which event, for how long, and what becomes of one whose holder disappeared."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from bson import ObjectId

from ... import outbox
from ...documents import WebhookEvent, database_now
from ...documents.webhook_event import PENDING_STATES
from .. import pauses
from .lines import CODE_VERSION, LEASE, LEASE_FIELDS, Trial, collection, later, line, with_line

LEASE_LOSSES = 10


def claim(limit: int) -> list[WebhookEvent]:
    """Lease up to `limit` due events, the oldest `created` first, but for those whose dispatch is paused."""
    for _ in range(3):
        due = _due()
        if due is None:
            return []
        found = list(collection().find(due, {"lease_losses": 1}).sort("created", 1).limit(limit))
        if not found:
            return []
        owner, ids = _new_owner(), _companions(found)
        collection().update_many(due | {"_id": {"$in": ids}}, [{"$set": _lease(owner)}])
        won = list(WebhookEvent.objects(id__in=ids, lease_owner=owner).order_by("created", "id"))
        if won:
            return won
    # Others were faster each time, so they have the work.
    return []


def _due() -> dict[str, Any] | None:
    """What may be claimed now; None while all of dispatch is paused."""
    paused = pauses.current()
    if paused.everything:
        return None
    due: dict[str, Any] = {"state": {"$in": list(PENDING_STATES)}, "next_attempt_at": {"$not": {"$gt": database_now()}}}
    return due | ({"type": {"$nin": sorted(paused.types)}} if paused.types else {})


def claim_replay(event_id: str) -> WebhookEvent | None:
    """Lease one event whose replay was asked for, paused or not; None if that is under way or done."""
    owner = _new_owner()
    asked = {"event_id": event_id, "state": {"$in": list(PENDING_STATES)}, "replay": {"$exists": True}}
    collection().update_one(asked, [{"$set": _lease(owner)}])
    return WebhookEvent.objects(event_id=event_id, lease_owner=owner).first()


def renew(events: Iterable[WebhookEvent]) -> int:
    """Extend the leases that are still held; returns how many are."""
    held = list(events)
    if not held:
        return 0
    own = {"_id": {"$in": [event.pk for event in held]}, "lease_owner": held[0].lease_owner, "state": "processing"}
    return collection().update_many(own, [{"$set": {"lease_until": later(LEASE)}}]).matched_count


def release(events: Iterable[WebhookEvent]) -> int:
    """Give back what was claimed and not begun, as if it had never been claimed."""
    held = list(events)
    if not held:
        return 0
    own = {"_id": {"$in": [event.pk for event in held]}, "lease_owner": held[0].lease_owner, "state": "processing"}
    return (
        collection()
        .update_many(own, [{"$set": {"state": _STATE_BEFORE}}, {"$unset": list(LEASE_FIELDS)}])
        .matched_count
    )


def return_expired() -> int:
    """Make events whose holder disappeared due again; the tenth disappearance makes one dead."""
    now = database_now()
    gone = {"state": "processing", "lease_until": {"$lte": now}}
    losses = {"$ifNull": ["$lease_losses", 0]}
    too_many = {"$gte": [losses, LEASE_LOSSES - 1]}
    end = {"$ifNull": ["$returns_to", "dead"]}
    dies = {"$and": [too_many, {"$eq": [end, "dead"]}]}
    gone_line = line(Trial(), error_class="LeaseExpired", error_message="The process that held the event disappeared.")
    fields = {
        "lease_losses": {"$add": [losses, 1]},
        "state": {"$cond": [too_many, end, "failed"]},
        "reason": {"$cond": [dies, "lease_losses", "$reason"]},
        "dead_at": {"$cond": [dies, "$$NOW", "$dead_at"]},
        "dead_version": {"$cond": [dies, {"$literal": CODE_VERSION}, "$dead_version"]},
        "closed": {"$cond": [dies, "$$REMOVE", "$closed"]},
        "expires_at": {"$cond": [dies, "$$REMOVE", "$expires_at"]},
        "fingerprint": {"$cond": [dies, "LeaseExpired", "$fingerprint"]},
        # At once for the first: a deploy is the usual cause. Then slower: it may be the event that kills.
        "next_attempt_at": {"$cond": [too_many, "$$REMOVE", {"$add": ["$$NOW", {"$multiply": [losses, 10_000]}]}]},
        "history": with_line(gone_line | {"job_id": "$replay.job_id"}),
        "replay": {"$cond": [too_many, "$$REMOVE", "$replay"]},
    }
    returned = collection().update_many(gone, [{"$set": fields}, {"$unset": list(LEASE_FIELDS)}]).modified_count
    if returned:
        _tell_of_deaths(now)
    return returned


def _tell_of_deaths(since: datetime) -> None:
    """Tell people, once an hour, of events that died because ten processes disappeared with them."""
    dead = WebhookEvent.objects(state="dead", reason="lease_losses", dead_at__gte=since).first()
    if dead:
        facts = {"event_id": dead.event_id, "type": dead.type, "reason": dead.reason}
        key = f"webhook_dead:lease_losses:{since:%Y%m%dT%H}"
        outbox.put([outbox.signal("webhook_dead", key, now=since, organization=dead.organization, facts=facts)])


def seconds_to_next() -> float | None:
    """How long until the next waiting event is due, by the database's clock; None if none waits.

    What is due already, and what is paused, is not waited for: nobody is to be woken for it over and over.
    """
    paused, now = pauses.current(), database_now()
    if paused.everything:
        return None
    waiting = WebhookEvent.objects(state="failed", next_attempt_at__gt=now, type__nin=sorted(paused.types))
    event = waiting.order_by("next_attempt_at").only("next_attempt_at").first()
    return None if event is None else (event.next_attempt_at - now).total_seconds()


def has_due() -> bool:
    """Whether an event is due, not leased and not paused."""
    due = _due()
    return due is not None and collection().find_one(due, {"_id": 1}) is not None


def oldest_due() -> WebhookEvent | None:
    """The event that would be claimed next, without its payload; None if none is due."""
    due = _due()
    names = ("event_id", "type", "received_at", "next_attempt_at", "replay")
    return None if due is None else WebhookEvent.objects(__raw__=due).order_by("created").only(*names).first()


def count_due() -> int:
    """How many events are due, not leased and not paused; counted up to a thousand."""
    due = _due()
    return 0 if due is None else collection().count_documents(due, limit=1000)


_STATE_BEFORE = {
    "$cond": [
        {"$or": [{"$gt": ["$attempts", 0]}, {"$gt": ["$deferrals", 0]}, {"$gt": ["$lease_losses", 0]}]},
        "failed",
        "received",
    ]
}


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
    return {"state": "processing", "lease_owner": owner, "lease_until": later(LEASE)}
