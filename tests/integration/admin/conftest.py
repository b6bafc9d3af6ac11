"""Events as the ledger has them, in any state."""

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest

_numbers = itertools.count(1)

SUBJECT = {
    "object": "subscription",
    "id": "sub_E1",
    "customer": "cus_E1",
    "status": "active",
    "description": "for Jenny Rosen",
    "metadata": {"organizationId": "5" * 24, "contact": "jenny@example.com"},
}


@pytest.fixture
def recorded(runtime: Any) -> Any:
    """Puts an event into the ledger; each is a second younger than the one before, as received and as created."""
    from billing_service.documents import WebhookEvent

    begun = runtime.clock() - timedelta(hours=1)

    def put(**fields: Any) -> WebhookEvent:
        number = next(_numbers)
        at = begun + timedelta(seconds=number)
        kind = fields.get("type", "customer.subscription.updated")
        event_id = fields.get("event_id", f"evt_E{number:06d}")
        payload = {"id": event_id, "object": "event", "type": kind, "data": {"object": SUBJECT}}
        stored = {
            "event_id": event_id,
            "type": kind,
            "created": at,
            "received_at": at,
            "payload": json.dumps(payload),
            "source": "delivery",
            "state": "received",
        }
        return WebhookEvent(**stored | fields).save(force_insert=True)

    return put


@pytest.fixture
def dead(recorded: Any, runtime: Any) -> Any:
    """Puts a dead letter into the ledger."""
    from billing_service.documents import Attempt

    def put(**fields: Any) -> Any:
        number = next(_numbers)
        line = Attempt(
            at=runtime.clock(),
            source="webhook",
            actor="worker",
            code_version="0.1.0",
            milliseconds=12,
            error_class="ValueError",
            error_message="no plan for jenny@example.com",
        )
        told = {
            "state": "dead",
            "reason": "handler_failed",
            "attempts": 5,
            "dead_at": runtime.clock() - timedelta(minutes=30) + timedelta(seconds=number),
            "fingerprint": "ValueError: no plan for #",
            "history": [line],
        }
        return recorded(**told | fields)

    return put
