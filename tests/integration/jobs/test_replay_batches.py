"""The job that carries on with a batch: woken, found by the sweep, and out of the way of webhooks."""

import json
import time
from datetime import timedelta

import pytest
from redis import Redis
from rq import Queue

from billing_service.documents import ReplayBatch, ReplayItem, WebhookEvent, database_now
from billing_service.jobs import replay_batches as module
from billing_service.jobs import wakeups
from billing_service.jobs.replay_batches import replay_batches
from billing_service.jobs.sweep import sweep

TYPE = "payout.paid"


@pytest.fixture
def batch(app):
    """Puts a batch of so many events there, none of which the ledger or Stripe knows."""

    def make(count=1, selection="x", **fields):
        now = database_now()
        told = {
            "selected_at": now,
            "total": count,
            "state": "queued",
            "stop_after": 1000,
            "actor": "ada",
            "next_at": now,
        }
        made = ReplayBatch(selection=selection, created_at=now, **told | fields).save()
        for position in range(count):
            ReplayItem(batch=made.pk, position=position, event_id=f"evt_J{position}", type=TYPE, state="pending").save()
        return made

    return make


@pytest.fixture
def queue(runtime):
    """The functions that wait on a queue."""

    def read(name):
        waiting = Queue(name, connection=Redis.from_url(runtime.settings.redis_url))
        return [each.func_name.rpartition(".")[2] for each in waiting.jobs]

    return read


def test_the_sweep_wakes_a_batch_of_which_nobody_was_told(batch, queue):
    """Redis has lost everything, or the process died before it could tell."""
    batch()
    assert sweep()["batches_due"] == 1
    assert queue("batch") == ["replay_batches"]


def test_the_sweep_wakes_one_whose_worker_died_and_leaves_one_that_is_held(batch, queue):
    held = batch(state="running", attempt=1, held=True, next_at=database_now() + timedelta(seconds=10))
    assert sweep()["batches_due"] == 0
    ReplayBatch.objects(id=held.pk).update_one(set__next_at=database_now())
    assert sweep()["batches_due"] == 1
    assert queue("batch") == ["replay_batches"]


def test_ended_ones_are_not_woken(batch):
    for state in ("succeeded", "partly_failed", "stopped", "cancelled"):
        batch(selection=state, state=state, next_at=None)
    assert sweep()["batches_due"] == 0


def test_it_is_woken_once_however_often_it_is_asked_for(batch, queue, app):
    for _ in range(3):
        assert wakeups.wake_batches()
    assert queue("batch") == ["replay_batches"]


def test_several_batches_take_turns(batch, queue):
    first, second = batch(selection="1"), batch(selection="2")
    ReplayItem.objects.delete()  # nothing is left to do in either
    assert replay_batches()["batch_id"] == str(first.pk)
    assert queue("batch") == ["replay_batches"]
    assert replay_batches()["batch_id"] == str(second.pk)


def test_a_slice_ends_early_for_what_waits_for_a_worker(batch, runtime):
    over = module._slice(time.monotonic() - module.LEAST_SECONDS - 0.1)
    assert not over()
    Queue("webhooks", connection=runtime.redis.client()).enqueue("billing_service.jobs.dispatch.dispatch")
    assert over()
    assert not module._slice(time.monotonic())()  # but not at once: the batch must get on, too
    assert module._slice(time.monotonic() - module.SLICE_SECONDS)()


def test_one_worker_serves_webhooks_while_a_batch_runs(lost_many, process, eventually, runtime, arrive_one):
    """A batch of many slow items, one worker: an event that arrives meanwhile is handled within seconds."""
    lost_many(40)
    worker = process("worker")
    wakeups.wake_batches()
    eventually(lambda: ReplayBatch.objects.first().succeeded >= 2)
    event_id = arrive_one()
    eventually(lambda: WebhookEvent.objects(event_id=event_id, state="succeeded").first(), seconds=8)
    assert ReplayBatch.objects.first().state == "running"
    # In good order: what a transaction of a killed one has locked would keep the next test waiting for a minute.
    worker.terminate()
    worker.wait(30)


@pytest.fixture
def lost_many(billed, stripe, sandbox, batch):
    """Begins a batch of dead letters of one organization; Stripe takes its time for each."""

    def make(count):
        it = billed(stored=False)
        live = stripe.events.list({"type": "customer.subscription.created", "limit": 1}).data[0]
        now = database_now()
        sandbox.arm("delay", method="GET", path="/v1/subscriptions", seconds=0.3, times=None)
        made = batch(0)
        for position in range(count):
            payload = live.to_dict() | {"id": f"evt_J{position}"}
            WebhookEvent(
                event_id=f"evt_J{position}",
                type=live.type,
                livemode=False,
                created=now,
                received_at=now,
                dead_at=now,
                source="delivery",
                payload=json.dumps(payload, default=str),
                state="dead",
                attempts=5,
                stripe_subscription_id=it.subscription,
                organization=it.org_id,
            ).save()
            ReplayItem(
                batch=made.pk, position=position, event_id=f"evt_J{position}", type=live.type, state="pending"
            ).save()
        ReplayBatch.objects(id=made.pk).update_one(set__total=count)

    return make


@pytest.fixture
def arrive_one(app, runtime):
    """Receives an event that needs nobody's look, and wakes for it as the endpoint does."""
    from billing_service.stripe_gateway import VerifiedEvent
    from billing_service.webhooks import receive

    def arrive():
        event = {"id": "evt_Jnew", "object": "event", "type": "customer.deleted", "livemode": False}
        customer = {"object": "customer", "id": "cus_nobodys", "deleted": True}
        event |= {"created": int(time.time()), "api_version": "2026-10-28.endive", "data": {"object": customer}}
        receive(VerifiedEvent(event, 0), json.dumps(event).encode(), livemode=False, now=database_now())
        wakeups.wake()
        return "evt_Jnew"

    return arrive
