"""Where Stripe delivers its webhooks: verify, store, wake, answer; the handling comes later."""

from typing import Any

from flask import Blueprint, Response, request

from ..jobs import wakeups
from ..observability import about
from ..runtime import runtime
from ..stripe_gateway import verify_webhook
from ..webhooks import receive
from .wire import whole_body

blueprint = Blueprint("stripe_webhooks", __name__)


@blueprint.post("/api/billing/webhook")
def receive_webhook() -> Any:
    """Take in a Stripe event; 200 says that it is stored for good."""
    payload = whole_body(request._get_current_object())  # type: ignore[attr-defined]
    verified = verify_webhook(
        payload,
        request.headers.get("Stripe-Signature", ""),
        runtime.settings.stripe_webhook_secrets,
        now=runtime.clock().timestamp(),
    )
    about(event_id=verified.event["id"])
    receipt = receive(verified, payload, livemode=runtime.settings.livemode, now=runtime.clock())
    if receipt.due:
        wakeups.wake()
    # Letters, digits and underscores: verify_webhook lets no other id through.
    return Response(f'{{"received":true,"eventId":"{receipt.event_id}"}}', mimetype="application/json")
