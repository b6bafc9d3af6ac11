"""Two versions side by side, as an upgrade has them for a while: rows, names and jobs of the one are met by the other.

Every row of a running product is made what an earlier version would have left (without the fields that came later) and
what a later one will leave (with fields that nobody knows yet), beside names of the future: signals, jobs, conditions.
"""

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pymongo
import pytest
import redis
import requests
import stripe as sdk
from bson import ObjectId
from rq import Queue

from billing_service.outbox.sending import UNKNOWN_NAME
from billing_service.sandbox import demo

LATER = {"of": "another version", "at": [1, 2]}
# Fields that came after the first version of their collection.
NEWER = {
    "subscriptions": ["seen_until"],
    "webhook_events": ["erased_at", "learned", "replays", "dead_version"],
    "admin_actions": ["parameters"],
    "admin_operations": ["pursued", "request_id", "role", "note", "organization"],
    "outbox": ["sent_to", "last_error", "failing_since", "lease_owner"],
    "findings": ["acknowledged_at", "acknowledged_by", "acknowledged_note", "money_at_risk", "run"],
    "job_runs": ["part", "cursor", "summary"],
    "ledger_entries": ["failed_refunds", "looks"],
}
EMBEDDED = ("override", "candidates", "history", "replay", "closed", "windows", "window")
JOB, SIGNAL = "polish_invoices", "invoice_polished"
# It starts everything: nightly. That each document reads what it does not know is a unit test (test_house.py).
pytestmark = pytest.mark.skipif(os.environ.get("BILLING_TESTS") != "long", reason="starts it all: BILLING_TESTS=long")
IDS = {each.slug: each.id for each in demo.ORGANIZATIONS}
IN_SYNC, LOST, REFUNDED = IDS["aldergate-logistics"], IDS["fjord-cartography"], IDS["brightwater-analytics"]


@pytest.fixture(scope="module")
def running(start):
    with start(RECONCILE_CONFIRM_SECONDS="1") as it:
        yield it


@pytest.fixture(scope="module")
def database(running):
    with pymongo.MongoClient(running.told["mongodbUri"], tz_aware=True) as client:
        yield client.get_default_database("billing")


@pytest.fixture(scope="module")
def mixed(running, database):
    """All rows of two versions; returns their ids by collection."""
    compare(running)
    bump(running, "starter")
    bump(running, None)
    found = {}
    for name in database.list_collection_names():
        for row in database[name].find():
            lacks = dict.fromkeys(NEWER.get(name, ()), "")
            gets = {"later": LATER} | {each: aged(row[each]) for each in EMBEDDED if row.get(each)}
            database[name].update_one({"_id": row["_id"]}, {"$set": gets} | ({"$unset": lacks} if lacks else {}))
            found.setdefault(name, []).append(row["_id"])
    assert sum(map(len, found.values())) > 200
    return found


@pytest.fixture(scope="module")
def lengths(running, mixed):
    """How long each log was when the rows became mixed: before that the demo data had their dead letters made."""
    return {log: len(log.read_bytes()) for log in logs(running)}


def logs(running):
    return [log for log in (running.ready.parent / "data").rglob("*.log") if log.stem in ("web", "worker", "scheduler")]


def aged(value):
    if isinstance(value, list):
        return [aged(each) for each in value]
    return value | {"later": LATER} if isinstance(value, dict) else value


def compare(running):
    asked = running.post("reconcile").json()
    done = wait(lambda: shown(running, asked["statusUrl"]), lambda run: run["state"] != "running", 60)
    assert done["state"] == "completed", done
    return done


def bump(running, plan):
    url, body = f"{running.url}/api/admin/billing/plans/bump", {"orgId": LOST, "planId": plan, "note": "for now"}
    answer = requests.patch(url, json=body, headers=running.headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(running, path):
    answer = requests.get(f"{running.url}{path}", headers=running.headers, timeout=30)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json() if "json" in answer.headers["Content-Type"] else answer.text


def wait(look, good, seconds=30):
    deadline = time.monotonic() + seconds
    while not good(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def command(running, *arguments):
    """Exit code and output of a command of the operator's."""
    told = running.told
    environment = {
        "MONGODB_URI": told["mongodbUri"],
        "REDIS_URL": told["redisUrl"],
        "STRIPE_API_BASE": told["stripeApiBase"],
        "STRIPE_SECRET_KEY": told["stripeSecretKey"],
        "STRIPE_WEBHOOK_SECRETS": told["webhookSecret"],
        "JWT_SECRET_KEY": "not used by these commands, but needed to start",
    }
    done = subprocess.run(
        [sys.executable, "-m", "billing_service.cli", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_whatever_can_be_read_is_read(running, database, mixed, lengths):
    base = "/api/admin/billing"
    event = database.webhook_events.find_one({"state": "dead"})["event_id"]
    of = {
        f"{base}/customer/{{orgId}}": [f"{base}/customer/{each}" for each in IDS.values()],
        f"{base}/timeline/{{orgId}}": [f"{base}/timeline/{each}" for each in IDS.values()],
        f"{base}/events/{{eventId}}": [f"{base}/events/{event}"],
        f"{base}/findings/{{findingId}}": [f"{base}/findings/{mixed['findings'][0]}"],
        f"{base}/reconciliations/{{reconciliationId}}": [f"{base}/reconciliations/{mixed['reconciliation_runs'][0]}"],
        f"{base}/search": [f"{base}/search?q=fjord"],
        f"{base}/charges": [f"{base}/charges?orgId={REFUNDED}"],
        "/api/billing/entitlements/{orgId}": [f"/api/billing/entitlements/{each}" for each in IDS.values()],
    }
    left = []
    for path, methods in shown(running, "/api/openapi.json")["paths"].items():
        if "get" in methods and not path.startswith("/api/auth"):
            for each in of.get(path) or ([] if "{" in path else [path]):
                shown(running, each)
            left += [path] if "{" in path and path not in of else []
    # Of replays there are none yet.
    assert all("/webhook/replay" in path for path in left), left
    assert "billing_mongodb_up 1" in shown(running, "/metrics")
    code, said = command(running, "doctor")
    assert code in (0, 1), said


def test_whatever_can_be_written_is_written(running, database, mixed):
    assert running.sync(LOST).json()["changed"]
    assert shown(running, f"/api/admin/billing/customer/{LOST}")["verdict"] == "in_sync"
    assert bump(running, "starter")["plan"] == "starter"
    charge = next(
        each["id"]
        for each in shown(running, f"/api/admin/billing/charges?orgId={REFUNDED}")["items"]
        if each["amountRefundable"] > 100
    )
    refund = {"chargeId": charge, "amountCents": 100, "refundRequestId": "of-two-versions"}
    assert running.post("refund", refund).json()["state"] in ("accepted", "succeeded")
    finding = database.findings.find_one({"state": "open"})
    until = (datetime.now(UTC) + timedelta(days=7)).isoformat(timespec="seconds")
    assert running.post(f"findings/{finding['_id']}/acknowledge", {"until": until}).status_code == 200
    assert compare(running)["checked"] > 5


def test_events_are_handled_by_the_worker(running, database, mixed):
    told = running.told
    stripe = sdk.StripeClient(told["stripeSecretKey"], base_addresses={"api": told["stripeApiBase"]}).v1
    row = database.subscriptions.find_one({"organization": ObjectId(IN_SYNC)})
    stripe.subscriptions.update(row["stripe_subscription_id"], {"cancel_at_period_end": True})
    wait(lambda: database.subscriptions.find_one({"_id": row["_id"]}), lambda now: now["cancel_at_period_end"])
    letter = database.webhook_events.find_one({"state": "dead", "type": re.compile("subscription.deleted")})
    asked = running.post("webhook/replay", {"eventId": letter["event_id"]})
    assert asked.status_code == 202, asked.text
    replayed = wait(lambda: shown(running, asked.json()["statusUrl"]), lambda now: now["state"] == "succeeded")
    assert replayed["outcome"] in ("applied", "superseded")


def test_names_of_a_later_version_wait_for_it(running, database, mixed):
    now = datetime.now(UTC)
    due = {"attempts": 0, "created_at": now, "next_attempt_at": now, "facts": {}, "later": LATER}
    database.outbox.insert_one({"key": "of the future", "name": SIGNAL} | due)
    claimed = {"attempt": 1, "state": "claimed", "claimed_at": now, "lease_until": now - timedelta(minutes=5)}
    database.job_runs.insert_one({"job": JOB, "slot": "20260101T0000"} | claimed)
    holds = {"condition": "glare", "since": now, "seen_at": now, "told": True}
    database.open_alerts.insert_one({"_id": "glare:"} | holds)
    with redis.Redis.from_url(running.told["redisUrl"]) as client:
        queue = Queue("admin", connection=client)
        unknown = queue.enqueue(f"billing_service.jobs.{JOB}.{JOB}", failure_ttl=60)
        tick = queue.enqueue("billing_service.jobs.tick.tick", JOB)
        sweep = queue.enqueue("billing_service.jobs.sweep.sweep")
        wait(sweep.get_status, lambda state: state == "finished")
        assert [each for each in sweep.return_value().values() if not isinstance(each, int)] == []
        assert (unknown.get_status(), tick.return_value()) == ("failed", False)
    signal = wait(lambda: database.outbox.find_one({"name": SIGNAL}), lambda row: row["attempts"])
    assert (signal["last_error"], signal.get("sent_at")) == (UNKNOWN_NAME, None)
    assert signal["next_attempt_at"] > now
    run = database.job_runs.find_one({"job": JOB}, {"_id": 0, "job": 0, "slot": 0})
    assert run["state"] == "claimed"
    assert run["attempt"] == 1
    assert database.open_alerts.find_one({"_id": "glare:"})
    recovered = database.outbox.count_documents({"name": "recovered", "facts.alert": "glare"})
    assert recovered == 0


def test_nothing_of_the_later_version_was_lost(running, database, mixed):
    """After all of the above: what this version wrote took nothing from a row that it did not know."""
    for name, ids in mixed.items():
        lost = list(database[name].find({"_id": {"$in": ids}, "later": {"$ne": LATER}}))
        assert lost == [], name
    kept = database.subscriptions.count_documents({"later": LATER, "version": {"$gt": 1}})
    assert kept > 3


def test_no_process_ended_and_none_complained(running, lengths):
    assert json.loads(running.ready.read_text())["pids"] == running.told["pids"]
    assert len(lengths) == 3
    for log, length in lengths.items():
        lines = log.read_bytes()[length:].decode().splitlines()
        complaints = [line for line in lines if '"level": "error"' in line or "Traceback" in line]
        assert [line for line in complaints if JOB not in line] == [], log.stem
