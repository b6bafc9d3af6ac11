"""The books of one account: reading objects, writing them, and the event that each write leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from .problems import missing
from .shapes import event_shape, plan_of

# What Stripe's "No such ..." calls the kinds whose name is not their own.
NOUNS = {"webhook_endpoint": "webhook endpoint", "subscription_schedule": "subscription schedule"}
PARENT = {
    "invoice_payment": "invoice",
    "price": "product",
    "charge": "payment_intent",
    "checkout.session": "payment_intent",
    "refund": "charge",
    "dispute": "charge",
    "subscription_schedule": "subscription",
}
KEEP = object()


@dataclass(frozen=True)
class Cause:
    """The request that an event names; both None for what Stripe does by itself."""

    request_id: str | None = None
    idempotency_key: str | None = None


class Books:
    def __init__(self, sandbox, account: str, cause: Cause = Cause(), as_of: float | None = None):
        self.sandbox = sandbox
        self.store = sandbox.store
        self.account = account
        self.cause = cause
        self.as_of = as_of

    def now(self) -> int:
        return self.sandbox.clock.now()

    def row(self, object_id: str):
        found = self.store.read(self.account, object_id, self.as_of)
        return found or self.sandbox.seeds.row(self.account, object_id)

    def find(self, kind: str, object_id: str) -> dict | None:
        row = self.row(object_id)
        return orjson.loads(row["body"]) if row and row["kind"] == kind else None

    def require(self, kind: str, object_id: str, param: str = "id", status: int = 404) -> dict:
        found = self.find(kind, object_id)
        if found is None:
            raise missing(NOUNS.get(kind, kind), object_id, param, status)
        return found

    def require_filter(self, kind: str, object_id: str):
        """What a list is filtered by has to be there now, however far the list itself lags behind."""
        Books(self.sandbox, self.account).require(kind, object_id, kind, 400)

    def alive(self, kind: str, object_id: str, param: str, status: int = 400) -> dict:
        found = self.require(kind, object_id, param, status)
        if found.get("deleted"):
            raise missing(NOUNS.get(kind, kind), object_id, param, status)
        return found

    def query(self, kind: str, condition: str, values=(), order="created DESC, seq DESC") -> list[dict]:
        rows = self.store.all(
            f"SELECT body FROM objects WHERE account = ? AND kind = ? AND {condition} ORDER BY {order}",
            (self.account, kind, *values),
        )
        return [orjson.loads(row["body"]) for row in rows]

    def payment_intent_of(self, invoice_id: str) -> dict | None:
        payments = self.query("invoice_payment", "parent = ?", (invoice_id,))
        return self.find("payment_intent", payments[0]["payment"]["payment_intent"]) if payments else None

    def invoice_of(self, intent_id: str | None) -> str | None:
        found = self.query("invoice_payment", "json_extract(body, '$.payment.payment_intent') = ?", (intent_id,))
        return found[0]["invoice"] if found else None

    @staticmethod
    def plan_of(price: dict | None) -> dict | None:
        return plan_of(price) if price and price["recurring"] else None

    def save(self, subject: dict, due_at=KEEP):
        """Insert or replace. `due_at`: when the billing calendar has to look at it again (None: never)."""
        before = self.row(subject["id"])
        row = {
            "account": self.account,
            "kind": subject["object"],
            "id": subject["id"],
            "seq": before["seq"] if before else self.store.next_seq(),
            "created": before["created"] if before else subject["created"],
            "due_at": (before["due_at"] if before else None) if due_at is KEEP else due_at,
            "body": orjson.dumps(subject).decode(),
            **columns(subject),
        }
        self.store.write(row, before)
        self.sandbox.seeds.override(self.account, subject["id"])

    def erase(self, object_id: str):
        before = self.row(object_id)
        if before is None:
            raise missing("object", object_id)
        self.store.erase(self.account, before["kind"], object_id, before)
        self.sandbox.seeds.override(self.account, object_id)

    def create(self, subject: dict, event: str | None = None, due_at=None) -> dict:
        self.save(subject, due_at)
        if event:
            self.emit(event, subject)
        return subject

    def change(self, subject: dict, event: str | None = None, due_at=KEEP, before: dict | None = None) -> dict:
        """Save what differs from the stored object and emit `event` with the changed keys; nothing if none did."""
        before = before or self.find(subject["object"], subject["id"])
        if before == subject and due_at is KEEP:
            return subject
        self.save(subject, due_at)
        if event and before != subject:
            self.emit(event, subject, before)
        return subject

    def emit(self, type: str, subject: dict, before: dict | None = None) -> dict:
        version = self.sandbox.accounts.api_version(self.account)
        request = {"id": self.cause.request_id, "idempotency_key": self.cause.idempotency_key}
        event = event_shape(self.now(), type, subject, version, request)
        if before is not None:
            changed = {key for key in before.keys() | subject.keys() if before.get(key) != subject.get(key)}
            event["data"]["before"] = {key: before.get(key) for key in sorted(changed)}
        self.save(event)
        self.sandbox.deliveries.queue(self.account, event)
        return event


def columns(subject: dict) -> dict:
    """What lists filter by, next to the body."""
    kind = subject["object"]
    status = subject.get("status")
    if kind == "event":
        status = subject["type"]
    if subject.get("deleted"):
        status = "deleted"
    return {"customer": subject.get("customer"), "parent": parent(kind, subject), "status": status}


def parent(kind: str, subject: dict) -> str | None:
    if kind == "invoice":
        return ((subject.get("parent") or {}).get("subscription_details") or {}).get("subscription")
    return subject.get(PARENT[kind]) if kind in PARENT else None
