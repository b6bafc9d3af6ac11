"""Where Stripe delivers its webhooks: verify, store, wake, answer; the handling comes later."""

from typing import Any

from flask import Blueprint, jsonify, request

from ..errors import TooLarge
from ..jobs import wakeups
from ..runtime import runtime
from ..stripe_gateway import verify_webhook
from ..webhooks import receive

blueprint = Blueprint("stripe_webhooks", __name__)

LONGEST_BODY = 1024 * 1024


@blueprint.post("/api/billing/webhook")
def receive_webhook() -> Any:
    """Take in a Stripe event; 200 says that it is stored for good."""
    payload = _body()
    verified = verify_webhook(
        payload,
        request.headers.get("Stripe-Signature", ""),
        runtime.settings.stripe_webhook_secrets,
        now=runtime.clock().timestamp(),
    )
    receipt = receive(verified, payload, livemode=runtime.settings.livemode, now=runtime.clock())
    if receipt.due:
        wakeups.wake()
    return jsonify(received=True, eventId=receipt.event_id)


def _body() -> bytes:
    # Without a length (chunked) the server would read on; one byte more than allowed tells.
    request.max_content_length = LONGEST_BODY
    payload = request.get_data(cache=False)
    if len(payload) > LONGEST_BODY:
        raise TooLarge(f"A webhook has at most {LONGEST_BODY} bytes.")
    return payload
