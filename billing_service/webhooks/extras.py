"""Whether money was for prepaid extras, what an event says of them, and why nothing can be booked yet, or at all."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from bson import ObjectId

from .. import extras, outbox
from ..documents import OutboxSignal
from ..stripe_gateway import LiveCharge, LiveCheckoutSession, LiveDispute, LiveRefund, StripeGateway
from ..stripe_gateway.shapes import dispute as read_dispute
from ..stripe_gateway.shapes import refund as read_refund

EXTRAS = "extras"
PAID = ("paid", "no_payment_required")
FAILED = ("failed", "canceled")
TOPUP_MISSING = "topup_missing"


class ExtrasRefused(Exception):
    """No attempt after this one could say what is to be booked; nothing was. `told` is what people get to know."""

    def __init__(self, reason: str, words: str, facts: Mapping[str, Any]):
        super().__init__(words)
        self.reason = reason
        self.facts = dict(facts)

    def told(self, about: str, organization: ObjectId | None, now: datetime) -> OutboxSignal:
        """The signal for people, once for what the event is about."""
        key = f"extras_refused:{self.reason}:{about}"
        facts = {"reason": self.reason, "explanation": str(self)} | self.facts
        return outbox.signal("extras_refused", key, now=now, organization=organization, facts=facts)


class TopUpMissing(Exception):
    """Money of extras went back whose top-up is not booked; it may come later."""

    def __init__(self, words: str, payment_intent: str | None, organization: ObjectId | None):
        super().__init__(words)
        self.payment_intent = payment_intent
        self.organization = organization


def is_extras(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata of a session, a payment or a charge say that it is about prepaid extras."""
    return metadata.get("kind") == EXTRAS


def sold_extras(
    payment_intent: str | None, metadata: Mapping[str, str], stripe: StripeGateway
) -> LiveCheckoutSession | bool | None:
    """What tells that a charge paid for extras: the session, or True if only the charge's metadata say so.

    Falsy if nothing does. Whether the session is shown as paid does not matter: the charge is.
    """
    sessions = stripe.checkout_sessions_of(payment_intent).value if payment_intent else ()
    return next((each for each in sessions if is_extras(each.metadata)), None) or is_extras(metadata)


def payment_shown(charge: LiveCharge, subject: dict[str, Any], stripe: StripeGateway) -> extras.Payment | None:
    """The refunds and disputes of a charge that topped up extras, as Stripe lists them and the event's object says.

    None if no top-up is booked of it. Raises ExtrasRefused and what the gateway raises.
    """
    lot = extras.find_top_up(charge.payment_intent)
    if lot is None or charge.payment_intent is None:
        return None
    refunds = {each.id: _seen(each, charge) for each in stripe.refunds_of(charge.id).value}
    kind = subject.get("object")
    if kind == "refund":
        # The list may be older than the event, or the event than the list: what failed once has failed.
        told = _seen(read_refund(subject), charge)
        listed = refunds.get(told.id, told)
        refunds[told.id] = replace(listed, failed=listed.failed or told.failed)
    disputes: dict[str, LiveDispute] = {}
    if charge.disputed or kind == "dispute":
        disputes = {each.id: each for each in stripe.disputes_of(charge.id).value if each.withdrawn}
    if kind == "dispute":
        disputes[subject["id"]] = read_dispute(subject)
    return extras.Payment(
        lot.organization,
        charge.payment_intent,
        charge.id,
        charge.amount_paid,
        charge.currency,
        tuple(refunds.values()),
        tuple(_withdrawn(each, charge) for each in disputes.values()),
    )


def _seen(refund: LiveRefund, charge: LiveCharge) -> extras.Refund:
    _refuse_other_currency(refund.id, refund.currency, charge)
    return extras.Refund(refund.id, refund.amount, refund.created, refund.status in FAILED)


def _withdrawn(dispute: LiveDispute, charge: LiveCharge) -> extras.Dispute:
    _refuse_other_currency(dispute.id, dispute.currency, charge)
    return extras.Dispute(dispute.id, dispute.amount, dispute.created)


def _refuse_other_currency(what: str, currency: str, charge: LiveCharge) -> None:
    if currency != charge.currency:
        raise ExtrasRefused(
            "currency_mismatch",
            f"{what} is in {currency}, its charge {charge.id} in {charge.currency}: what part of the units that is "
            "cannot be said. Nothing was booked.",
            {"charge_id": charge.id, "stripe_id": what},
        )
