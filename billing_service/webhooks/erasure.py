"""Erasing a customer's personal data from stored events, so that what is left is ids, states, times and amounts.

Nothing is deleted: the event's id still recognises it when it is delivered again, and what is left of its payload is
enough to handle it, once more too, by a look at Stripe.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.collection import Collection

from ..documents import AdminAction, LedgerEntry, RefundRequest, ReplayItem, Subscription, WebhookEvent
from ..operations import Outcome
from . import masking

BATCH = 100
# So many notes are counted.
MOST_NOTES = 10_000


@dataclass(frozen=True)
class Holdings:
    """What is stored of a customer: its organizations, and how many events have personal data, dead ones among them.

    `notes` are free text of admins about the organizations, which nothing here can tell to be about a person.
    """

    customer: str
    organizations: tuple[ObjectId, ...]
    events: int
    dead_letters: int
    notes: int

    def facts(self, *, erased: bool) -> dict[str, Any]:
        """The counts as plain values."""
        return {
            "customer": self.customer,
            "org_ids": list(self.organizations),
            "events": self.events,
            "dead_letters": self.dead_letters,
            "notes": self.notes,
            "erased": erased,
        }


def find_holdings(customer_id: str) -> Holdings:
    """Count what would be erased; every read is by index and holds no payload."""
    organizations = _organizations_of(customer_id)
    events = dead = 0
    for wanted, index in _filters(customer_id, organizations):
        events += _ledger().count_documents(wanted, hint=index)
        dead += _ledger().count_documents(wanted | {"state": "dead"}, hint=index)
    return Holdings(customer_id, organizations, events, dead, _count_notes(organizations))


def erase(customer_id: str, *, now: datetime, progress: Callable[[int], None] = lambda count: None) -> Holdings:
    """Mask the payloads of the customer's events; returns what was erased. Twice is once; called again it goes on."""
    organizations = _organizations_of(customer_id)
    events = dead = 0
    for wanted, index in _filters(customer_id, organizations):
        for batch in _batches(wanted, index):
            events += _mask(batch, now)
            dead += sum(each["state"] == "dead" for each in batch)
            progress(events)
    return Holdings(customer_id, organizations, events, dead, _count_notes(organizations))


def outcome(found: Holdings, *, erased: bool) -> Outcome:
    """The answer of an erasure: counts and ids, nothing of what was erased."""
    return Outcome(answer=found.facts(erased=erased))


def _organizations_of(customer_id: str) -> tuple[ObjectId, ...]:
    row = Subscription.objects(stripe_customer_id=customer_id).only("organization").first()
    found = {row.organization} if row else set()
    # Of earlier rows, too: an organization's customer may have been another one.
    steps: list[dict[str, Any]] = [
        {"$match": {"stripe_customer_id": customer_id}},
        {"$group": {"_id": "$organization"}},
    ]
    found |= {each["_id"] for each in _ledger().aggregate(steps, hint="customer_created") if each["_id"]}
    return tuple(sorted(found))


def _filters(customer_id: str, organizations: tuple[ObjectId, ...]) -> list[tuple[dict[str, Any], str]]:
    """The customer's events, and those of its organizations that name no customer, such as disputes and refunds.

    Each with its index: the planner might take that of customers for those that name none, which reads all of them.
    """
    whole: dict[str, Any] = {"erased_at": None, "payload": {"$type": "string"}}
    unnamed: list[dict[str, Any]] = [{"organization": each, "stripe_customer_id": None} for each in organizations]
    return [
        ({"stripe_customer_id": customer_id} | whole, "customer_created"),
        *((each | whole, "organization_newest") for each in unnamed),
    ]


def _batches(wanted: dict[str, Any], index: str) -> Iterator[list[dict[str, Any]]]:
    fields = {"payload": 1, "state": 1, "event_id": 1}
    batch: list[dict[str, Any]] = []
    for each in _ledger().find(wanted, fields).hint(index).batch_size(BATCH):
        batch.append(each)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _mask(batch: list[dict[str, Any]], now: datetime) -> int:
    # Items first: a run that is killed in between finds the events again, and by them the items.
    quoting = {"event_id": {"$in": [each["event_id"] for each in batch]}, "error_message": {"$gt": ""}}
    ReplayItem._get_collection().update_many(quoting, {"$set": {"error_message": masking.MASKED}})
    writes = [
        UpdateOne({"_id": each["_id"], "erased_at": None}, [{"$set": _left_of(each["payload"]) | {"erased_at": now}}])
        for each in batch
    ]
    return _ledger().bulk_write(writes, ordered=False).modified_count


# The words of an error may quote what the payload held; its class does not. What is absent stays absent.
_LINE = {
    "$cond": [
        {"$gt": ["$$line.error_message", None]},
        {"$mergeObjects": ["$$line", {"error_message": masking.MASKED}]},
        "$$line",
    ]
}
_WITHOUT_WORDS: dict[str, Any] = {
    "history": {
        "$cond": [
            {"$isArray": "$history"},
            {"$map": {"input": "$history", "as": "line", "in": _LINE}},
            "$$REMOVE",
        ]
    },
    "fingerprint": {
        "$cond": [
            {"$gt": ["$fingerprint", None]},
            {"$concat": [{"$first": {"$split": ["$fingerprint", ":"]}}, f": {masking.MASKED}"]},
            "$$REMOVE",
        ]
    },
}


def _left_of(payload: str) -> dict[str, Any]:
    try:
        left = json.dumps(masking.masked(json.loads(payload)))
    except (ValueError, RecursionError):
        # What cannot be read cannot be told to be harmless. Nobody could have handled it either.
        left = None
    return {"payload": {"$literal": left}, **_WITHOUT_WORDS}


def _count_notes(organizations: tuple[ObjectId, ...]) -> int:
    noted = {"organization__in": organizations, "note__gt": ""}
    found = (
        AdminAction.objects(**noted),
        RefundRequest.objects(**noted),
        # A top-up's memo is its pack.
        LedgerEntry.objects(organization__in=organizations, kind="adjustment", memo__gt=""),
    )
    return sum(each.limit(MOST_NOTES).count(with_limit_and_skip=True) for each in found) if organizations else 0


def _ledger() -> Collection:
    return WebhookEvent._get_collection()
