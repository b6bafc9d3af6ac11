"""One of everything that the console shows, and the table of its views: a new view joins by a row."""

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId

EVENT = "evt_furnished0001"


@dataclass(frozen=True)
class View:
    """A view as the tests open it: `ready` are there when all its parts have loaded."""

    name: str
    address: str
    ready: str
    # Which of the hostile texts are on it: "name", "note", "error", "live".
    texts: tuple[str, ...] = ()
    # Whether it asks the API for anything.
    asks: bool = True


# Addresses may name {org_id}, {charge_id}, {event_id}, {name}, {run_id}, {finding_id} and {batch_id}.
VIEWS = (
    View("overview", "#/overview", "#letters ~ div table, #runs-title", ("error",)),
    View("customer", "#/customer/{org_id}", ".charge, .timeline li", ("name", "note", "error", "live")),
    View("search", "#/customer?q={name}", "main table", ("name",)),
    View("nobody searched for", "#/customer", ".invitation", asks=False),
    View("dead letters", "#/deadletters", ".groups li, #letters ~ div table, #batches ~ div table", ("error", "note")),
    View("dead letter", "#/deadletters/{event_id}", ".payload", ("error", "live")),
    View("replays of many", "#/deadletters/batches", "main table", ("note",)),
    View("replay of many", "#/deadletters/{batch_id}", "main table", ("error", "note")),
    View("events", "#/events", "main table"),
    View("event", "#/events/{event_id}", ".payload", ("error", "live")),
    View("reconciliations", "#/reconciliation", ".next p, main table", ("note",)),
    View("reconciliation", "#/reconciliation/{run_id}", "#found ~ div table", ("error",)),
    View("findings", "#/findings", "main table"),
    View("finding", "#/findings/{finding_id}", ".verdict", ("note", "live")),
    View("refunds", "#/refunds?orgId={org_id}", "#unknown, #left ~ div table, #requests ~ div table", ("note",)),
    View("audit", "#/audit", "main table", ("error", "note")),
)

# What opens a dialog, by the view that it is in.
DIALOGS = {
    "customer": ".verdict button:enabled, .charge .buttons button:enabled",
    "dead letters": "#replay-all, .groups button",
    "dead letter": "#replay, #close",
    "reconciliations": "#run-now",
    "finding": "#acknowledge",
    "refunds": ".verdict button.quiet",
}


@dataclass
class Furnished:
    """What there is, to fill in the addresses with."""

    org_id: str
    charge_id: str
    event_id: str
    run_id: str
    name: str
    finding_id: str
    batch_id: str


def furnish(*, runtime: Any, stripe: Any, customer: Any, texts: dict[str, str]) -> Furnished:
    """Put one of everything into the stores; `texts` are what people and Stripe may have written into it."""
    it = customer(texts["name"]).link()
    twin = customer(texts["name"])
    payer = it.subscription.customer
    stripe.customers.update(payer, {"name": texts["live"][:256], "metadata": {"told": texts["live"][:500]}})
    [charge] = stripe.charges.list({"customer": payer}).data
    stripe.refunds.create({"charge": charge.id, "amount": 100})
    org_id, now = ObjectId(it.id), runtime.clock()
    _events(org_id, it, now, texts)
    _people(org_id, charge, now, texts)
    run, finding = _reconciled(org_id, it, now, texts)
    batch = _replayed(org_id, now, texts)
    assert twin.id != it.id
    return Furnished(it.id, charge.id, EVENT, str(run.pk), texts["name"][:60], str(finding.pk), str(batch.pk))


def _events(org_id: ObjectId, it: Any, now: Any, texts: dict[str, str]) -> None:
    from billing_service.documents import Attempt, WebhookEvent

    states = ("dead", "dead", "failed", "received", "succeeded", "closed")
    for number, state in enumerate(states, 1):
        at = now - timedelta(minutes=number)
        line = Attempt(
            at=at,
            source="webhook",
            actor="worker",
            code_version="0.1.0",
            milliseconds=7,
            error_class="ValueError" if state in ("dead", "failed") else None,
            error_message=texts["error"] if state in ("dead", "failed") else None,
            outcome="applied" if state == "succeeded" else None,
        )
        payload = {
            "id": f"evt_furnished{number:04}",
            "type": "invoice.paid",
            "data": {"object": {"told": texts["live"]}},
        }
        WebhookEvent(
            event_id=f"evt_furnished{number:04}",
            type="invoice.paid" if number % 2 else "customer.subscription.updated",
            created=at,
            received_at=at,
            payload=json.dumps(payload),
            source="delivery",
            state=state,
            outcome="applied" if state == "succeeded" else None,
            reason="handler_failed" if state == "dead" else None,
            attempts=number,
            history=[line],
            fingerprint=f"ValueError: {texts['error']}"[:200] if state == "dead" else None,
            dead_at=at if state == "dead" else None,
            next_attempt_at=now + timedelta(hours=1),
            organization=org_id,
            stripe_subscription_id=it.subscription.id,
        ).save(force_insert=True)


def _people(org_id: ObjectId, charge: Any, now: Any, texts: dict[str, str]) -> None:
    from billing_service.documents import AdminAction, RefundRequest, Subscription

    note = texts["note"][:1000]
    override = {"plan": "business", "note": note, "actor": "ada", "at": now, "until": now + timedelta(days=9)}
    Subscription.objects(organization=org_id).update_one(set__override=override, set__plan="business")
    for phase, outcome in (("intent", "pending"), ("outcome", "failed")):
        AdminAction(
            operation=ObjectId(),
            phase=phase,
            at=now,
            actor="ada@example.com",
            role="admin",
            action="sync",
            target=str(org_id),
            organization=org_id,
            note=note,
            outcome=outcome,
            request_id="request-1",
            parameters={},
            error=texts["error"][:300],
        ).save(force_insert=True)
    for number, state in enumerate(("unknown", "succeeded"), 1):
        RefundRequest(
            refund_request_id=f"refund-furnished-{number}",
            organization=org_id,
            asked={"charge_id": charge.id, "amount": 100, "reason": "duplicate"},
            parameters={"charge": charge.id, "amount": 100},
            charge=charge.id,
            amount=100,
            currency="usd",
            reason="duplicate",
            note=note,
            actor="ada@example.com",
            state=state,
            operation=ObjectId(),
            lease_until=now + timedelta(days=1),
            created_at=now,
            updated_at=now,
            sent_at=now,
        ).save(force_insert=True)


def _reconciled(org_id: ObjectId, it: Any, now: Any, texts: dict[str, str]) -> Any:
    from billing_service.documents import Finding, ReconciliationRun

    run = ReconciliationRun(
        trigger="api",
        actor=texts["note"][:100],
        state="completed",
        phase="resolving",
        started_at=now - timedelta(hours=2),
        finished_at=now - timedelta(hours=1),
        checked=120,
        expected=120,
        findings={"plan": 1},
        new=1,
        errors=1,
        error_sample=[{"subject": str(org_id), "code": "stripe_missing", "detail": texts["error"]}],
    ).save(force_insert=True)
    finding = Finding(
        fingerprint="plan:furnished",
        kind="plan",
        severity="critical",
        cause="dead_letter",
        organization=org_id,
        stripe_subscription_ids=[it.subscription.id],
        stored={"plan": "free", "told": texts["note"]},
        live={"plan": "pro", "told": texts["live"]},
        money_at_risk=[{"currency": "usd", "amount": 7900}],
        run=run.pk,
        first_seen_at=now,
        last_seen_at=now,
        state="open",
    ).save(force_insert=True)
    return run, finding


def _replayed(org_id: ObjectId, now: Any, texts: dict[str, str]) -> Any:
    from billing_service.documents import ReplayBatch, ReplayItem

    batch = ReplayBatch(
        filter={"fingerprint": f"ValueError: {texts['error']}"[:200], "org_id": org_id, "dead_from": now},
        selection="furnished",
        selected_at=now,
        total=3,
        state="stopped",
        stop_reason="failures_in_row",
        stop_after=2,
        succeeded=1,
        failed=1,
        actor=texts["note"][:100],
        note=texts["note"][:1000],
        created_at=now,
        started_at=now,
        ended_at=now,
    ).save(force_insert=True)
    for position, state in enumerate(("succeeded", "failed", "pending")):
        told = {"error_class": "ValueError", "error_message": texts["error"]} if state == "failed" else {}
        fields = {"event_id": f"evt_furnished{position + 1:04}", "type": "invoice.paid", "created": now}
        ReplayItem(batch=batch.pk, position=position, state=state, organization=org_id, **fields, **told).save()
    return batch


def address(view: View, furnished: Furnished) -> str:
    """The address of the view, for this furniture."""
    from urllib.parse import quote

    names = vars(furnished) | {"name": quote(furnished.name)}
    return "/console" + re.sub(r"{(\w+)}", lambda found: names[found[1]], view.address)
