"""POST /webhook/replay-batch: a dry run selects, its number confirms, workers carry out."""

import threading
import time
from datetime import timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.blueprints.wire import iso
from billing_service.documents import AdminAction, OutboxSignal, ReplayBatch, ReplayItem, WebhookEvent, database_now
from billing_service.jobs.dispatch import desk
from billing_service.jobs.replay_batches import replay_batches
from billing_service.webhooks import batches, ledger, selection

URL = "/api/admin/billing/webhook/replay-batch"
CREATED = "customer.subscription.created"


@pytest.fixture
def select(client, admin):
    """Asks for a dry run; returns the answer."""
    return lambda headers=None, **wanted: client.post(f"{URL}?dryRun=true", json=wanted, headers=headers or admin)


@pytest.fixture
def run(client, admin, select):
    """Selects by a filter and runs the selection; returns the answer."""

    def start(wanted=None, headers=None, **body):
        chosen = select(**(wanted or {})).json
        told = {"selection": chosen["selection"], "confirm": chosen["count"]} | body
        return client.post(URL, json=told, headers=admin | (headers or {}))

    return start


@pytest.fixture
def show(client, admin):
    """How a batch is getting on."""
    return lambda answer: client.get(answer.json["statusUrl"], headers=admin).json


@pytest.fixture
def items(client, admin):
    def read(answer, query=""):
        listed = client.get(f"{answer.json['statusUrl']}/items?{query}", headers=admin)
        assert listed.status_code == 200, listed.json
        return listed.json

    return read


def event(event_id):
    return WebhookEvent.objects(event_id=event_id).first()


def counts(told):
    return {name: told[name] for name in ("succeeded", "failed", "skipped", "refused")}


def test_it_works(select, run, show, items, lost):
    made = lost(3)
    chosen = select(type=CREATED).json
    assert (chosen["dryRun"], chosen["count"], chosen["unfit"], chosen["isLimited"]) == (True, 3, 0, False)
    assert [each["eventId"] for each in chosen["sample"]] == [event_id for _, event_id in made]
    answer = run({"type": CREATED}, note="the plan file is right now")
    assert answer.status_code == 202, answer.json
    assert (answer.json["count"], answer.json["state"]) == (3, "queued")
    assert answer.json["statusUrl"] == f"{URL}/{answer.json['batchId']}"
    told = replay_batches()
    assert told == {"batch_id": answer.json["batchId"], "end": "ended"}
    told = show(answer)
    assert (told["state"], told["total"], told["done"], told["actor"]) == ("succeeded", 3, 3, "ada@example.com")
    assert counts(told) == {"succeeded": 3, "failed": 0, "skipped": 0, "refused": 0}
    assert [it.plan for it, _ in made] == ["pro"] * 3
    assert [(each["eventId"], each["state"], each["outcome"], each["jobId"]) for each in items(answer)["items"]] == [
        (event_id, "succeeded", "applied", f"replay-{event_id}-1") for _, event_id in made
    ]
    assert {event(event_id).history[-1].actor for _, event_id in made} == {"ada@example.com"}
    rows = AdminAction.objects(action="replay_batch").order_by("at")
    assert [(each.phase, each.outcome, each.note) for each in rows] == [
        ("intent", "pending", "the plan file is right now"),
        ("outcome", "succeeded", "the plan file is right now"),
    ]
    assert rows[1].parameters["batch_id"] == answer.json["batchId"]
    assert rows[1].target == f"state=dead type={CREATED}"


def test_a_dry_run_writes_nothing(select, lost, frozen):
    lost(1)
    with frozen:
        assert select().json["count"] == 1
    assert len(AdminAction.objects) == 0


def test_filters_select(select, lost, recorded, dead, runtime):
    lost(2)
    org_id = ObjectId()
    known = {"type": CREATED}
    one = dead(organization=org_id, fingerprint="KeyError: 'a'", reason="organization_conflict", **known)
    waiting = recorded(state="failed", **known)
    recorded(state="received", **known)
    recorded(state="succeeded", **known)
    assert select().json["count"] == 3
    assert select(state="failed").json["sample"][0]["eventId"] == waiting.event_id
    assert select(state="received").json["count"] == 1
    for wanted in (
        {"orgId": str(org_id)},
        {"fingerprint": "KeyError: 'a'"},
        {"reason": "organization_conflict"},
        {"receivedFrom": iso(one.received_at), "receivedTo": iso(one.received_at + timedelta(seconds=1))},
        {"deadFrom": iso(one.dead_at), "deadTo": iso(one.dead_at + timedelta(milliseconds=1))},
    ):
        answer = select(**wanted).json
        assert [each["eventId"] for each in answer["sample"]] == [one.event_id], wanted
    assert select(type="invoice.paid").json["count"] == 0
    limited = select(limit=2).json
    assert (limited["count"], limited["isLimited"], len(limited["sample"])) == (2, True, 2)


def test_what_no_replay_can_help_is_left_out(select, dead):
    dead(type="payout.paid")
    dead(reason="wrong_mode", fingerprint=None)
    answer = select().json
    assert (answer["count"], answer["unfit"], answer["sample"]) == (0, 2, [])


def test_what_died_later_is_not_in_it(client, admin, select, lost, show):
    first = lost(1)
    chosen = select().json
    time.sleep(0.01)
    lost(1)
    answer = client.post(URL, json={"selection": chosen["selection"], "confirm": 1}, headers=admin)
    assert (answer.status_code, answer.json["count"]) == (202, 1)
    replay_batches()
    assert show(answer)["state"] == "succeeded"
    assert first[0][0].plan == "pro"
    assert WebhookEvent.objects(state="dead").count() == 1


def test_it_needs_a_token(client):
    assert client.post(URL, json={}).status_code == 401
    assert client.post(f"{URL}?dryRun=true", json={}).status_code == 401


def test_it_needs_the_permission(token, select):
    assert select(headers=token("auditor")).status_code == 403
    assert select(headers=token("support")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"state": "succeeded"},
        {"state": {"$ne": "dead"}},
        {"type": ""},
        {"type": {"$gt": ""}},
        {"orgId": "x"},
        {"receivedFrom": "now"},
        {"deadFrom": "now"},
        {"deadFrom": "2026-01-01T00:00:00Z", "state": "failed"},
        {"deadTo": "2026-01-01T00:00:00Z", "state": "received"},
        {"limit": 0},
        {"limit": 50_001},
        {"limit": "many"},
        {"fingerprint": "a\x00"},
        {"force": True},
        {"selection": "x"},
        {"confirm": 1},
    ],
)
def test_it_rejects_bad_input(select, body):
    answer = select(**body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"selection", "confirm"}),
        ({"confirm": 1}, {"selection"}),
        ({"selection": "x", "confirm": 0}, {"confirm"}),
        ({"selection": "x", "confirm": 1, "stopAfter": 0}, {"stopAfter"}),
        ({"selection": "x", "confirm": 1, "type": CREATED}, {"type"}),
    ],
)
def test_running_takes_the_selection_and_nothing_else(client, admin, body, fields):
    answer = client.post(URL, json=body, headers=admin)
    assert (answer.status_code, set(answer.json["errors"])) == (422, fields)
    assert len(ReplayBatch.objects) == 0


def test_a_forged_selection_is_refused(client, admin, select, lost):
    lost(1)
    chosen = select(type=CREATED).json["selection"]
    content, mac = chosen.split(".")
    other = select().json["selection"]
    key = selection.key_of("another", "installation")
    foreign = selection.seal(selection.select({}, database_now()), key)
    for forged in (
        content,
        f"{content}.",
        f".{mac}",
        chosen[:-2],
        f"{other.split('.')[0]}.{mac}",
        foreign,
        "ä.ö",
        "a.b.c",
    ):
        answer = client.post(URL, json={"selection": forged, "confirm": 1}, headers=admin)
        assert (answer.status_code, answer.json["code"]) == (422, "selection_invalid"), forged
    assert len(ReplayBatch.objects) == 0


def test_an_old_selection_is_refused(client, admin, lost, runtime):
    lost(1)
    key = selection.key_of(runtime.settings.jwt_secret_key, runtime.settings.stripe_secret_key)
    old = selection.seal(selection.select({}, database_now() - timedelta(minutes=16)), key)
    answer = client.post(URL, json={"selection": old, "confirm": 1}, headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "selection_expired")


def test_a_number_that_is_not_the_count_is_refused(client, admin, select, run, lost):
    made = lost(2)
    answer = run(confirm=3)
    assert (answer.status_code, answer.json["code"]) == (409, "selection_changed")
    assert (answer.json["count"], answer.json["confirmed"]) == (2, 3)
    chosen = select().json
    ledger.close(made[0][1], by="ada", note=None)
    answer = client.post(URL, json={"selection": chosen["selection"], "confirm": 2}, headers=admin)
    assert (answer.status_code, answer.json["count"]) == (409, 1)
    assert (len(ReplayBatch.objects), len(ReplayItem.objects)) == (0, 0)
    assert [each.outcome for each in AdminAction.objects(phase="outcome")] == ["failed", "failed"]


def test_twice_is_once(client, admin, select, run, lost):
    made = lost(2)
    chosen = select().json
    body = {"selection": chosen["selection"], "confirm": 2}
    first = client.post(URL, json=body, headers=admin | {"Idempotency-Key": "k1"})
    again = client.post(URL, json=body, headers=admin | {"Idempotency-Key": "k1"})
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    without_key = client.post(URL, json=body, headers=admin)
    assert (without_key.status_code, without_key.json["batchId"]) == (202, first.json["batchId"])
    replay_batches()
    assert replay_batches() == {"batch_id": None, "end": None}
    assert (len(ReplayBatch.objects), len(ReplayItem.objects)) == (1, 2)
    assert [event(event_id).replays for _, event_id in made] == [1, 1]
    assert OutboxSignal.objects(name="plan_changed").count() == 2


def test_many_at_once_are_one_batch(wired, admin, select, lost):
    lost(3)
    body = {"selection": select().json["selection"], "confirm": 3}
    answers = []

    def post():
        with wired.app_context():
            answers.append(wired.test_client().post(URL, json=body, headers=admin).json)

    threads = [threading.Thread(target=post) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({each["batchId"] for each in answers}) == 1, answers
    assert (len(ReplayBatch.objects), len(ReplayItem.objects)) == (1, 3)


def test_it_reports_stripe_down(run, show, items, lost, sandbox, runtime):
    """Nothing fails for an outage: the batch waits, says for what, and goes on when it is over."""
    made = lost(2)
    answer = run()
    sandbox.arm("error", path="/v1/subscriptions", times=None)
    assert replay_batches()["end"] == "waits"
    told = show(answer)
    assert (told["state"], told["waitingFor"], bool(told["waitingUntil"])) == ("running", "outage", True)
    assert counts(told) == {"succeeded": 0, "failed": 0, "skipped": 0, "refused": 0}
    assert items(answer)["items"][0]["state"] == "asked"
    assert runtime.redis.client().zcard("rq:scheduler:scheduled_jobs") >= 1  # it is woken at its time
    assert replay_batches()["end"] is None  # not before
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    WebhookEvent.objects(state="failed").update(unset__next_attempt_at=True)
    ReplayBatch.objects.update(set__next_at=database_now())
    assert replay_batches()["end"] == "ended"
    told = show(answer)
    assert (told["state"], told["succeeded"], told["waitingFor"]) == ("succeeded", 2, None)
    assert [it.plan for it, _ in made] == ["pro", "pro"]
    assert [event(event_id).replays for _, event_id in made] == [1, 1]


def test_an_event_that_must_be_fetched_waits_for_stripe(run, show, lost, sandbox, runtime):
    ((it, event_id),) = lost(1)
    WebhookEvent.objects(event_id=event_id).update_one(unset__payload=True)
    answer = run()
    sandbox.arm("error", path="/v1/events", times=None)
    assert replay_batches()["end"] == "waits"
    told = show(answer)
    assert (told["waitingFor"], told["failed"]) == ("stripe_unavailable", 0)
    assert event(event_id).state == "dead"
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    ReplayBatch.objects.update(set__next_at=database_now())
    assert replay_batches()["end"] == "ended"
    assert it.plan == "pro"


def test_stripe_is_asked_for_no_event_that_is_stored(run, lost, sandbox):
    lost(2)
    before = len(sandbox.requests(path="/v1/events/"))
    run()
    replay_batches()
    assert len(sandbox.requests(path="/v1/events/")) == before


def test_the_canary_stops_it(run, show, items, lost, sandbox):
    made = lost(3)
    sandbox.remove(made[0][0].subscription)
    answer = run()
    assert replay_batches()["end"] == "ended"
    told = show(answer)
    assert (told["state"], told["stopReason"]) == ("stopped", "canary_failed")
    assert counts(told) == {"succeeded": 0, "failed": 1, "skipped": 0, "refused": 0}
    assert [each["state"] for each in items(answer)["items"]] == ["failed", "pending", "pending"]
    assert items(answer, "state=failed")["items"][0]["errorClass"] == "StripeMissing"
    assert [event(event_id).state for _, event_id in made] == ["dead"] * 3


def test_failures_in_a_row_stop_it(run, show, items, lost, sandbox):
    made = lost(7)
    for place in (1, 3, 4):
        sandbox.remove(made[place][0].subscription)
    answer = run(stopAfter=2)
    replay_batches()
    told = show(answer)
    assert (told["state"], told["stopReason"], told["stopAfter"]) == ("stopped", "failures_in_row", 2)
    states = [each["state"] for each in items(answer)["items"]]
    assert states == ["succeeded", "failed", "succeeded", "failed", "failed", "pending", "pending"]
    signal = OutboxSignal.objects(name="replay_batch_stopped").get()
    names = ("batch_id", "reason", "total", "succeeded", "failed")
    assert [signal.facts[name] for name in names] == [told["batchId"], "failures_in_row", 7, 2, 3]


def test_single_failures_do_not_stop_it(run, show, lost, sandbox):
    made = lost(3)
    sandbox.remove(made[1][0].subscription)
    answer = run()
    replay_batches()
    assert (show(answer)["state"], counts(show(answer))["failed"]) == ("partly_failed", 1)


def test_what_others_did_meanwhile_is_named(run, show, items, lost):
    made = lost(5)
    answer = run()
    names = [event_id for _, event_id in made]
    ledger.close(names[0], by="ada", note=None)
    WebhookEvent.objects(event_id=names[1]).update_one(set__state="succeeded", set__outcome="applied")
    lease = {"set__lease_owner": "x", "set__lease_until": database_now() + timedelta(minutes=1)}
    WebhookEvent.objects(event_id=names[2]).update_one(set__state="processing", **lease)
    WebhookEvent.objects(event_id=names[3]).delete()
    replay_batches()
    found = [(each["state"], each["code"]) for each in items(answer)["items"]]
    assert found == [
        ("skipped", "closed"),
        ("skipped", "already_succeeded"),
        ("skipped", "event_in_progress"),
        # Stripe has it all the same.
        ("succeeded", None),
        ("succeeded", None),
    ]
    assert (show(answer)["state"], show(answer)["skipped"]) == ("succeeded", 3)


def test_what_cannot_be_replayed_any_more_is_refused_by_name(run, items, lost, sandbox):
    ((_, event_id),) = lost(1)
    answer = run()
    WebhookEvent.objects(event_id=event_id).update_one(unset__payload=True)
    sandbox.remove(event_id)
    replay_batches()
    (item,) = items(answer)["items"]
    assert (item["state"], item["code"]) == ("refused", "event_expired")
    assert "sync" in item["errorMessage"]


def test_a_pause_does_not_hold_it(run, show, lost):
    from billing_service.webhooks import pauses

    lost(1)
    pauses.pause(None, by="ada", note=None, now=database_now())
    answer = run()
    replay_batches()
    assert show(answer)["state"] == "succeeded"


def test_a_slice_ends_and_the_next_goes_on(run, show, lost, runtime):
    lost(3)
    answer = run()
    ends = []
    while not ends or ends[-1] == "more":
        batch = batches.claim()
        ends.append(carry_on(batch, stop=lambda: True))
    assert ends == ["more", "more", "ended"]
    assert (show(answer)["state"], ReplayBatch.objects.first().attempt) == ("succeeded", 3)


def carry_on(batch, stop=lambda: False):
    from billing_service.webhooks.batch_items import carry_on as go

    return go(batch, desk(), livemode=False, stop=stop, pause=lambda seconds: time.sleep(0.01))


def test_who_lost_it_writes_nothing(run, lost):
    """A holder that was thought dead, and comes back, asks for no item and counts none."""
    made = lost(3)
    run()
    zombie = batches.claim()
    ReplayBatch.objects.update(set__next_at=database_now())
    new = batches.claim()
    assert (new.pk, new.attempt, new.lease_losses) == (zombie.pk, zombie.attempt + 1, 1)
    assert carry_on(zombie) == "lost"
    assert {event(event_id).state for _, event_id in made} == {"dead"}
    assert carry_on(new) == "ended"
    assert [event(event_id).replays for _, event_id in made] == [1, 1, 1]


def test_two_at_once_ask_for_each_item_once(wired, run, show, lost):
    """The old holder and the new one, side by side."""
    made = lost(8)
    answer = run()
    old = batches.claim()
    ReplayBatch.objects.update(set__next_at=database_now())
    new = batches.claim()
    ends = []

    def go(batch):
        with wired.app_context():
            ends.append(carry_on(batch))

    threads = [threading.Thread(target=go, args=(batch,)) for batch in (old, new)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(ends) == ["ended", "lost"]
    assert show(answer)["succeeded"] == 8
    assert [event(event_id).replays for _, event_id in made] == [1] * 8


def test_one_that_nobody_brings_on_is_stopped(run, show, lost):
    lost(1)
    answer = run()
    for _ in range(batches.LEASE_LOSSES + 1):
        batches.claim()
        ReplayBatch.objects.update(set__next_at=database_now())
    replay_batches()
    assert (show(answer)["state"], show(answer)["stopReason"]) == ("stopped", "lease_losses")


def test_dispatch_may_be_faster(run, show, items, lost):
    """What the batch has asked for is due for everybody: whoever handles it, its result is the item's."""
    from billing_service.webhooks import handle_due

    ((_, event_id),) = lost(1)
    answer = run()
    assert ledger.ask_replay(event(event_id), actor="bob", states=("dead",)) == f"replay-{event_id}-1"
    assert handle_due(desk(), stop=lambda: False)["applied"] == 1
    replay_batches()
    assert [(each["state"], each["code"]) for each in items(answer)["items"]] == [("skipped", "already_succeeded")]
    assert show(answer)["state"] == "succeeded"


def test_thirty_thousand_are_frozen(client, admin, run, items, app):
    now = database_now()
    rows = [
        {
            "event_id": f"evt_many{number}",
            "type": CREATED,
            "created": now - timedelta(seconds=30_000 - number),
            "received_at": now,
            "dead_at": now,
            "source": "delivery",
            "payload": "{}",
            "state": "dead",
            "attempts": 5,
        }
        for number in range(30_000)
    ]
    WebhookEvent._get_collection().insert_many(rows)
    answer = run()
    assert (answer.status_code, answer.json["count"]) == (202, 30_000)
    assert ReplayItem.objects(batch=answer.json["batchId"]).count() == 30_000
    first = items(answer, "limit=2")
    assert [each["eventId"] for each in first["items"]] == ["evt_many0", "evt_many1"]
    last = items(answer, "limit=100&cursor=after-29998")
    assert ([each["position"] for each in last["items"]], last["nextCursor"]) == ([29_999], None)
    largest = get_db().replay_batches.aggregate([{"$project": {"bytes": {"$bsonSize": "$$ROOT"}}}])
    assert next(largest)["bytes"] < 2_000
