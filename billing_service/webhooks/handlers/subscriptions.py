"""Events of subscriptions and of their invoices: the row is brought to what Stripe shows now."""

from datetime import UTC, datetime
from typing import Any

from ...documents import WebhookEvent
from ...stripe_gateway.shapes import subscription as read_subscription
from ..ownership import owner_of, owner_of_named
from ..references import references
from .registry import NOT_OURS, Desk, Errand, handles


@handles(
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
)
def follow_subscription(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Look at the owner's subscriptions, whatever the event itself says."""
    sent = read_subscription(subject)
    owner = owner_of(sent, stripe=desk.stripe, plans=desk.plans, learned=event.learned)
    return Errand(owner, look=owner is not None, subscriptions=(sent.id,), customers=(sent.customer,))


@handles("invoice.payment_failed", "invoice.payment_succeeded", "invoice.paid")
def follow_invoice(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Look at the subscription that was billed; an invoice of none is not ours to judge."""
    named = references(event.event)
    if named.subscription_id is None:
        return NOT_OURS
    owner = owner_of_named(
        named.subscription_id,
        named.customer_id,
        stripe=desk.stripe,
        plans=desk.plans,
        learned=event.learned,
    )
    failed = event.type == "invoice.payment_failed"
    return Errand(
        owner,
        look=owner is not None,
        subscriptions=(named.subscription_id,),
        customers=(named.customer_id,) if named.customer_id else (),
        failed_at=datetime.fromtimestamp(event.event["created"], UTC) if failed else None,
    )
