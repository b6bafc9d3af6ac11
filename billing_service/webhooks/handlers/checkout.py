"""Events of Checkout Sessions: a subscription that was bought is attached, extras that were paid for are credited."""

from datetime import UTC, datetime
from typing import Any

from ... import extras
from ...documents import WebhookEvent
from ...stripe_gateway import LiveCheckoutSession
from ...stripe_gateway.shapes import checkout_session
from ..extras import PAID, ExtrasRefused, is_extras
from ..ownership import OwnerUnknown, known_owner, owner_of_named
from .registry import NOT_OURS, Desk, Errand, handles


@handles(
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
)
def follow_checkout(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Attach the subscription that was bought; extras that are paid for are credited."""
    session = checkout_session(subject)
    if session.mode == "payment" and is_extras(session.metadata):
        return _credit(session, event, desk)
    if session.mode != "subscription" or session.subscription is None:
        return NOT_OURS
    owner = owner_of_named(
        session.subscription,
        session.customer,
        says=(session.id, session.metadata),
        stripe=desk.stripe,
        plans=desk.plans,
    )
    return Errand(
        owner,
        look=owner is not None,
        subscriptions=(session.subscription,),
        customers=(session.customer,) if session.customer else (),
        source="checkout",
    )


def _credit(session: LiveCheckoutSession, event: WebhookEvent, desk: Desk) -> Errand:
    """Credit the pack once it is paid; a delayed payment is told of again when it came, or failed."""
    if session.payment_status not in PAID:
        return Errand(known_owner(None, session.customer))
    owner = owner_of_named(
        None, session.customer, says=(session.id, session.metadata), stripe=desk.stripe, plans=desk.plans
    )
    if owner is None:
        raise OwnerUnknown(f"{session.id} paid for extras, and names no organization.")
    event.organization = owner  # for the ledger, should the pack be refused
    paid_at = datetime.fromtimestamp(event.event["created"], UTC)
    try:
        return Errand(owner, top_up=extras.read_top_up(session, owner, plans=desk.plans, paid_at=paid_at))
    except extras.PackRefused as refused:
        facts = {
            "session_id": session.id,
            "pack_id": session.metadata.get("packId"),
            "amount": session.amount_subtotal,
            "currency": session.currency,
        }
        raise ExtrasRefused(refused.reason, str(refused), facts) from refused
