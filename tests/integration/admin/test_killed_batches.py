"""A worker killed at each of its writes for a batch: another goes on, and no event is replayed twice."""

import os
from datetime import timedelta

import pytest

from billing_service.documents import OutboxSignal, ReplayBatch, ReplayItem, WebhookEvent, database_now
from billing_service.jobs.replay_batches import replay_batches

JOB = "billing_service.jobs.replay_batches:replay_batches"
URL = "/api/admin/billing/webhook/replay-batch"
# What is stored before a write is what was stored after the one before it.
WHEN = [True, False] if os.environ.get("BILLING_TESTS") == "long" else [True]
MOST = 80


@pytest.fixture
def begin(client, admin, lost):
    """Begins a batch of two organizations."""

    def start():
        made = lost(2)
        chosen = client.post(f"{URL}?dryRun=true", json={}, headers=admin).json
        assert chosen["count"] == 2
        body = {"selection": chosen["selection"], "confirm": 2}
        batch_id = client.post(URL, json=body, headers=admin).json["batchId"]
        return batch_id, made

    return start


def leases_run_out():
    past = database_now() - timedelta(seconds=1)
    ReplayBatch.objects(held=True).update(set__next_at=past)
    WebhookEvent.objects(state="processing").update(set__lease_until=past)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("after", WHEN)
def test_another_one_goes_on(mortal_job, begin, after):
    for number in range(1, MOST):
        batch_id, made = begin()
        lived = mortal_job(JOB, number, after)
        for _ in range(5):
            leases_run_out()
            if replay_batches()["batch_id"] is None:
                break
        check(batch_id, made, number)
        if lived:
            assert number > 15
            return
    raise AssertionError(f"it writes more than {MOST} times")


def check(batch_id, made, number):
    batch = ReplayBatch.objects(id=batch_id).first()
    assert (batch.state, batch.succeeded, batch.failed) == ("succeeded", 2, 0), number
    assert [each.state for each in ReplayItem.objects(batch=batch.pk)] == ["succeeded", "succeeded"], number
    for it, event_id in made:
        event = WebhookEvent.objects(event_id=event_id).first()
        assert (event.state, event.replays, it.plan) == ("succeeded", 1, "pro"), number
        assert sum(bool(line.outcome) for line in event.history) == 1, number
        assert OutboxSignal.objects(organization=it.org_id, name="plan_changed").count() == 1, number
