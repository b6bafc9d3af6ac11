"""The sweep: each thing that nobody else took up is found and told, and being killed leaves nothing half done."""

import json
import threading
import time
from datetime import timedelta

import pytest
from mongoengine.connection import get_db
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, StartedJobRegistry

from billing_service.documents import (
    AdminAction,
    AdminOperation,
    Finding,
    JobRun,
    Organization,
    OutboxSignal,
    Override,
    RefundRequest,
    Subscription,
    WebhookEvent,
    database_now,
)
from billing_service.jobs import runs
from billing_service.jobs.queues import enqueue, enqueue_run
from billing_service.jobs.sweep import PARTS, sweep
from billing_service.stripe_gateway import VerifiedEvent
from billing_service.webhooks import ledger, receive

SLOT = "20261122T0300"


def ago(**duration):
    return database_now() - timedelta(**duration)


@pytest.fixture
def arrived(app):
    """An event that is stored, and of which nobody was told."""
    subject = {"object": "subscription", "id": "sub_S1", "customer": "cus_S1", "status": "active"}
    event = {"id": "evt_S1", "object": "event", "type": "customer.subscription.updated", "livemode": False}
    event |= {"created": int(time.time()), "api_version": "2026-10-28.endive", "data": {"object": subject}}
    receive(VerifiedEvent(event, 0), json.dumps(event).encode(), livemode=False, now=database_now())
    return lambda: WebhookEvent.objects(event_id="evt_S1").first()


@pytest.fixture
def overridden(billed):
    """Makes organizations with a plan given by an admin until a second ago."""

    def make(plan="enterprise"):
        it = billed("pro")
        until = Override(plan=plan, actor="ada@example.com", note="a favour", at=ago(days=1), until=ago(seconds=1))
        Subscription.objects(id=it.row.pk).update_one(set__override=until, set__plan=plan)
        Organization.objects(id=it.org_id).update_one(set__plan=plan)
        return it

    return make


@pytest.fixture
def doubtful(billed, stripe):
    """Makes organizations whose row is to be looked at once more, because Stripe's reads may have lagged."""

    def make():
        it = billed("pro")
        stripe.subscriptions.cancel(it.subscription)
        Subscription.objects(id=it.row.pk).update_one(set__verify_at=ago(seconds=1))
        return it

    return make


def queued(runtime, queue):
    return [each.decode() for each in runtime.redis.client().lrange(f"rq:queue:{queue}", 0, -1)]


def test_nothing_to_do_is_told_as_nothing(app, runtime, sandbox):
    found = sweep()
    assert set(found) == set(PARTS)
    assert {name: count for name, count in found.items() if count} == {"queues_cleaned": 3}
    assert sandbox.requests()["items"] == []
    assert queued(runtime, "webhooks") == []


def test_a_due_event_that_nobody_was_told_of(arrived, runtime):
    sweep()
    assert len(queued(runtime, "webhooks")) == 1
    assert arrived().state == "received"


def test_an_expired_lease(arrived, runtime):
    ledger.claim(1)
    assert sweep()["leases_returned"] == 0
    WebhookEvent.objects().update(set__lease_until=ago(seconds=1))
    assert sweep()["leases_returned"] == 1
    assert (arrived().state, arrived().attempts, arrived().lease_owner) == ("failed", 0, None)
    assert arrived().history[-1].error_class == "LeaseExpired"
    assert len(queued(runtime, "webhooks")) == 1


def test_a_row_that_is_to_be_looked_at_again(doubtful):
    it = doubtful()
    assert sweep()["verified"] == 1
    assert (it.row.status, it.row.plan, it.plan) == ("canceled", "free", "free")
    assert (it.row.verify_at, it.row.synced_from) == (None, "verify")
    assert sweep()["verified"] == 0


def test_not_before_its_time(doubtful, overridden):
    later = database_now() + timedelta(minutes=1)
    one, two = doubtful(), overridden()
    Subscription.objects(id=one.row.pk).update_one(set__verify_at=later)
    Subscription.objects(id=two.row.pk).update_one(set__override__until=later)
    found = sweep()
    assert (found["verified"], found["overrides_lifted"]) == (0, 0)
    assert (one.row.status, two.plan) == ("active", "enterprise")


def test_an_override_whose_time_has_passed(overridden):
    it = overridden()
    assert sweep()["overrides_lifted"] == 1
    assert (it.row.override, it.row.plan, it.plan) == (None, "pro", "pro")
    version = it.row.version
    assert OutboxSignal.objects(organization=it.org_id, name="plan_changed", facts__to="pro").count() == 2
    assert sweep()["overrides_lifted"] == 0
    assert it.row.version == version


def test_an_operation_whose_process_died(app, billed, runtime):
    it = billed("pro")
    now = database_now()
    fields = {"kind": "sync", "target": str(it.org_id), "actor": "ada@example.com", "role": "admin", "route": "sync"}
    died = AdminOperation(**fields, body_hash="x", state="started", created_at=now, lease_until=ago(minutes=9)).save()
    assert sweep()["operations_settled"] == 0
    died.update(set__lease_until=ago(minutes=11))
    assert sweep()["operations_settled"] == 1
    died.reload()
    assert (died.state, died.stored, died.attempt) == ("failed", False, 2)
    [told] = AdminAction.objects(operation=died.pk, phase="outcome")
    assert (told.phase, told.outcome, told.actor) == ("outcome", "failed", "ada@example.com")
    assert "Idempotency-Key" in told.error
    assert sweep()["operations_settled"] == 0


def test_a_refund_that_nobody_knows_of(app, client, admin, billed, stripe, sandbox):
    charge = stripe.charges.list({"customer": billed("pro").customer}).data[0].id
    sandbox.arm("drop_after", method="POST", path="/v1/refunds$", times=3)
    body = {"chargeId": charge, "refundRequestId": "request-1"}
    assert client.post("/api/admin/billing/refund", headers=admin, json=body).status_code == 202
    assert sweep()["refunds_settled"] == 0
    RefundRequest.objects.update(set__next_check_at=ago(seconds=1))
    assert sweep()["refunds_settled"] == 1
    assert RefundRequest.objects.get().state == "succeeded"
    assert len(stripe.refunds.list({"charge": charge}).data) == 1


def test_a_cancel_that_was_not_seen(app, billed, stripe):
    it = billed("pro")
    stripe.subscriptions.cancel(it.subscription)
    fields = {"kind": "cancel", "target": str(it.org_id), "actor": "ada@example.com", "role": "admin", "route": "c"}
    asked = AdminOperation(
        **fields,
        body_hash="x",
        state="unknown",
        pursued=True,
        parameters={"mode": "now", "stripe_target_id": it.subscription},
        created_at=ago(minutes=5),
        lease_until=ago(minutes=3),
        next_check_at=ago(seconds=1),
    ).save()
    assert sweep()["cancels_settled"] == 1
    asked.reload()
    assert asked.state == "done"
    assert (it.row.status, it.plan) == ("canceled", "free")
    assert sweep()["cancels_settled"] == 0


def test_a_run_whose_process_is_gone(app, runtime):
    runs.claim("missed_events", SLOT)
    assert sweep()["runs_taken_up"] == 0
    for attempt in (2, 3):
        JobRun.objects(job="missed_events").update(set__lease_until=ago(seconds=1))
        assert sweep()["runs_taken_up"] == 1
        assert queued(runtime, "batch")[-1] == f"missed_events-{SLOT}-{attempt}"
    JobRun.objects(job="missed_events").update(set__lease_until=ago(seconds=1))
    assert sweep()["runs_taken_up"] == 0
    assert JobRun.objects(job="missed_events").first().state == "given_up"


def test_a_job_that_its_killed_worker_left_as_started(app, runtime):
    client = runtime.redis.client()
    job = Job.fetch(enqueue(sweep), connection=client)
    client.delete("rq:queue:admin")
    job.set_status(JobStatus.STARTED)
    started = StartedJobRegistry("admin", connection=client)
    client.zadd(started.key, {f"{job.id}:of-the-dead": time.time() - 1000})
    assert sweep()["queues_cleaned"] == 3
    assert client.zcard(started.key) == 0
    assert job.id in FailedJobRegistry("admin", connection=client).get_job_ids()


def test_all_at_once_with_the_counts_in_the_runs_row(arrived, doubtful, overridden, runtime):
    one, two, three = doubtful(), doubtful(), overridden()
    ledger.claim(1)
    WebhookEvent.objects().update(set__lease_until=ago(seconds=1))
    runs.claim("missed_events", SLOT)
    JobRun.objects().update(set__lease_until=ago(seconds=1))
    runs.claim("sweep", SLOT)
    found = sweep(slot=SLOT, attempt=1)
    wanted = {"leases_returned": 1, "verified": 2, "overrides_lifted": 1, "runs_taken_up": 1, "cancels_settled": 0}
    assert found.items() >= wanted.items()
    assert JobRun.objects(job="sweep").first().summary == found
    assert [each.plan for each in (one, two, three)] == ["free", "free", "pro"]


def test_a_part_that_fails_says_so_and_the_others_are_done(arrived, doubtful, overridden, sandbox, runtime):
    it, other = doubtful(), overridden()
    sandbox.arm("error", path="/v1/", status=500, times=None)
    found = sweep()
    assert found["verified"].startswith("StripeUnavailable: ")
    assert found["overrides_lifted"] == 1
    assert (it.row.status, other.plan) == ("active", "pro")
    assert it.row.verify_at is not None
    assert len(queued(runtime, "webhooks")) == 1
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    assert sweep()["verified"] == 1
    assert it.plan == "free"


def test_a_row_that_stripe_refuses_does_not_hold_up_the_next(doubtful, sandbox):
    refused, other = doubtful(), doubtful()
    Subscription.objects(id=refused.row.pk).update_one(set__verify_at=ago(minutes=5))
    sandbox.remove(refused.subscription)
    sandbox.remove(refused.customer)
    assert sweep()["verified"] == 1
    assert other.plan == "free"
    assert refused.plan == "pro"
    assert refused.row.verify_at > database_now() + timedelta(minutes=59)


@pytest.mark.parametrize("part", ["verified", "overrides_lifted"])
def test_a_row_that_cannot_be_read_does_not_hold_up_the_others(doubtful, overridden, part):
    make = doubtful if part == "verified" else overridden
    unreadable, other = make(), make()
    # What an older version meets after a rollback: a field that it does not know.
    row_id = unreadable.row.pk
    early = ago(minutes=5)
    changes = {"of_a_newer_version": 1, "verify_at" if part == "verified" else "override.until": early}
    get_db().subscriptions.update_one({"_id": row_id}, {"$set": changes})
    sweep()
    assert other.plan == ("free" if part == "verified" else "pro")


def test_two_at_once_do_each_thing_once(app, arrived, doubtful, overridden):
    doubted, given = [doubtful() for _ in range(3)], [overridden() for _ in range(3)]
    before = {each.org_id: each.row.version for each in (*doubted, *given)}
    ledger.claim(1)
    WebhookEvent.objects().update(set__lease_until=ago(seconds=1))
    runs.claim("missed_events", SLOT)
    JobRun.objects().update(set__lease_until=ago(seconds=1))
    found = []

    def run():
        with app.app_context():
            found.append(sweep())

    threads = [threading.Thread(target=run) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(isinstance(count, int) for each in found for count in each.values()), found
    assert sum(each["leases_returned"] for each in found) == 1
    assert sum(each["runs_taken_up"] for each in found) == 1
    assert arrived().lease_losses == 1
    assert {each.plan for each in doubted} == {"free"}
    assert {each.plan for each in given} == {"pro"}
    for each in (*doubted, *given):
        # The slower one may have written the same again, which nobody is told of.
        told = OutboxSignal.objects(organization=each.org_id, name="plan_changed", version__gt=before[each.org_id])
        assert told.count() == 1


def test_killed_half_way_nothing_is_half_done(
    arrived, doubtful, overridden, sandbox, runtime, process, eventually, stripe
):
    doubted, given = [doubtful() for _ in range(4)], overridden()
    before = {each.org_id: each.row.version for each in (*doubted, given)}
    sandbox.arm("delay", path="/v1/subscriptions", seconds=0.4, times=None)
    runs.claim("sweep", SLOT)
    enqueue_run(sweep, SLOT, 1)
    # The dispatch that the sweep wakes is not what is looked at here.
    WebhookEvent.objects().update(set__state="succeeded")
    child = process("worker")
    done = lambda: [each for each in doubted if each.row.status == "canceled"]
    eventually(done)
    child.kill()
    child.wait()
    assert 0 < len(done()) < 4
    for each in doubted:
        if each.row.status == "canceled":
            assert (each.row.verify_at, each.plan, each.row.plan) == (None, "free", "free")
        else:
            assert each.row.verify_at is not None
            assert (each.row.status, each.plan, each.row.plan) == ("active", "pro", "pro")
            assert each.row.version == before[each.org_id]
    assert given.plan == "enterprise"
    assert JobRun.objects(job="sweep").first().state == "running"
    sandbox.disarm()
    left = 4 - len(done())
    JobRun.objects(job="sweep").update(set__lease_until=ago(seconds=1))
    found = sweep()
    assert (found["verified"], found["overrides_lifted"]) == (left, 1)
    assert JobRun.objects(job="sweep").first().state == "given_up"
    for each in (*doubted, given):
        assert each.row.version == before[each.org_id] + 1
        ends = OutboxSignal.objects(organization=each.org_id, name="plan_changed", version=each.row.version)
        assert ends.count() == 1
        assert each.plan == each.row.plan == ("pro" if each is given else "free")
    assert len(Finding.objects) == 0
