"""A job that takes too long is ended by RQ's alarm, and nobody else is charged for it."""

import json
from datetime import timedelta

import pytest
from rq import Queue, SimpleWorker
from rq.job import Job

from billing_service.documents import JobRun, Subscription, WebhookEvent, database_now
from billing_service.jobs import runs, wakeups


@pytest.fixture
def carry_out(runtime):
    """Has a worker carry out a job that may take a second; returns RQ's job."""

    def run(function, **kwargs):
        connection = runtime.redis.client()
        queue = Queue("webhooks", connection=connection)
        job = queue.enqueue_call(function, kwargs=kwargs, timeout=1)
        SimpleWorker([queue], connection=connection).work(burst=True, logging_level="CRITICAL")
        return Job.fetch(job.id, connection=connection)

    return run


def test_an_event_is_not_charged_for_it(billed, stripe, sandbox, carry_out, app):
    it = billed()
    stripe.subscriptions.cancel(it.subscription)
    now = database_now()
    subject = {
        "object": "subscription",
        "id": it.subscription,
        "customer": it.customer,
        "status": "canceled",
        "created": 1,
    }
    WebhookEvent(
        event_id="evt_slow",
        type="customer.subscription.deleted",
        created=now,
        received_at=now,
        source="delivery",
        state="received",
        stripe_subscription_id=it.subscription,
        payload=json.dumps({"id": "evt_slow", "created": 1, "data": {"object": subject}}),
    ).save()
    sandbox.arm("delay", path="/v1/subscriptions", key="sk_test_sandbox", seconds=0.8, times=None)
    job = carry_out(wakeups.DISPATCH)
    assert "JobTimeoutException" in job.latest_result().exc_string
    event = WebhookEvent.objects(event_id="evt_slow").first()
    # It keeps its lease: given back it would be the oldest again, and hold up all others for ever.
    assert (event.state, event.attempts, event.history) == ("processing", 0, [])
    assert it.plan == "pro"
    sandbox.disarm()
    WebhookEvent.objects(event_id="evt_slow").update_one(set__lease_until=database_now() - timedelta(seconds=1))
    carry_out(wakeups.DISPATCH)
    event.reload()
    assert (event.state, event.attempts, event.lease_losses, it.plan) == ("succeeded", 0, 1, "free")


def test_a_row_is_not_put_off_for_it(billed, sandbox, carry_out):
    it = billed()
    due = database_now() - timedelta(seconds=1)
    Subscription.objects(organization=it.org_id).update_one(set__verify_at=due)
    sandbox.arm("delay", path="/v1/subscriptions", key="sk_test_sandbox", seconds=0.8, times=None)
    Subscription.objects(organization=it.org_id).update_one(set__candidates=[{"stripe_subscription_id": "sub_x"}])
    job = carry_out(wakeups.VERIFY)
    assert job.latest_result().type.name == "FAILED"
    assert it.row.verify_at == due


def test_its_slot_has_failed_and_is_taken_up_again(app, sandbox, billed, carry_out):
    it = billed()
    Subscription.objects(organization=it.org_id).update_one(set__verify_at=database_now() - timedelta(seconds=1))
    Subscription.objects(organization=it.org_id).update_one(set__candidates=[{"stripe_subscription_id": "sub_x"}])
    sandbox.arm("delay", path="/v1/subscriptions", key="sk_test_sandbox", seconds=0.8, times=None)
    runs.claim("sweep", "20261122T0300")
    carry_out("billing_service.jobs.sweep.sweep", slot="20261122T0300", attempt=1)
    run = JobRun.objects(job="sweep").first()
    assert (run.state, "JobTimeoutException" in run.error) == ("failed", True)
