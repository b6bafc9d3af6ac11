"""Looking into the ledger: lists of events and dead letters, one event, closing a dead letter.

Endpoints and command line both ask here. Nothing here moves an event but `close`, which leaves that to the ledger.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from mongoengine import QuerySet

from ..documents import EPOCH, Attempt, WebhookEvent, in_transaction
from ..errors import EventNotFound, NotDead
from ..operations import Outcome
from . import groups, ledger, masking

# Stripe answers for an event that long after it was created.
AT_STRIPE = timedelta(days=30)
UNREADABLE = "[unreadable]"

_EVENT_FIELDS = {
    "state": "state",
    "type": "type",
    "org_id": "organization",
    "source": "source",
    "since": "received_at__gte",
    "until": "received_at__lt",
}
_DEAD_FIELDS = {
    "type": "type",
    "fingerprint": "fingerprint",
    "org_id": "organization",
    "reason": "reason",
    "since": "dead_at__gte",
    "until": "dead_at__lt",
}


def find_events(asked: dict[str, Any]) -> QuerySet:
    """Events without their payloads by what is `asked`: state, type, org_id, source, since and until (received_at)."""
    # The bound makes the index of the order count, too, when nothing else is asked.
    return _found({"received_at__gte": EPOCH} | _wanted(_EVENT_FIELDS, asked))


def find_dead_letters(asked: dict[str, Any]) -> QuerySet:
    """Dead letters without their payloads by what is `asked`: type, fingerprint, org_id, reason, since and until
    (dead_at). Closed ones are not among them."""
    return _found({"state": "dead"} | _wanted(_DEAD_FIELDS, asked))


def find_groups(asked: dict[str, Any], *, order: str, limit: int) -> groups.Groups:
    """Groups of the dead letters that `find_dead_letters` finds."""
    return groups.find_groups(find_dead_letters(asked)._query, order=order, limit=limit)


def _wanted(names: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
    return {field: asked[name] for name, field in names.items() if asked.get(name) is not None}


def _found(wanted: dict[str, Any]) -> QuerySet:
    return WebhookEvent.objects(**wanted).exclude("payload")


def find_event(event_id: str, *, with_payload: bool = True) -> WebhookEvent:
    """The event as the ledger has it. Raises EventNotFound."""
    known = WebhookEvent.objects(event_id=event_id)
    event = (known if with_payload else known.exclude("payload")).first()
    if event is None:
        raise EventNotFound(f"The ledger has no event {event_id}. If Stripe has it, replay takes it in.")
    return event


def organization_of(event_id: str) -> ObjectId | None:
    """Whose event it is; None also if there is no such event."""
    event = WebhookEvent.objects(event_id=event_id).only("organization").first()
    return event.organization if event else None


def payload_of(event: WebhookEvent, *, unmasked: bool) -> Any:
    """The event as Stripe sent it, parsed; None when it was erased. Secrets are masked for everybody."""
    if event.payload is None:
        return None
    try:
        payload = json.loads(event.payload)
    except (ValueError, RecursionError):
        return UNREADABLE
    return masking.without_secrets(payload) if unmasked else masking.masked(payload)


def describe(event: WebhookEvent, *, unmasked: bool) -> dict[str, Any]:
    """All that the ledger has of an event, with its payload as `payload_of` shows it."""
    stored = {name: event[name] for name in event._fields_ordered}
    return stored | {"payload": payload_of(event, unmasked=unmasked), "payload_masked": not unmasked}


def last_error(history: Sequence[Attempt]) -> Attempt | None:
    """The newest line of an event's history that tells of an error."""
    return next((line for line in reversed(history) if line.error_class), None)


def age_seconds(created: datetime, now: datetime) -> int:
    """Seconds since Stripe created an event: how stale it is, whenever it reached us or died."""
    return max(0, int((now - created).total_seconds()))


def is_at_stripe(created: datetime, now: datetime) -> bool:
    """Whether Stripe still answers for an event, by its age."""
    return now - created < AT_STRIPE


def foretell_close(event_id: str) -> Outcome:
    """What closing the dead letter would change. Raises EventNotFound, NotDead."""
    event = find_event(event_id, with_payload=False)
    _refuse_unless_dead(event)
    return _closing(event, changed=event.state == "dead")


def close(event_id: str, *, by: str, note: str | None, also: Callable[[Outcome], None]) -> Outcome:
    """Close a dead letter, once; `also` joins the transaction. Raises EventNotFound, NotDead."""

    def write() -> Outcome:
        changed = ledger.close(event_id, by=by, note=note)
        event = find_event(event_id, with_payload=False)
        _refuse_unless_dead(event)
        outcome = _closing(event, changed=changed)
        also(outcome)
        return outcome

    return in_transaction(write)


def _refuse_unless_dead(event: WebhookEvent) -> None:
    if event.state not in ("dead", "closed"):
        raise NotDead(
            f"Event {event.event_id} is {event.state}, so there is nothing to close. Nothing was written.",
            state=event.state,
        )


def _closing(event: WebhookEvent, *, changed: bool) -> Outcome:
    closed = event.closed.to_mongo().to_dict() if event.closed else None
    answer = {
        "purged": True,
        "event_id": event.event_id,
        "state": "closed",
        "closed": closed,
        "expires_at": event.expires_at,
        "changed": ["state", "closed", "expires_at"] if changed else [],
    }
    return Outcome(answer=answer)
