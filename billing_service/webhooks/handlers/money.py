"""Events of refunds and disputes: people are told, and the ledger of extras is moved where extras were paid for."""

from typing import Any

from bson import ObjectId

from ... import outbox, refunds
from ...documents import OutboxSignal, WebhookEvent
from ...extras import Payment
from ...stripe_gateway import LiveCharge, LiveCheckoutSession
from ...stripe_gateway.shapes import charge as read_charge
from ...stripe_gateway.shapes import id_of
from ..extras import TopUpMissing, payment_shown, sold_extras
from ..ownership import known_owner, owner_of_named
from .registry import NOT_OURS, Desk, Errand, handles


@handles("charge.refunded", "refund.created", "refund.updated", "refund.failed")
def follow_refund(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Settle the refund requests that it tells of; debit refunded extras. Others' refunds move nothing here."""
    charge = _charge(subject, desk)
    payment = _payment(charge, subject, desk)
    owner, told = refunds.told_by(subject, desk.stripe)
    if payment:
        return Errand(payment.organization, refunds=told, payment=payment)
    if told:
        return Errand(owner, refunds=told)
    return Errand(known_owner(None, charge.customer) if charge else None)


@handles("charge.dispute.created", "charge.dispute.closed")
def tell_of_dispute(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Tell people of a dispute that was opened or lost; one that was won is told of when the money is back."""
    opened = event.type == "charge.dispute.created"
    name = "dispute_opened" if opened else "dispute_lost" if subject.get("status") == "lost" else None
    owner = _owner(_charge(subject, desk), desk)
    return _told(name, owner, subject, desk) if name else Errand(owner)


@handles("charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated")
def follow_disputed_money(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Debit disputed extras once; money that came back is told of: an admin credits the extras."""
    charge = _charge(subject, desk)
    if event.type == "charge.dispute.funds_reinstated":
        return _told("dispute_reinstated", _owner(charge, desk), subject, desk)
    payment = _payment(charge, subject, desk)
    if payment:
        return Errand(payment.organization, payment=payment)
    return Errand(_owner(charge, desk))


def _payment(charge: LiveCharge | None, subject: dict[str, Any], desk: Desk) -> Payment | None:
    """What of the charge's money went back, if it paid for extras. Raises TopUpMissing if they are not credited yet."""
    payment = payment_shown(charge, subject, desk.stripe) if charge else None
    if payment or charge is None or not sold_extras(charge.payment_intent, charge.metadata, desk.stripe):
        return payment
    raise TopUpMissing(
        f"{charge.id} paid for prepaid extras whose top-up is not booked yet. Nothing was booked; this is tried again "
        "as soon as the Checkout Session of the payment is credited.",
        charge.payment_intent,
        _owner(charge, desk),
    )


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


def _charge(subject: dict[str, Any], desk: Desk) -> LiveCharge | None:
    """The charge that an event is about, read at Stripe unless the event has it whole. Raises StripeMissing.

    A refund without one is of money that never was a charge (a customer's balance).
    """
    if subject.get("object") == "charge":
        return read_charge(subject)
    charge_id = id_of(subject.get("charge"))
    return desk.stripe.charge(charge_id).value if charge_id else None


def _owner(charge: LiveCharge | None, desk: Desk) -> ObjectId | None:
    """The organization that paid the charge: its customer's, that which the charge names, else the session's."""
    if charge is None:
        return None
    asked: dict[str, Any] = {"stripe": desk.stripe, "plans": desk.plans}
    owner = owner_of_named(None, charge.customer, says=(charge.id, charge.metadata), **asked)
    if owner:
        return owner
    session = sold_extras(charge.payment_intent, charge.metadata, desk.stripe)
    if not isinstance(session, LiveCheckoutSession):
        return None
    return owner_of_named(None, charge.customer, says=(session.id, session.metadata), **asked)
