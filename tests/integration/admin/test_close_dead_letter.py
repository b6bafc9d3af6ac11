"""DELETE /api/admin/billing/dead-letters/{eventId}"""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from bson import ObjectId

from billing_service.documents import AdminAction, AdminOperation, WebhookEvent, database_now
from billing_service.operations import DEAD_AFTER, LEASE, settle_lapsed

URL = "/api/admin/billing/dead-letters/"


def now_stored(event):
    return WebhookEvent.objects(event_id=event.event_id).first()


def test_it_works(client, admin, dead):
    event = dead(organization=ObjectId())
    answer = client.delete(f"{URL}{event.event_id}?note=a test of ours", headers=admin)
    assert answer.status_code == 200
    stored = now_stored(event)
    assert (stored.state, stored.closed.by, stored.closed.note) == ("closed", "ada@example.com", "a test of ours")
    assert (stored.payload, stored.expires_at - stored.closed.at) == (event.payload, timedelta(days=90))
    closed = answer.json.pop("closed")
    assert (closed["by"], closed["note"]) == ("ada@example.com", "a test of ours")
    assert answer.json["purged"] is True
    assert (answer.json["eventId"], answer.json["state"]) == (event.event_id, "closed")
    assert answer.json["changed"] == ["state", "closed", "expiresAt"]
    assert client.get(URL.rstrip("/"), headers=admin).json["total"] == 0


def test_it_is_told_in_the_audit_log(client, admin, dead):
    event = dead(organization=ObjectId())
    client.delete(f"{URL}{event.event_id}?note=why", headers=admin)
    intent, outcome = AdminAction.objects(action="close_dead_letter").order_by("id")
    assert (intent.phase, intent.outcome, outcome.phase, outcome.outcome) == (
        "intent",
        "pending",
        "outcome",
        "succeeded",
    )
    for row in (intent, outcome):
        assert (row.target, row.organization, row.note) == (event.event_id, event.organization, "why")
        assert row.actor == "ada@example.com"
    listed = client.get(f"/api/admin/billing/audit?orgId={event.organization}", headers=admin)
    assert listed.json["total"] == 2


def test_twice_is_once(client, admin, token, dead):
    event = dead()
    first = client.delete(f"{URL}{event.event_id}?note=first", headers=admin)
    again = client.delete(f"{URL}{event.event_id}?note=second", headers=token("admin", actor="bob"))
    assert (again.status_code, again.json["purged"], again.json["changed"]) == (200, True, [])
    assert again.json["closed"] == first.json["closed"]
    assert now_stored(event).closed.note == "first"


def test_the_same_key_gives_the_same_answer(client, admin, dead):
    event, other = dead(), dead()
    headers = admin | {"Idempotency-Key": "k1"}
    first = client.delete(f"{URL}{event.event_id}?note=a", headers=headers)
    again = client.delete(f"{URL}{event.event_id}?note=a", headers=headers)
    assert (again.json, again.headers["Idempotency-Replayed"]) == (first.json, "true")
    assert AdminAction.objects(action="close_dead_letter").count() == 2
    mismatch = client.delete(f"{URL}{other.event_id}", headers=headers)
    assert (mismatch.status_code, mismatch.json["code"]) == (422, "idempotency_mismatch")
    assert now_stored(other).state == "dead"


def test_a_dry_run_writes_nothing(client, admin, dead, frozen):
    event = dead()
    with frozen:
        answer = client.delete(f"{URL}{event.event_id}?dryRun=true", headers=admin)
    assert (answer.status_code, answer.json["dryRun"], answer.json["purged"]) == (200, True, True)
    assert answer.json["changed"] == ["state", "closed", "expiresAt"]
    assert len(AdminAction.objects) == 0


@pytest.mark.parametrize("state", ["received", "processing", "failed", "succeeded"])
@pytest.mark.parametrize("query", ["", "?dryRun=true"])
def test_one_that_is_not_dead_is_refused(client, admin, recorded, frozen, state, query):
    event = recorded(state=state)
    with frozen:
        answer = client.delete(f"{URL}{event.event_id}{query}", headers=admin)
    assert (answer.status_code, answer.json["code"], answer.json["state"]) == (409, "not_dead", state)
    assert AdminAction.objects(outcome="failed").count() == (0 if query else 1)


@pytest.mark.parametrize("query", ["", "?dryRun=true"])
def test_an_unknown_one_is_404(client, admin, frozen, query):
    with frozen:
        answer = client.delete(f"{URL}evt_unknown{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "event_not_found")


def test_a_refusal_is_not_the_keys_answer_for_ever(client, admin, dead):
    event = dead(state="processing")
    headers = admin | {"Idempotency-Key": "k1"}
    assert client.delete(URL + event.event_id, headers=headers).status_code == 409
    WebhookEvent.objects(event_id=event.event_id).update_one(set__state="dead")
    # Not a conflict that passes by itself: the same key gives the same refusal, a new one closes.
    assert client.delete(URL + event.event_id, headers=headers).status_code == 409
    assert client.delete(URL + event.event_id, headers=admin).status_code == 200


def test_a_note_is_demanded_where_it_is_required(app, client, admin, dead):
    event = dead()
    billing = app.extensions["billing"]
    app.extensions["billing"] = replace(billing, settings=replace(billing.settings, require_note=True))
    try:
        refused = client.delete(URL + event.event_id, headers=admin)
        assert (refused.status_code, list(refused.json["errors"])) == (422, ["note"])
        assert now_stored(event).state == "dead"
        assert client.delete(f"{URL}{event.event_id}?note=x", headers=admin).status_code == 200
    finally:
        app.extensions["billing"] = billing


def test_it_needs_a_token(client, dead, frozen):
    event = dead()
    with frozen:
        assert client.delete(URL + event.event_id).status_code == 401


@pytest.mark.parametrize("role", ["support", "auditor", "service"])
def test_it_needs_the_permission(client, token, dead, frozen, role):
    event = dead()
    with frozen:
        answer = client.delete(URL + event.event_id, headers=token(role))
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "query",
    [
        "nota=x",
        "note=",
        "note=a%00b",
        "note[$ne]=x",
        "note=" + "a" * 1001,
        "dryRun=maybe",
        "note=a&note=b",
        "force=true",
    ],
)
def test_it_rejects_bad_input(client, admin, dead, frozen, query):
    event = dead()
    with frozen:
        answer = client.delete(f"{URL}{event.event_id}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"]


def test_a_body_is_refused_lest_its_note_be_lost(client, admin, dead, frozen):
    event = dead()
    with frozen:
        answer = client.delete(URL + event.event_id, headers=admin, json={"note": "why"})
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["body"])
    assert client.delete(URL + event.event_id, headers=admin, json={}).status_code == 200


@pytest.mark.parametrize("event_id", ["x", "evt_%24ne", "evt_a%00", "5" * 24])
def test_a_malformed_id_is_refused(client, admin, frozen, event_id):
    with frozen:
        answer = client.delete(URL + event_id, headers=admin)
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["eventId"])
    assert len(AdminOperation.objects) == 0


def test_many_at_once_close_it_once(app, token, dead):
    event = dead()
    answers = []
    tokens = [token("admin", actor=f"admin-{number}") for number in range(6)]

    def close(number):
        headers = tokens[number]
        answers.append(app.test_client().delete(f"{URL}{event.event_id}?note=n{number}", headers=headers))

    threads = [threading.Thread(target=close, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.status_code for each in answers] == [200] * 6
    assert sum(bool(each.json["changed"]) for each in answers) == 1
    assert {each.json["closed"]["by"] for each in answers} == {now_stored(event).closed.by}


def test_a_replay_that_has_taken_it_up_is_not_closed_under_it(client, admin, dead, frozen):
    event = dead(state="processing", returns_to="dead", lease_owner="w1", lease_until=database_now())
    with frozen:
        answer = client.delete(URL + event.event_id, headers=admin)
    assert (answer.status_code, answer.json["state"]) == (409, "processing")


def test_an_operation_that_died_half_way_is_settled_and_can_be_resumed(client, admin, dead, runtime):
    """Its target is an event: nothing may take it for an organization."""
    event = dead(organization=ObjectId())
    headers = admin | {"Idempotency-Key": "k1"}
    assert client.delete(URL + event.event_id, headers=headers).status_code == 200
    long_ago = runtime.clock() - LEASE - DEAD_AFTER - timedelta(minutes=1)
    AdminOperation.objects.update(
        set__state="started", set__stored=False, set__lease_until=long_ago, unset__answer=True
    )
    assert settle_lapsed(clock=runtime.clock) == 1
    assert AdminOperation.objects.first().state == "failed"
    assert AdminAction.objects.order_by("-id").first().target == event.event_id
    resumed = client.delete(URL + event.event_id, headers=headers)
    assert (resumed.status_code, resumed.json["changed"]) == (200, [])
