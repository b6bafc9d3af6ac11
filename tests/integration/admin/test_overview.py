"""GET /api/admin/billing/overview"""

from datetime import timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.documents import AdminOperation, DispatchPause, Finding, JobRun, WebhookEvent
from billing_service.jobs import runs, wakeups
from billing_service.jobs.schedule import SCHEDULE

URL = "/api/admin/billing/overview"


@pytest.fixture(autouse=True)
def redis_may_be_asked():
    wakeups.silence.end()


def show(client, headers):
    answer = client.get(URL, headers=headers)
    assert answer.status_code == 200, answer.json
    return answer.json


def test_it_works(client, admin):
    shown = show(client, admin)
    assert shown["events"] == {
        "oldestUnhandled": None,
        "deadLetters": 0,
        "deadLettersAreCapped": False,
        "newestDeadAt": None,
        "lastDeliveryAt": None,
        "paused": [],
    }
    assert shown["stripe"]["mode"] == "test"
    assert shown["stripe"]["circuit"] == "closed"
    assert shown["openFindings"] == dict.fromkeys(("critical", "high", "medium", "low", "info"), 0)
    assert (shown["unknownOperations"], shown["unknownRefunds"], len(shown["hours"]["items"])) == (0, 0, 24)
    assert [each["job"] for each in shown["jobs"]] == [row.job for row in SCHEDULE]
    assert shown["redis"] == {
        "queues": [{"name": name, "waiting": 0} for name in ("webhooks", "admin", "batch")],
        "workers": 0,
    }


def test_it_shows_what_waits_and_what_is_dead(client, admin, recorded, dead, runtime):
    now = runtime.clock()
    recorded(state="failed", received_at=now - timedelta(minutes=3))
    oldest = recorded(received_at=now - timedelta(minutes=90), source="missed")
    recorded(state="succeeded", received_at=now - timedelta(hours=5))
    letters = [dead(received_at=now - timedelta(hours=2)) for _ in range(3)]
    events = show(client, admin)["events"]
    assert events["oldestUnhandled"]["eventId"] == oldest.event_id
    assert 5_400 <= events["oldestUnhandled"]["age"] < 5_460
    assert (events["deadLetters"], events["deadLettersAreCapped"]) == (3, False)
    assert events["newestDeadAt"] == letters[-1].reload().dead_at.isoformat(timespec="milliseconds").replace(
        "+00:00", "Z"
    )
    assert events["lastDeliveryAt"][:16] == (now - timedelta(minutes=3)).isoformat()[:16]


def test_it_counts_the_hours_by_state(client, admin, recorded, dead, runtime):
    now = runtime.clock().replace(minute=30)
    for hours in (0, 0, 3):
        recorded(state="succeeded", received_at=now - timedelta(hours=hours))
    dead(received_at=now - timedelta(hours=3))
    recorded(state="succeeded", received_at=now - timedelta(hours=30))
    hours = show(client, admin)["hours"]
    assert hours["isCapped"] is False
    assert [each["succeeded"] for each in hours["items"]] == [0] * 20 + [1, 0, 0, 2]
    assert [each["dead"] for each in hours["items"]] == [0] * 20 + [1, 0, 0, 0]
    assert hours["items"][-1]["at"] == now.strftime("%Y-%m-%dT%H:00:00.000Z")


def test_it_shows_pauses_with_what_waits(client, admin, recorded, runtime):
    DispatchPause(type="invoice.paid", since=runtime.clock(), by="ada", note="bad deploy").save()
    recorded(type="invoice.paid")
    recorded()
    [paused] = show(client, admin)["events"]["paused"]
    assert (paused["type"], paused["by"], paused["note"], paused["waiting"]) == ("invoice.paid", "ada", "bad deploy", 1)


def test_it_counts_open_findings_by_severity(client, admin, runtime):
    now = runtime.clock()
    for state, severity in (("open", "high"), ("open", "high"), ("open", "info"), ("acknowledged", "critical")):
        Finding(
            fingerprint=str(ObjectId()),
            kind="plan",
            severity=severity,
            first_seen_at=now,
            last_seen_at=now,
            state=state,
        ).save()
    assert show(client, admin)["openFindings"] == {"critical": 0, "high": 2, "medium": 0, "low": 0, "info": 1}


def test_it_counts_what_nobody_has_seen_yet(client, admin, runtime):
    now = runtime.clock()
    for state in ("unknown", "done"):
        AdminOperation(
            kind="cancel",
            target="5" * 24,
            actor="ada",
            route="x",
            body_hash="x",
            state=state,
            lease_until=now,
            created_at=now,
            next_check_at=now if state == "unknown" else None,
        ).save()
    assert show(client, admin)["unknownOperations"] == 1


def test_it_shows_the_last_run_of_each_job(client, admin):
    runs.claim("dunning", "20261124T0300")
    runs.claim("dunning", "20261125T0300")
    JobRun.objects(slot="20261125T0300").update_one(set__state="failed", set__error="ValueError: no sum")
    shown = {each["job"]: each for each in show(client, admin)["jobs"]}
    last = shown["dunning"]["last"]
    assert (last["slot"], last["state"], last["error"]) == ("20261125T0300", "failed", "ValueError: no sum")
    assert shown["sweep"]["last"] is None
    assert shown["dunning"]["nextAt"][10:] == "T03:00:00.000Z"


def test_it_says_when_redis_is_away(client, admin, servers):
    servers.redis.kill()
    try:
        shown = show(client, admin)
    finally:
        servers.redis.start()
    assert shown["redis"] is None
    assert shown["events"]["deadLetters"] == 0


def test_it_reports_stripe_down(client, admin, runtime):
    for _ in range(5):
        runtime.stripe.circuit.failed()
    try:
        assert show(client, admin)["stripe"]["circuit"] == "open"
    finally:
        runtime.stripe.circuit.succeeded()


def test_it_reads_by_index(client, admin, runtime):
    now = runtime.clock()
    states = ["succeeded"] * 96 + ["dead"] * 3 + ["failed"]
    rows = [
        {
            "event_id": f"evt_{n}",
            "type": "invoice.paid",
            "state": states[n % 100],
            "source": "delivery",
            "received_at": now - timedelta(minutes=n),
            "created": now,
            "dead_at": now - timedelta(minutes=n) if states[n % 100] == "dead" else None,
            "payload": "x" * 100,
        }
        for n in range(8_000)
    ]
    WebhookEvent._get_collection().insert_many(rows)
    database = get_db()
    database.command("profile", 2)
    show(client, admin)
    database.command("profile", 0)
    seen = list(database.system.profile.find({"ns": {"$ne": f"{database.name}.system.profile"}}))
    database.system.profile.drop()
    read = [each for each in seen if "planSummary" in each]
    assert len(read) >= 8
    scans = [each["command"] for each in read if "COLLSCAN" in each["planSummary"]]
    assert scans == []
    # One document for each of oldest and newest, a hundred to find the last delivery among; all counts are of keys.
    assert sum(each["docsExamined"] for each in read if each["ns"].endswith("webhook_events")) <= 103


def test_it_looks_for_the_last_delivery_among_the_newest_only(client, admin, runtime):
    now = runtime.clock()
    rows = [
        {
            "event_id": f"evt_{n}",
            "type": "invoice.paid",
            "state": "succeeded",
            "source": "missed" if n < 3_000 else "delivery",
            "received_at": now - timedelta(seconds=n),
            "created": now,
            "payload": "x" * 100,
        }
        for n in range(4_000)
    ]
    WebhookEvent._get_collection().insert_many(rows)
    database = get_db()
    database.command("profile", 2)
    assert show(client, admin)["events"]["lastDeliveryAt"] is None
    database.command("profile", 0)
    seen = list(database.system.profile.find({"ns": f"{database.name}.webhook_events"}))
    database.system.profile.drop()
    assert sum(each["docsExamined"] for each in seen if "planSummary" in each) <= 1_050
    WebhookEvent.objects(source="missed", received_at__lt=now - timedelta(seconds=700)).update(set__source="delivery")
    at = show(client, admin)["events"]["lastDeliveryAt"]
    assert at == (now - timedelta(seconds=701)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_it_needs_a_token(client):
    assert client.get(URL).status_code == 401


def test_it_needs_the_permission(client, token):
    assert client.get(URL, headers=token("service")).status_code == 403
    assert client.get(URL, headers=token("auditor")).status_code == 200


def test_it_rejects_bad_input(client, admin):
    answer = client.get(f"{URL}?hours=48", headers=admin)
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["hours"])
