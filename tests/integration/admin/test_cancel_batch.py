"""POST /webhook/replay-batch/{batchId}/cancel"""

import time

import pytest

from billing_service.documents import AdminAction, ReplayBatch, ReplayItem, WebhookEvent, database_now
from billing_service.jobs.dispatch import desk
from billing_service.jobs.replay_batches import replay_batches
from billing_service.webhooks import batches, handle_due
from billing_service.webhooks.batch_items import carry_on

URL = "/api/admin/billing/webhook/replay-batch"


@pytest.fixture
def begun(client, admin, lost):
    """Begins a batch of lost organizations; returns its id and them."""

    def begin(count=3):
        made = lost(count)
        chosen = client.post(f"{URL}?dryRun=true", json={}, headers=admin).json
        body = {"selection": chosen["selection"], "confirm": chosen["count"]}
        return client.post(URL, json=body, headers=admin).json["batchId"], made

    return begin


@pytest.fixture
def cancel(client, admin):
    def post(batch_id, query="", headers=None, token=None, **body):
        url = f"{URL}/{batch_id}/cancel{query}"
        return client.post(url, json=body, headers=(token or admin) | (headers or {}))

    return post


@pytest.fixture
def show(client, admin):
    return lambda batch_id: client.get(f"{URL}/{batch_id}", headers=admin).json


def one_item(batch):
    return carry_on(batch, desk(), livemode=False, stop=lambda: True, pause=time.sleep)


def test_it_works(begun, cancel, show):
    batch_id, made = begun()
    assert one_item(batches.claim()) == "more"
    answer = cancel(batch_id, note="the wrong filter")
    assert answer.status_code == 200, answer.json
    assert (answer.json["state"], answer.json["changed"]) == ("cancelling", ["state"])
    assert replay_batches() == {"batch_id": batch_id, "end": "ended"}
    told = show(batch_id)
    assert (told["state"], told["done"], told["cancelledBy"]) == ("cancelled", 1, "ada@example.com")
    assert [it.plan for it, _ in made] == ["pro", "free", "free"]
    assert [each.state for each in ReplayItem.objects.order_by("position")] == ["succeeded", "pending", "pending"]
    rows = AdminAction.objects(action="cancel_replay_batch").order_by("at")
    assert [(each.phase, each.outcome, each.note) for each in rows] == [
        ("intent", "pending", "the wrong filter"),
        ("outcome", "succeeded", "the wrong filter"),
    ]


def test_one_that_nobody_has_begun_ends_at_once(begun, cancel, show):
    batch_id, made = begun()
    assert cancel(batch_id).json["state"] == "cancelled"
    assert replay_batches()["end"] is None
    assert show(batch_id)["endedAt"]
    assert WebhookEvent.objects(state="dead").count() == len(made)


def test_its_holder_begins_no_other_item(begun, cancel, show):
    """The cancel arrives while a worker holds the batch, and is between two items."""
    batch_id, _ = begun()
    batch = batches.claim()
    assert cancel(batch_id).json["state"] == "cancelling"
    assert carry_on(batch, desk(), livemode=False, stop=lambda: False, pause=time.sleep) == "ended"
    assert (show(batch_id)["state"], show(batch_id)["done"]) == ("cancelled", 0)


def test_what_waits_for_an_outage_is_left_to_the_ledger(begun, cancel, show, sandbox, runtime):
    batch_id, made = begun()
    sandbox.arm("error", path="/v1/subscriptions", times=None)
    assert replay_batches()["end"] == "waits"
    assert cancel(batch_id).json["state"] == "cancelling"
    assert replay_batches()["end"] == "ended"  # at once, not when the outage may be over
    assert show(batch_id)["state"] == "cancelled"
    assert [each.state for each in ReplayItem.objects.order_by("position")] == ["left", "pending", "pending"]
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    WebhookEvent.objects(state="failed").update(unset__next_attempt_at=True)
    assert handle_due(desk(), stop=lambda: False)["applied"] == 1
    assert [it.plan for it, _ in made] == ["pro", "free", "free"]


def test_twice_is_once(begun, cancel):
    batch_id, _ = begun()
    first = cancel(batch_id, headers={"Idempotency-Key": "k1"})
    assert cancel(batch_id, headers={"Idempotency-Key": "k1"}).json == first.json
    again = cancel(batch_id)
    assert (again.status_code, again.json["state"], again.json["changed"]) == (200, "cancelled", [])


def test_an_ended_one_is_refused(begun, cancel):
    batch_id, _ = begun(1)
    replay_batches()
    for query in ("", "?dryRun=true"):
        answer = cancel(batch_id, query)
        assert (answer.status_code, answer.json["code"], answer.json["state"]) == (409, "batch_ended", "succeeded")


def test_a_dry_run_writes_nothing(begun, cancel, frozen):
    batch_id, _ = begun(1)
    with frozen:
        answer = cancel(batch_id, "?dryRun=true")
    assert (answer.json["dryRun"], answer.json["state"], answer.json["changed"]) == (True, "queued", ["state"])


def test_one_whose_worker_died_ends_when_its_lease_has_run_out(begun, cancel, show):
    batch_id, _ = begun()
    batches.claim()
    cancel(batch_id)
    assert replay_batches()["end"] is None
    ReplayBatch.objects.update(set__next_at=database_now())
    assert replay_batches()["end"] == "ended"
    assert show(batch_id)["state"] == "cancelled"


def test_it_needs_a_token(client):
    assert client.post(f"{URL}/{'6' * 24}/cancel").status_code == 401


def test_it_needs_the_permission(cancel, token):
    assert cancel("6" * 24, token=token("auditor")).status_code == 403
    assert cancel("6" * 24, token=token("support")).status_code == 404


@pytest.mark.parametrize(("batch_id", "body"), [("x", {}), ("6" * 24, {"force": True}), ("6" * 24, {"note": "a\x00"})])
def test_it_rejects_bad_input(cancel, batch_id, body):
    answer = cancel(batch_id, **body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
