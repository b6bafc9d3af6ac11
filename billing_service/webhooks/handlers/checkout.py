"""Events of Checkout Sessions: a subscription that was bought is attached to its organization."""

from typing import Any

from ...documents import WebhookEvent
from ...stripe_gateway.shapes import checkout_session
from ..extras import PAID, is_extras, park_extras
from ..ownership import owner_of_named
from .registry import NOT_OURS, Desk, Errand, handles


@handles(
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
)
def follow_checkout(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Attach the subscription that was bought; extras that are paid for are credited."""
    session = checkout_session(subject)
    if session.mode == "payment" and is_extras(session.metadata) and session.payment_status in PAID:
        park_extras(session.id, "credited")
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
