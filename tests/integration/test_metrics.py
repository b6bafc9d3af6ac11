"""/metrics: true, bounded, and there when the stores are not; and the alert rules speak of what is there."""

import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import promql_parser
import pytest
import yaml
from bson import ObjectId
from mongoengine.connection import get_db
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from rq import SimpleWorker
from rq.utils import utcformat

from billing_service.blueprints.gauges import BY_LABEL, installation
from billing_service.documents import JobRun, OpenAlert, OutboxSignal, WebhookEvent, database_now
from billing_service.errors import StripeCircuitOpen, StripeUnavailable
from billing_service.jobs.queues import QUEUES
from billing_service.jobs.schedule import SCHEDULE
from billing_service.jobs.sweep import sweep
from billing_service.jobs.tick import run_here, start_slot
from billing_service.outbox import put
from billing_service.outbox import signal as outbox_signal
from billing_service.webhooks import pauses

RULES = Path(__file__).parents[2] / "docs" / "alerts.yml"


@pytest.fixture
def scrape(client):
    """What /metrics shows now: (name, sorted labels) to value."""

    def read():
        installation.forget()
        answer = client.get("/metrics")
        assert answer.status_code == 200
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    yield read
    installation.forget()


def event(number, **fields):
    now = datetime.now(UTC)
    return {
        "event_id": f"evt_{number}",
        "type": "invoice.paid",
        "created": now,
        "received_at": now,
        "source": "delivery",
        "state": "received",
        "attempts": 0,
        "payload": "{}",
    } | fields


def dead(number, **fields):
    return event(number, state="dead", dead_at=datetime.now(UTC), reason="handler_failed") | fields


def insert(rows):
    WebhookEvent._get_collection().insert_many(rows)


def test_an_empty_installation_is_well(scrape):
    shown = scrape()
    assert (shown["billing_mongodb_up",], shown["billing_redis_up",]) == (1, 1)
    zero = ["oldest_unhandled_seconds", "dead_letters", "pauses", "signals_unsent", "unknown_refunds", "workers"]
    assert {name: shown[f"billing_{name}",] for name in zero} == dict.fromkeys(zero, 0)
    assert shown["billing_queue_jobs", ("queue", "webhooks")] == 0
    assert not [key for key in shown if key[0] == "billing_last_delivery_seconds"]


def test_a_worker_that_was_killed_is_not_counted(scrape, runtime):
    """It cannot take itself off the list, and if it was the last nobody else does."""
    redis = runtime.redis.client()
    first, second = (SimpleWorker(QUEUES, connection=redis) for _ in range(2))
    first.register_birth()
    second.register_birth()
    assert scrape()["billing_workers",] == 2
    redis.hset(first.key, "last_heartbeat", utcformat(datetime.now(UTC) - timedelta(minutes=2)))
    assert scrape()["billing_workers",] == 1
    redis.delete(second.key)  # as it expires
    assert scrape()["billing_workers",] == 0
    SimpleWorker(["mails"], connection=redis).register_birth()  # of somebody else who has this Redis, too
    assert scrape()["billing_workers",] == 0


def test_what_waits_and_for_how_long(scrape):
    old = datetime.now(UTC) - timedelta(minutes=7)
    insert([event(1, received_at=old), event(2), event(3, state="failed")])
    shown = scrape()
    assert 419 <= shown["billing_oldest_unhandled_seconds",] <= 430
    assert shown["billing_unhandled_events", ("state", "received")] == 2
    assert shown["billing_unhandled_events", ("state", "failed")] == 1
    assert shown["billing_last_delivery_seconds",] < 10


def test_groups_of_dead_letters_have_a_bound(scrape):
    """However many kinds of failures there are, and whatever their words: twenty groups and the rest."""
    insert([dead(number, fingerprint=f"KeyError{number % 60}: {'x' * 200}") for number in range(300)])
    insert([dead(number, fingerprint="ValueError: # is no price") for number in range(300, 400)])
    groups = {key[1:]: value for key, value in scrape().items() if key[0] == "billing_dead_letters_by_group"}
    assert len(groups) == 21
    assert sum(groups.values()) == 400
    largest = max((key for key in groups if ("group", "other") not in key), key=groups.get)
    assert groups[largest] == 100
    assert dict(largest)["error"] == "ValueError"
    assert dict(largest)["type"] == "invoice.paid"
    assert all(len(value) <= 60 for key in groups for _, value in key)


def test_seconds_since_a_job_ended_well(scrape):
    row = next(row for row in SCHEDULE if row.job == "dunning")
    assert run_here(row, "20260601T0300").state == "succeeded"
    JobRun.objects(job="dunning").update(set__finished_at=database_now() - timedelta(hours=30))
    JobRun(
        job="dunning",
        slot="20260602T0300",
        state="failed",
        attempt=3,
        claimed_at=database_now(),
        lease_until=database_now(),
        finished_at=database_now(),
    ).save()
    assert 30 * 3600 - 1 <= scrape()["billing_job_seconds_since_success", ("job", "dunning")] <= 30 * 3600 + 10


def test_a_reconciliation_counts_when_it_has_ended(scrape, runtime):
    """Its slot only starts it."""
    row = next(row for row in SCHEDULE if row.job == "reconcile")
    start_slot(row, datetime(2026, 6, 7, 3, tzinfo=UTC))
    JobRun.objects(job="reconcile").update(set__state="succeeded", set__finished_at=database_now())
    assert not [key for key in scrape() if key == ("billing_job_seconds_since_success", ("job", "reconcile"))]
    run = {"state": "completed", "organization": None, "trigger": "schedule"}
    ended = database_now() - timedelta(days=3)
    get_db().reconciliation_runs.insert_one(run | {"started_at": ended, "finished_at": ended})
    assert abs(scrape()["billing_job_seconds_since_success", ("job", "reconcile")] - 3 * 86400) < 10


def test_pauses_signals_and_alerts(scrape):
    now = database_now()
    pauses.pause("invoice.paid", by="ada", note=None, now=now - timedelta(hours=2))
    put([outbox_signal("webhook_dead", "one", now=now), outbox_signal("webhook_dead", "two", now=now)])
    OutboxSignal.objects(key="two").update(set__failing_since=now - timedelta(minutes=30))
    OpenAlert(name="job_overdue:dunning", condition="job_overdue", since=now, seen_at=now, told=True).save()
    OpenAlert(name="events_waiting:", condition="events_waiting", since=now, seen_at=now).save()
    shown = scrape()
    assert (shown["billing_pauses",], shown["billing_signals_unsent",]) == (1, 2)
    assert 7199 <= shown["billing_paused_seconds",] <= 7210
    assert 1799 <= shown["billing_signals_failing_seconds",] <= 1810
    assert shown["billing_open_alerts", ("condition", "job_overdue")] == 1
    assert ("billing_open_alerts", ("condition", "events_waiting")) not in shown


def test_stripe_is_counted(scrape, runtime, sandbox):
    before = scrape()
    runtime.stripe.account()
    sandbox.arm("error", status=500, path="/v1/account", times=6)
    for _ in range(2):
        with pytest.raises((StripeUnavailable, StripeCircuitOpen)):
            runtime.stripe.account()
    shown = scrape()
    asked = ("billing_stripe_requests_total", ("operation", "account"))
    assert shown[(*asked, ("result", "ok"))] == before.get((*asked, ("result", "ok")), 0) + 1
    assert shown[(*asked, ("result", "stripe_unavailable"))] >= 5
    assert shown["billing_stripe_circuit_open",] == 1
    assert shown["billing_stripe_budget_available", ("pool", "shared")] > 100
    assert shown["billing_stripe_budget_requests_per_second",] == 1000
    runtime.stripe.circuit.succeeded()
    assert scrape()["billing_stripe_circuit_open",] == 0


def test_without_mongodb_it_answers(scrape, servers):
    servers.mongod.kill()
    try:
        shown = scrape()
    finally:
        servers.mongod.start()
    assert (shown["billing_mongodb_up",], shown["billing_redis_up",]) == (0, 1)
    assert ("billing_dead_letters",) not in shown
    assert any(key[0] == "billing_requests_total" for key in shown)


def test_a_mongodb_that_hangs_does_not_hang_it(scrape, servers):
    scrape()
    os.kill(servers.mongod.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        shown = scrape()
        seconds = time.monotonic() - began
    finally:
        os.kill(servers.mongod.pid, signal.SIGCONT)
    assert shown["billing_mongodb_up",] == 0
    assert seconds < 4


def test_without_redis_it_answers(scrape, servers):
    servers.redis.kill()
    try:
        shown = scrape()
    finally:
        servers.redis.start()
    assert (shown["billing_mongodb_up",], shown["billing_redis_up",]) == (1, 0)
    assert ("billing_workers",) not in shown
    assert shown["billing_dead_letters",] == 0


def test_who_asks_often_reads_once(client, scrape):
    scrape()
    database = get_db()
    database.command("profile", 2)
    try:
        for _ in range(20):
            client.get("/metrics")
    finally:
        database.command("profile", 0)
        seen = list(database.system.profile.find({"ns": {"$not": re.compile("system.profile$")}}))
        database.system.profile.drop()
    assert [each for each in seen if "planSummary" in each] == []


def test_it_reads_by_index_and_a_bounded_part(client, scrape):
    """Thousands of rows: nothing is read that a scrape of millions could not."""
    rows = [event(number, state="succeeded", outcome="applied") for number in range(12_000)]
    rows += [dead(number, fingerprint=f"KeyError: {number % 40}") for number in range(12_000, 25_000)]
    insert(rows)
    now = database_now()
    runs = {"job": "sweep", "state": "succeeded", "attempt": 1, "finished_at": now, "lease_until": now}
    get_db().job_runs.insert_many([runs | {"slot": f"{number:05}"} for number in range(3000)])
    get_db().outbox.insert_many([{"key": str(number), "name": "plan_changed"} for number in range(3000)])
    get_db().findings.insert_many(
        [{"fingerprint": str(number), "severity": "low", "state": "resolved"} for number in range(3000)]
    )
    database = get_db()
    database.command("profile", 2)
    try:
        shown = scrape()
    finally:
        database.command("profile", 0)
        seen = [each for each in database.system.profile.find() if "planSummary" in each]
        database.system.profile.drop()
    assert shown["billing_dead_letters",] == 10_000
    mine = [each for each in seen if not each["ns"].endswith(("system.profile", "dispatch_pauses", "open_alerts"))]
    assert len(mine) > 10
    for each in mine:
        assert "COLLSCAN" not in each["planSummary"], (each["ns"], each["command"])
        assert each["keysExamined"] <= 10_100, (each["ns"], each["command"])
    began = time.monotonic()
    scrape()
    assert time.monotonic() - began < 2


def test_made_up_methods_make_no_series(client, scrape):
    for number in range(30):
        client.open("/healthz", method=f"METHOD{number}")
    methods = {dict(key[1:])["method"] for key in scrape() if key[0] == "billing_requests_total"}
    assert "other" in methods
    assert not any(each.startswith("METHOD") for each in methods)


def test_an_event_that_nobody_handles_is_counted_with_its_end(scrape, runtime):
    from billing_service.stripe_gateway import VerifiedEvent
    from billing_service.webhooks import receive

    before = scrape()
    raw = {"id": "evt_new", "type": "radar.early_fraud_warning.created", "created": 1, "livemode": False, "data": {}}
    receive(VerifiedEvent(raw), b"{}", livemode=False, now=runtime.clock())
    shown = scrape()
    for outcome in ("received", "ignored"):
        key = ("billing_webhook_events_total", ("outcome", outcome))
        assert shown[key] == before.get(key, 0) + 1


def test_each_rule_speaks_of_what_is_there(scrape):
    sweep()
    run_here(next(row for row in SCHEDULE if row.job == "dunning"), "20260601T0300")
    OpenAlert(name="x:", condition="x", since=database_now(), seen_at=database_now(), told=True).save()
    insert([dead(1, _id=ObjectId(), fingerprint="x")])
    labels = {}
    for key in scrape():
        labels.setdefault(key[0], set()).update(name for name, _ in key[1:])
    for collector, names in list(REGISTRY._collector_to_names.items()):
        for name in names:
            labels.setdefault(name, set()).update(getattr(collector, "_labelnames", ()))
    for name, _, *own in BY_LABEL.values():
        assert labels[name] == set(own), name
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 15
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert {"alert", "expr", "labels", "annotations"} <= set(rule), rule
        assert set(rule["annotations"]) == {"summary", "action"}
        promql_parser.parse_duration(rule.get("for", "1m"))
        selected = []
        promql_parser.walk(promql_parser.parse(rule["expr"]), selected.append)
        vectors = [each for each in selected if isinstance(each, promql_parser.VectorSelector)]
        assert vectors, rule["alert"]
        for each in vectors:
            assert each.name in labels, (rule["alert"], each.name)
            used = {matcher.name for matcher in each.matchers.matchers}
            assert used <= labels[each.name], (rule["alert"], used)


def test_no_rule_is_silent_because_there_is_nothing_to_compare_with():
    """A process that was restarted with the wrong secret has never answered 200: there is no such series yet."""
    comparisons = {"==", "!=", ">", "<", ">=", "<="}
    compared = 0
    for rule in (rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]):
        found = []
        promql_parser.walk(promql_parser.parse(rule["expr"]), found.append)
        for each in found:
            if not isinstance(each, promql_parser.BinaryExpr) or str(each.op) not in comparisons:
                continue
            right = each.rhs.expr if isinstance(each.rhs, promql_parser.ParenExpr) else each.rhs
            if isinstance(right, promql_parser.AggregateExpr | promql_parser.VectorSelector | promql_parser.BinaryExpr):
                vectors = []
                promql_parser.walk(right, vectors.append)
                if any(isinstance(one, promql_parser.VectorSelector) for one in vectors):
                    compared += 1
                    assert "or vector(0)" in right.prettify(), rule["alert"]
    assert compared == 1


def test_a_process_counts_dead_events_from_zero():
    """Prometheus sees no increase in a series that begins with thirty."""
    script = "import billing_service.observability, prometheus_client as it; print(it.generate_latest().decode())"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    counted = set(re.findall(r'^billing_webhook_events_total\{outcome="(\w+)"\} 0\.0$', shown, re.MULTILINE))
    rules = re.findall(r'billing_webhook_events_total\{outcome="(\w+)"\}', RULES.read_text())
    assert rules
    assert set(rules) <= counted


def test_each_job_has_a_rule():
    text = RULES.read_text()
    late = re.findall(r'billing_job_seconds_since_success\{job=~?"([a-z_|]+)"\}', text)
    assert sorted("|".join(late).split("|")) == sorted(row.job for row in SCHEDULE)


def test_the_rules_name_documents_that_are_there():
    for path in re.findall(r"docs/[a-z/-]+\.md", RULES.read_text()):
        assert (RULES.parents[1] / path).exists(), path
