"""POST /webhook/replay and GET /webhook/replay/{jobId}."""

import json
from datetime import timedelta

import pytest
from redis import Redis

from billing_service.documents import AdminAction, OutboxSignal, Subscription, WebhookEvent, database_now
from billing_service.jobs.dispatch import desk, dispatch
from billing_service.jobs.replay import replay as carry_out
from billing_service.webhooks import handle_due

URL = "/api/admin/billing/webhook/replay"
CREATED = "customer.subscription.created"


@pytest.fixture
def post(client, admin):
    def call(event_id, dry_run=False, headers=None, token=None, **body):
        url = f"{URL}?dryRun=true" if dry_run else URL
        return client.post(url, json={"eventId": event_id} | body, headers=(token or admin) | (headers or {}))

    return call


@pytest.fixture
def status(client, admin):
    return lambda job_id: client.get(f"{URL}/{job_id}", headers=admin)


@pytest.fixture
def stored(stripe, billed):
    """An organization whose row was lost, with the event that made it, in the ledger as `state`."""

    def make(state="dead", kept=True, **fields):
        it = billed(stored=False)
        live = stripe.events.list({"type": CREATED, "limit": 1}).data[0]
        Subscription.objects(organization=it.org_id).update_one(set__plan="free")
        if kept:
            WebhookEvent(
                event_id=live.id,
                type=CREATED,
                api_version=live.api_version,
                livemode=False,
                created=database_now(),
                received_at=database_now(),
                source="delivery",
                payload=json.dumps(live.to_dict(), default=str),
                state=state,
                stripe_customer_id=it.customer,
                stripe_subscription_id=it.subscription,
                organization=it.org_id,
                dead_at=database_now() if state == "dead" else None,
                **fields,
            ).save()
        return it, live.id

    return make


def event(event_id):
    return WebhookEvent.objects(event_id=event_id).first()


def test_it_works(post, status, stored, sandbox):
    it, event_id = stored(reason="handler_failed", attempts=5)
    answer = post(event_id, note="fixed")
    assert answer.status_code == 202, answer.text
    job_id = answer.json["jobId"]
    assert answer.json == {
        "eventId": event_id,
        "jobId": f"replay-{event_id}-1",
        "statusUrl": f"{URL}/{job_id}",
    }
    assert status(job_id).json["state"] == "queued"
    assert carry_out(event_id) == {"end": "applied"}
    told = status(job_id).json
    assert (told["state"], told["outcome"], told["eventState"]) == ("succeeded", "applied", "succeeded")
    assert told["actor"] == "ada@example.com"
    assert (it.plan, it.row.synced_from) == ("pro", "replay")
    assert [(each.phase, each.outcome, each.note) for each in AdminAction.objects(action="replay").order_by("at")] == [
        ("intent", "pending", "fixed"),
        ("outcome", "succeeded", "fixed"),
    ]
    assert event(event_id).history[-1].source == "replay"


def test_a_worker_does_it(post, stored, runtime):
    _, event_id = stored()
    job_id = post(event_id).json["jobId"]
    assert Redis.from_url(runtime.settings.redis_url).exists(f"rq:job:{job_id}")


@pytest.mark.parametrize("lost", [True, False])
def test_redis_may_lose_it(post, status, stored, runtime, lost):
    it, event_id = stored()
    job_id = post(event_id).json["jobId"]
    if lost:
        runtime.redis.client().flushall()
    dispatch()
    assert (status(job_id).json["state"], it.plan) == ("succeeded", "pro")
    assert event(event_id).history[-1].job_id == job_id


def test_it_needs_a_token(client):
    assert client.post(URL, json={}).status_code == 401
    assert client.get(f"{URL}/replay-evt_1-1").status_code == 401


def test_it_needs_the_permission(client, token, post, stored):
    assert post("evt_1", token=token("auditor")).status_code == 403
    assert post("evt_1", token=token("support")).status_code == 404
    assert client.get(f"{URL}/replay-evt_1-1", headers=token("service")).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"eventId": "sub_1"},
        {"eventId": "evt_1\n"},
        {"eventId": {"$gt": ""}},
        {"eventId": "evt_1", "force": "perhaps"},
        {"eventId": "evt_1", "unknown": 1},
        {"eventId": "evt_1", "note": "a\x00b"},
    ],
)
def test_it_rejects_bad_input(client, admin, body):
    assert client.post(URL, json=body, headers=admin).status_code == 422


def test_it_rejects_an_unknown_query_parameter(client, admin):
    assert client.post(f"{URL}?dryrun=true", json={"eventId": "evt_1"}, headers=admin).status_code == 422
    assert client.get(f"{URL}/replay-evt_1-1?x=1", headers=admin).status_code == 422


def test_it_reports_stripe_down(post, stored, sandbox):
    _, event_id = stored()
    sandbox.arm("error", path="/v1/events", times=None)
    answer = post(event_id)
    assert (answer.status_code, answer.json["code"]) == (502, "stripe_unavailable")
    assert event(event_id).state == "dead"


def test_twice_is_once(post, stored):
    it, event_id = stored()
    first = post(event_id, headers={"Idempotency-Key": "k1"})
    again = post(event_id, headers={"Idempotency-Key": "k1"})
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert post(event_id).json["jobId"] == first.json["jobId"]
    carry_out(event_id)
    assert carry_out(event_id) == {"end": None}
    assert event(event_id).replays == 1
    assert OutboxSignal.objects(name="plan_changed", organization=it.org_id).count() == 1


def test_one_that_was_never_received_is_fetched(post, status, stored):
    it, event_id = stored(kept=False)
    assert event(event_id) is None
    job_id = post(event_id).json["jobId"]
    carry_out(event_id)
    assert (status(job_id).json["state"], it.plan, event(event_id).source) == ("succeeded", "pro", "replay")


def test_one_that_stripe_forgot_is_replayed_from_what_was_stored(post, stored, sandbox):
    it, event_id = stored()
    sandbox.remove(event_id)
    assert post(event_id).status_code == 202
    carry_out(event_id)
    assert it.plan == "pro"


def test_one_that_both_forgot_is_expired_and_names_sync(post, stored, sandbox):
    _, event_id = stored()
    sandbox.remove(event_id)
    WebhookEvent.objects(event_id=event_id).update_one(unset__payload=True)
    answer = post(event_id)
    assert (answer.status_code, answer.json["code"]) == (410, "event_expired")
    assert "/sync/" in answer.json["detail"]


def test_an_erased_payload_comes_from_stripe(post, stored):
    it, event_id = stored()
    WebhookEvent.objects(event_id=event_id).update_one(unset__payload=True)
    assert post(event_id).status_code == 202
    carry_out(event_id)
    assert it.plan == "pro"


def test_unknown_to_both(post):
    answer = post("evt_unheard_of")
    assert (answer.status_code, answer.json["code"]) == (404, "event_not_found")


@pytest.mark.parametrize("state", ["received", "failed"])
def test_what_waits_is_taken_up_now(post, stored, state):
    it, event_id = stored(state=state, next_attempt_at=database_now() + timedelta(hours=1))
    assert post(event_id).status_code == 202
    carry_out(event_id)
    assert (it.plan, event(event_id).state) == ("pro", "succeeded")


@pytest.mark.parametrize(("state", "code"), [("succeeded", "already_succeeded"), ("closed", "closed")])
def test_what_is_settled_needs_force(post, stored, state, code):
    it, event_id = stored(state=state, outcome="applied", expires_at=database_now() + timedelta(days=80))
    answer = post(event_id)
    assert (answer.status_code, answer.json["code"]) == (409, code)
    assert post(event_id, dry_run=True).json["code"] == code
    assert event(event_id).state == state
    assert post(event_id, force=True).status_code == 202
    carry_out(event_id)
    assert (it.plan, event(event_id).state) == ("pro", "succeeded")


def test_what_is_being_handled_is_refused(post, stored):
    _, event_id = stored(state="processing", lease_owner="x", lease_until=database_now() + timedelta(minutes=1))
    for force in (False, True):
        answer = post(event_id, force=force)
        assert (answer.status_code, answer.json["code"]) == (409, "event_in_progress")


@pytest.mark.parametrize(("reason", "code"), [("wrong_mode", "wrong_mode"), ("wrong_account", "wrong_account")])
def test_anothers_events_are_refused_whatever(post, stored, reason, code):
    _, event_id = stored(reason=reason)
    answer = post(event_id, force=True)
    assert (answer.status_code, answer.json["code"]) == (409, code)


def test_a_type_without_handler_is_refused(post, stored):
    _, event_id = stored()
    WebhookEvent.objects(event_id=event_id).update_one(set__type="payout.paid")
    answer = post(event_id, force=True)
    assert (answer.status_code, answer.json["code"]) == (422, "no_handler")


def test_a_failed_replay_leaves_it_dead(post, status, stored, sandbox):
    it, event_id = stored(attempts=5)
    sandbox.remove(it.subscription)
    job_id = post(event_id).json["jobId"]
    carry_out(event_id)
    told = status(job_id).json
    assert (told["state"], told["eventState"], told["errorClass"]) == ("failed", "dead", "StripeMissing")
    assert event(event_id).attempts == 6
    second = post(event_id).json["jobId"]
    assert second == f"replay-{event_id}-2"
    assert status(job_id).json["state"] == "failed"


def test_it_waits_for_an_outage_to_end(post, status, stored, sandbox, runtime):
    it, event_id = stored()
    job_id = post(event_id).json["jobId"]
    sandbox.arm("error", path="/v1/subscriptions", times=None)
    carry_out(event_id)
    told = status(job_id).json
    assert (told["state"], bool(told["nextAttemptAt"])) == ("waiting", True)
    assert runtime.redis.client().zcard("rq:scheduler:scheduled_jobs") == 1  # it is woken at its time
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    assert post(event_id).json["jobId"] == job_id  # now, not at its time
    carry_out(event_id)
    assert (status(job_id).json["state"], it.plan) == ("succeeded", "pro")


def test_a_replay_is_never_applied_from_its_payload(post, stored, billed, stripe, sandbox):
    """What the event says may be months old: Stripe is asked."""
    it, event_id = stored()
    stripe.subscriptions.cancel(it.subscription)
    post(event_id)
    carry_out(event_id)
    assert (it.row.status, it.plan) == ("canceled", "free")


@pytest.mark.parametrize("job_id", ["replay-evt_none-1", "nonsense", "replay-evt_1-x", "$where"])
def test_an_unknown_replay(status, job_id):
    answer = status(job_id)
    assert (answer.status_code, answer.json["code"]) == (404, "replay_not_found")


def test_a_dry_run_tells_field_by_field_and_writes_nothing(post, stored, frozen):
    it, event_id = stored()
    with frozen:
        answer = post(event_id, dry_run=True)
    assert answer.status_code == 200, answer.text
    told = answer.json
    assert (told["dryRun"], told["outcome"], told["orgId"]) == (True, "applied", str(it.org_id))
    assert {"field": "plan", "previous": "free", "updated": "pro"} in told["changes"]
    assert {"field": "status", "previous": None, "updated": "active"} in told["changes"]
    assert (told["previous"]["plan"], told["updated"]["plan"]) == ("free", "pro")
    assert told["signals"] == ["plan_changed"]
    assert len(AdminAction.objects) == 0


def test_a_dry_run_tells_that_it_would_fail(post, stored, sandbox, frozen):
    it, event_id = stored()
    sandbox.remove(it.subscription)
    with frozen:
        told = post(event_id, dry_run=True).json
    assert (told["outcome"], told["reason"]) == ("dead", "stripe_missing")
    assert "sync" in told["detail"]


def test_a_pause_does_not_hold_a_replay(post, stored, app):
    from billing_service.webhooks import pauses

    it, event_id = stored()
    pauses.pause(None, by="ada", note=None, now=database_now())
    post(event_id)
    assert sum(handle_due(desk(), stop=lambda: False).values()) == 0
    carry_out(event_id)
    assert it.plan == "pro"
