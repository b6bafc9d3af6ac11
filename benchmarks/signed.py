"""Events as Stripe signs them."""

import hashlib
import hmac
import json
import time


def event(event_id: str, subscription_id: str = "sub_bench", customer_id: str = "cus_bench") -> bytes:
    """A customer.subscription.updated event of a foreign subscription, about 4 KB."""
    subject = {
        "id": subscription_id,
        "object": "subscription",
        "customer": customer_id,
        "status": "active",
        "created": 1_700_000_000,
        "items": {"data": []},
        "metadata": {f"key_{number}": "x" * 60 for number in range(45)},
    }
    return json.dumps(
        {
            "id": event_id,
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": int(time.time()),
            "livemode": False,
            "type": "customer.subscription.updated",
            "data": {"object": subject},
        }
    ).encode()


def header(body: bytes, secret: str) -> str:
    """The Stripe-Signature header of the body."""
    stamp = int(time.time())
    mac = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={mac}"
