"""Events of refunds and disputes: people are told, and the ledger of extras is moved where extras were paid for."""

from typing import Any

from bson import ObjectId

from ... import outbox
from ...documents import OutboxSignal, WebhookEvent
from ...errors import StripeMissing
from ...stripe_gateway.shapes import id_of
from ..extras import park_extras, sold_extras
from ..ownership import known_owner, owner_of_named
from .registry import NOT_OURS, Desk, Errand, handles


@handles("charge.refunded", "refund.created", "refund.updated", "refund.failed")
def follow_refund(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Debit refunded extras; a refund of anything else moves nothing here."""
    if sold_extras(id_of(subject.get("payment_intent")), desk.stripe):
        park_extras(subject["id"], "debited")
    return Errand(known_owner(None, id_of(subject.get("customer"))))


@handles("charge.dispute.created", "charge.dispute.closed")
def tell_of_dispute(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Tell people of a dispute that was opened or lost; one that was won is told of when the money is back."""
    owner = _owner(subject, desk)
    names = {"charge.dispute.created": "dispute_opened"}
    name = names.get(event.type, "dispute_lost" if subject.get("status") == "lost" else None)
    return _told(name, owner, subject, desk) if name else Errand(owner)


@handles("charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated")
def follow_disputed_money(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Debit disputed extras once; money that came back is told of: an admin credits the extras."""
    withdrawn = event.type == "charge.dispute.funds_withdrawn"
    if withdrawn and sold_extras(id_of(subject.get("payment_intent")), desk.stripe):
        park_extras(subject["id"], "debited")
    owner = _owner(subject, desk)
    return Errand(owner) if withdrawn else _told("dispute_reinstated", owner, subject, desk)


def _told(name: str, owner: ObjectId | None, subject: dict[str, Any], desk: Desk) -> Errand:
    if owner is None:
        return NOT_OURS
    facts = {
        "dispute_id": subject["id"],
        "charge_id": id_of(subject.get("charge")),
        "amount": subject.get("amount"),
        "currency": subject.get("currency"),
        "reason": subject.get("reason"),
        "status": subject.get("status"),
    }
    if name == "dispute_reinstated":
        facts["next"] = f"POST /api/admin/billing/dispute/credit/{owner}"
    return Errand(owner, signals=(_signal(name, owner, subject["id"], facts, desk),))


def _signal(name: str, owner: ObjectId, dispute_id: str, facts: dict[str, Any], desk: Desk) -> OutboxSignal:
    # One for each dispute, whichever and however many of its events arrive.
    return outbox.signal(name, f"{name}:{dispute_id}", now=desk.clock(), organization=owner, facts=facts)


def _owner(subject: dict[str, Any], desk: Desk) -> ObjectId | None:
    """The organization whose customer paid the disputed charge; a dispute itself names no customer."""
    charge_id = id_of(subject.get("charge"))
    try:
        customer = desk.stripe.charge(charge_id).value.customer if charge_id else None
    except StripeMissing:
        customer = None
    session = None if customer else sold_extras(id_of(subject.get("payment_intent")), desk.stripe)
    if session:
        return owner_of_named(
            None, session.customer, says=(session.id, session.metadata), stripe=desk.stripe, plans=desk.plans
        )
    return owner_of_named(None, customer, stripe=desk.stripe, plans=desk.plans) if customer else None
