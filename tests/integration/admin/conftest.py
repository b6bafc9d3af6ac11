"""Events as the ledger has them, in any state, batches of replays, and disputed payments."""

import itertools
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

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


PACK, PAID = 100_000, 4_900


@dataclass
class Disputed:
    """An organization that bought a pack and disputes it; `balance` is what is stored now."""

    org_id: ObjectId
    charge: Any
    dispute: str

    @property
    def balance(self) -> int:
        from billing_service import extras

        return extras.balance_of(self.org_id)

    @property
    def credits(self) -> list[Any]:
        from billing_service.documents import LedgerEntry

        return list(LedgerEntry.objects(organization=self.org_id, kind="adjustment"))


@pytest.fixture
def took(runtime: Any) -> Any:
    """Books the debit of a dispute."""
    from billing_service import extras

    def make(org_id: ObjectId, charge: Any, dispute: str, units: int = PACK, amount: int = PAID, **fields: Any) -> Any:
        facts = {"organization": org_id, "kind": "debit", "units": -units, "ref": f"dispute:{dispute}"}
        facts |= {"charge": charge.id, "payment_intent": charge.payment_intent, "at": runtime.clock()}
        return extras.book(facts | {"amount": amount, "currency": "usd"} | fields).entry

    return make


@pytest.fixture
def disputed(billed: Any, stripe: Any, sandbox: Any, took: Any, runtime: Any) -> Any:
    """Makes an organization whose pack was disputed; the money is back unless `outcome` says otherwise."""
    from billing_service import extras

    def make(outcome: str | None = "won", *, booked: bool = True, **fields: Any) -> Disputed:
        it = billed("pro")
        charge = stripe.charges.list({"customer": it.customer}).data[0]
        units = fields.get("units", PACK)
        pack = {"organization": it.org_id, "kind": "topup", "units": units, "ref": f"topup:cs_{charge.id}"}
        pack |= {"payment_intent": charge.payment_intent, "charge": charge.id, "at": runtime.clock()}
        lot = extras.book(pack | {"expires_at": runtime.clock() + timedelta(days=365)}).entry
        dispute = sandbox.dispute(charge.id)["id"]
        if booked:
            took(it.org_id, charge, dispute, **{"lot": lot.pk} | fields)
        if outcome:
            sandbox.close_dispute(dispute, outcome)
        return Disputed(it.org_id, charge, dispute)

    return make


@pytest.fixture
def lost(stripe: Any, billed: Any) -> Any:
    """Makes organizations whose row was lost, each with the dead letter that would repair it, the oldest first."""
    from billing_service.documents import Subscription, WebhookEvent, database_now

    def make(count: int, **fields: Any) -> list[tuple[Any, str]]:
        made = []
        for _ in range(count):
            it = billed(stored=False)
            live = stripe.events.list({"type": "customer.subscription.created", "limit": 1}).data[0]
            now = database_now()
            stored = {
                "event_id": live.id,
                "type": live.type,
                "livemode": False,
                "created": now,
                "received_at": now,
                "dead_at": now,
                "source": "delivery",
                "payload": json.dumps(live.to_dict(), default=str),
                "state": "dead",
                "reason": "handler_failed",
                "fingerprint": "ValueError: no plan for #",
                "attempts": 5,
                "stripe_subscription_id": it.subscription,
                "stripe_customer_id": it.customer,
                "organization": it.org_id,
            }
            WebhookEvent(**stored | fields).save()
            Subscription.objects(organization=it.org_id).update_one(set__plan="free")
            made.append((it, live.id))
        return made

    return make


@pytest.fixture
def batch(app: Any) -> Any:
    """A batch of twelve that stopped at its fourth."""
    from billing_service.documents import ReplayBatch, ReplayItem, database_now

    now = database_now()
    made = ReplayBatch(
        filter={"type": "invoice.paid", "org_id": ObjectId("7" * 24), "received_from": now},
        selection="x",
        selected_at=now,
        total=12,
        state="stopped",
        stop_reason="failures_in_row",
        stop_after=2,
        succeeded=2,
        failed=2,
        failures_in_row=2,
        position=3,
        actor="ada@example.com",
        note="again",
        attempt=1,
        created_at=now,
        started_at=now,
        ended_at=now,
    ).save()
    for position in range(12):
        state = "succeeded" if position < 2 else "failed" if position < 4 else "pending"
        told = {"error_class": "ValueError", "error_message": "not jenny@example.com"} if state == "failed" else {}
        fields = {"event_id": f"evt_B{position}", "type": "invoice.paid", "created": now, "state": state}
        ReplayItem(batch=made.pk, position=position, **fields, **told).save()
    return made
