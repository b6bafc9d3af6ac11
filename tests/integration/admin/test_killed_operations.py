"""Processes killed at each write of a mutation: what they leave is resolved, and nothing has its effect twice."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from billing_service.documents import (
    AdminAction,
    AdminOperation,
    Finding,
    LedgerEntry,
    Organization,
    OutboxSignal,
    ReplayBatch,
    ReplayItem,
    Subscription,
    WebhookEvent,
    database_now,
)
from billing_service.operations import settle_lapsed
from billing_service.subscriptions import follow_up_cancels

BASE = "/api/admin/billing/"
# What is stored before a write is what was stored after the one before it.
WHEN = [True, False] if os.environ.get("BILLING_TESTS") == "long" else [True]
# Well above what any mutation writes.
MOST = 40


@dataclass
class Case:
    """A request, whether it took effect, and what must hold of an effect that was had once."""

    method: str
    path: str
    body: dict[str, Any] | None
    is_done: Any
    had_once: Any
    status: int = 200


@pytest.fixture
def mortal(mortal):
    """Sends a request to a process that dies at its n-th write, before or after it; None: it is dead."""

    def send(case, headers, at=None, after=False):
        return mortal(at, after, method=case.method, path=BASE + case.path, headers=headers, body=case.body)

    return send


def told_of(org_id, name):
    return OutboxSignal.objects(organization=org_id, name=name).count()


@pytest.fixture
def sync(billed):
    def make():
        it = billed("pro", stored=False)
        once = lambda: (it.plan, told_of(it.org_id, "plan_changed"), it.row.version) == ("pro", 1, 2)
        return Case("POST", f"sync/{it.org_id}", {}, lambda: it.row.plan == "pro", once)

    return make


@pytest.fixture
def link(organization, stripe, subscribe):
    def make():
        org_id = organization()
        subscription = subscribe(stripe.customers.create({}).id, "pro")
        row = lambda: Subscription.objects(organization=org_id).first()
        once = lambda: (row().version, told_of(org_id, "plan_changed"), plan_of(org_id)) == (1, 1, "pro")
        return Case("POST", f"link/{org_id}", {"stripeSubscriptionId": subscription}, lambda: row() is not None, once)

    return make


@pytest.fixture
def bump(organization):
    def make():
        org_id = organization()
        row = lambda: Subscription.objects(organization=org_id).first()
        once = lambda: (row().version, told_of(org_id, "plan_changed"), plan_of(org_id)) == (1, 1, "business")
        body = {"orgId": str(org_id), "planId": "business", "note": "goodwill"}
        return Case("PATCH", "plans/bump", body, lambda: row() is not None, once)

    return make


@pytest.fixture
def close(dead):
    def make():
        event_id = dead().event_id
        event = lambda: WebhookEvent.objects(event_id=event_id).first()
        once = lambda: event().closed.by == "ada@example.com"
        return Case("DELETE", f"dead-letters/{event_id}?note=seen", None, lambda: event().state == "closed", once)

    return make


@pytest.fixture
def dispute_credit(disputed):
    def make():
        it = disputed()
        body = {"chargeId": it.charge.id, "amountCents": 4_900, "refundRequestId": f"credit-{it.org_id}"}
        once = lambda: (len(it.credits), it.balance) == (1, 100_000)
        return Case("POST", f"dispute/credit/{it.org_id}", body, lambda: it.credits != [], once)

    return make


@pytest.fixture
def refusal(billed):
    """A sync that is refused: the live price means no plan."""

    def make():
        it = billed(None, stored=False)
        never = lambda: it.row.version == 1
        return Case("POST", f"sync/{it.org_id}", {}, lambda: False, never, status=409)

    return make


@pytest.fixture
def cancel(billed, stripe):
    def make():
        it = billed("pro")
        there = lambda: stripe.subscriptions.retrieve(it.subscription).status
        once = lambda: (
            (it.row.status, it.plan, there(), told_of(it.org_id, "subscription_expired"))
            == (
                "canceled",
                "free",
                "canceled",
                1,
            )
        )
        return Case("POST", f"cancel/{it.org_id}", {}, lambda: it.row.status == "canceled", once)

    return make


@pytest.fixture
def batch(client, lost, admin):
    """The start of a batch of its own event."""

    def make():
        ((_, event_id),) = lost(1)
        reason = event_id[-40:]
        WebhookEvent.objects(event_id=event_id).update_one(set__reason=reason)
        chosen = client.post(f"{BASE}webhook/replay-batch?dryRun=true", json={"reason": reason}, headers=admin).json
        mine = lambda: ReplayBatch.objects(filter__reason=reason)
        once = lambda: (mine().count(), ReplayItem.objects(batch=mine().first().pk).count()) == (1, 1)
        body = {"selection": chosen["selection"], "confirm": 1}
        return Case("POST", "webhook/replay-batch", body, lambda: mine().first() is not None, once, status=202)

    return make


@pytest.fixture
def cancel_batch(app):
    def make():
        now = database_now()
        told = {"selected_at": now, "created_at": now, "next_at": now, "total": 1, "stop_after": 5, "actor": "ada"}
        made = ReplayBatch(selection=str(ObjectId()), state="queued", **told).save()
        is_cancelled = lambda: ReplayBatch.objects(id=made.pk).first().state == "cancelled"
        return Case("POST", f"webhook/replay-batch/{made.pk}/cancel", {}, is_cancelled, is_cancelled)

    return make


def plan_of(org_id):
    return Organization.objects(id=org_id).first().plan


KINDS = ("sync", "link", "bump", "close", "dispute_credit", "refusal", "cancel", "batch", "cancel_batch")


@pytest.fixture
def case(request):
    return request.getfixturevalue(request.param)


def deaths(mortal, case, admin, after):
    """A request for each of its writes, with its key, which died of it (or before it); ends when one lives."""
    for number in range(1, MOST):
        it = case()
        headers = admin | {"Idempotency-Key": f"killed-{number}"}
        if mortal(it, headers, number, after) is not None:
            assert number > 4
            return
        yield it, headers
    raise AssertionError(f"it writes more than {MOST} times")


def rows_of(operation):
    return [(each.phase, each.outcome) for each in AdminAction.objects(operation=operation.pk).order_by("at", "id")]


@pytest.mark.parametrize("after", WHEN)
@pytest.mark.parametrize("case", KINDS, indirect=True)
def test_the_same_key_resumes(app, client, admin, mortal, case, after, runtime):
    for it, headers in deaths(mortal, case, admin, after):
        assert all(each.expires_at is None for each in AdminOperation.objects(state="started"))
        # Two minutes later; until then it may only be slow.
        AdminOperation.objects(state="started").update(set__lease_until=runtime.clock() - timedelta(seconds=1))
        answer = client.open(BASE + it.path, method=it.method, headers=headers, json=it.body)
        assert answer.status_code == it.status, answer.json
        assert it.had_once()
        [operation] = AdminOperation.objects(idempotency_key=headers["Idempotency-Key"])
        assert (operation.state, operation.stored) == ("done" if it.status < 400 else "failed", True)
        rows = rows_of(operation)
        ends = [outcome for phase, outcome in rows if phase == "outcome"]
        assert rows[0] == ("intent", "pending")
        assert ends == ["succeeded" if it.status < 400 else "failed"]
        again = client.open(BASE + it.path, method=it.method, headers=headers, json=it.body)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json | {"requestId": None} == answer.json | {"requestId": None}
        assert it.had_once()


@pytest.mark.parametrize("after", WHEN)
@pytest.mark.parametrize("case", KINDS, indirect=True)
def test_what_nobody_resumes_is_resolved(app, client, admin, mortal, case, after, runtime):
    for it, headers in deaths(mortal, case, admin, after):
        was_done, key = it.is_done(), headers["Idempotency-Key"]
        for later in (timedelta(minutes=13), timedelta(hours=26)):
            clock = lambda later=later: runtime.clock() + later
            follow_up_cancels(stripe=runtime.stripe, plans=runtime.plans, clock=clock)
            settle_lapsed(clock=clock)
        operation = AdminOperation.objects(idempotency_key=key).first()
        if operation is None:  # it died before it had asked for anything
            assert not it.is_done()
            continue
        assert operation.state in ("done", "failed")
        assert operation.expires_at is not None
        assert it.is_done() == (operation.state == "done")
        assert it.is_done() or not was_done
        rows = rows_of(operation)
        assert rows[0] == ("intent", "pending")
        assert rows[1:] == [("outcome", "succeeded" if operation.state == "done" else "failed")]
        if it.is_done():
            assert it.had_once()
        # Whoever asks again gets what was asked for, once.
        answer = client.open(BASE + it.path, method=it.method, headers=headers, json=it.body)
        assert answer.status_code == it.status, answer.json
        assert it.had_once()
    assert Finding.objects(kind__ne="cancel_unverified", severity="critical").count() == 0
    assert len(LedgerEntry.objects.scalar("ref")) == len(set(LedgerEntry.objects.scalar("ref")))
