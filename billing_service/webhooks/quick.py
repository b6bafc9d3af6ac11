"""What needs no request: events that are certainly newer than their row, from their payload, and those that are
certainly older. Whoever is in doubt is left to a look at Stripe.

A slice is read, decided and written in a number of round trips that does not grow with it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from mongoengine.errors import OperationError
from pymongo.errors import PyMongoError

from ..documents import Subscription, WebhookEvent, driver_error, in_transaction
from ..documents.webhook_event import UNSETTLED_STATES
from ..observability import log
from ..stripe_gateway import API_VERSION, LiveSubscription
from ..stripe_gateway.shapes import subscription as read_subscription
from ..subscriptions import Change, LostRace, commit_all, payload
from . import ledger
from .failures import is_outage
from .handlers import Desk

TYPES = frozenset(f"customer.subscription.{word}" for word in ("created", "updated", "deleted"))
# Before it, prices were plans; a version newer than the SDK's may have a shape that nobody here knows.
OLDEST_VERSION = date(2020, 3, 2)
NEWEST_VERSION = date.fromisoformat(API_VERSION[:10])
_VERSION = re.compile(r"(\d{4}-\d{2}-\d{2})(\.[a-z]+)?")

Settled = list[tuple[WebhookEvent, str]]


@dataclass(frozen=True)
class Decision:
    """The end of an event, and what it makes of the row: nothing, if it is superseded."""

    event: WebhookEvent
    outcome: str
    change: Change | None = None


@dataclass(frozen=True)
class Told:
    """An event whose payload may be the row's next state, if nothing else is known of its subscription."""

    event: WebhookEvent
    row: Subscription
    sent: LiveSubscription


@dataclass
class Known:
    """What the ledger and the rows know besides: of each subscription, and customers with several organizations."""

    waiting: Counter = field(default_factory=Counter)
    created: dict[str, list[datetime]] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)

    def leaves_alone(self, told: Told) -> bool:
        """Whether no other event of the subscription waits or is as new, and its customer is one organization's."""
        subscription = told.sent.id
        as_new = [each for each in self.created.get(subscription, []) if each >= told.event.created]
        return self.waiting[subscription] == 1 and len(as_new) == 1 and told.sent.customer not in self.shared


def settle_quickly(events: Sequence[WebhookEvent], desk: Desk) -> Settled:
    """Settle what needs no look at Stripe; returns those events with their outcome. Raises STORE_ERRORS.

    What cannot be read, decided or written here is nobody's failure: it is left as it is.
    """
    trial = ledger.Trial(source="webhook")
    named = [each for each in events if each.type in TYPES and each.stripe_subscription_id and not _needs_a_look(each)]
    if not named:
        return []
    ids = {event.stripe_subscription_id for event in named}
    rows = {row.stripe_subscription_id: row for row in Subscription.objects(stripe_subscription_id__in=ids)}
    decisions, told = [], []
    for event in named:
        row = rows.get(event.stripe_subscription_id)
        if row is None:
            continue
        if payload.is_superseded(row, event.stripe_subscription_id, event.created):
            event.organization = row.organization
            decisions.append(Decision(event, "superseded"))
        elif sent := _certain(event, row):
            told.append(Told(event, row, sent))
    decisions += _decide(told, desk)
    return _commit(decisions, desk, trial)


def _needs_a_look(event: WebhookEvent) -> bool:
    return bool(event.replay or event.erased_at)


def _certain(event: WebhookEvent, row: Subscription) -> LiveSubscription | None:
    """The payload's subscription, if it may be the row's next state."""
    if not (is_readable(event.api_version) and payload.arrived_fresh(event.created, event.received_at)):
        return None
    try:
        raw = event.event["data"]["object"]
        sent = read_subscription(raw)
        whole = not raw["items"].get("has_more")
    except Exception:  # whatever it is: the event's own handler meets it, and is charged for it
        return None
    return sent if whole and payload.is_certain(row, sent, event.created) else None


def is_readable(version: str | None) -> bool:
    """Whether subscriptions of this API version are read as they are meant."""
    born = _born(version)
    return born is not None and OLDEST_VERSION <= born <= NEWEST_VERSION


def _born(version: str | None) -> date | None:
    """The date in the name of an API version."""
    found = _VERSION.fullmatch(version or "")
    try:
        return date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


def _decide(told: Sequence[Told], desk: Desk) -> list[Decision]:
    if not told:
        return []
    known, now = _look_around(told), desk.clock()
    decisions = []
    for each in told:
        if not known.leaves_alone(each):
            continue
        change = payload.decide_from_payload(each.row, each.sent, each.event.created, plans=desk.plans, now=now)
        if change:
            each.event.organization = each.row.organization
            decisions.append(Decision(each.event, "applied", change))
    return decisions


def _look_around(told: Sequence[Told]) -> Known:
    """Past MongoEngine: only ids and times are read, of every event in the slice."""
    known = Known()
    ids = [each.sent.id for each in told]
    events, rows = WebhookEvent._get_collection(), Subscription._get_collection()
    of_them: dict[str, Any] = {"stripe_subscription_id": {"$in": ids}}
    fields = {"stripe_subscription_id": 1, "created": 1}
    waiting = events.find(of_them | {"state": {"$in": list(UNSETTLED_STATES)}}, fields)
    known.waiting.update(each["stripe_subscription_id"] for each in waiting)
    since = min(each.event.created for each in told)
    for each in events.find(of_them | {"created": {"$gte": since}}, fields):
        known.created.setdefault(each["stripe_subscription_id"], []).append(each["created"])
    customers = {each.sent.customer for each in told}
    beside = rows.find({"candidates.stripe_customer_id": {"$in": list(customers)}}, {"candidates": 1})
    known.shared = {candidate.get("stripe_customer_id") for row in beside for candidate in row["candidates"]}
    return known


def _commit(decisions: Sequence[Decision], desk: Desk, trial: ledger.Trial) -> Settled:
    """Write all of it in one transaction; if that fails each alone, and what fails alone is left."""
    if not decisions:
        return []
    try:
        _write(decisions, desk, trial)
        return [(each.event, each.outcome) for each in decisions]
    except (LostRace, ledger.LeaseLost, OperationError, PyMongoError) as error:
        if not isinstance(error, LostRace | ledger.LeaseLost) and is_outage(error):
            raise driver_error(error) or error from error
        if len(decisions) == 1:
            log.info("quick_end_refused", event_id=decisions[0].event.event_id, error=type(error).__name__)
            return []
    return [end for each in decisions for end in _commit([each], desk, trial)]


def _write(decisions: Sequence[Decision], desk: Desk, trial: ledger.Trial) -> None:
    settlements = [ledger.Settlement(each.event, each.outcome, trial) for each in decisions]
    changes = [each.change for each in decisions if each.change]

    def settle() -> None:
        ledger.settle_all(settlements)

    if changes:
        commit_all(changes, now=desk.clock(), also=settle)
    else:
        in_transaction(settle)
