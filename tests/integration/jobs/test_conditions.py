"""What lasts is told once, again each day, and once more when it is over, whoever looks and however often."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from billing_service import monitoring, outbox
from billing_service.documents import JobRun, OpenAlert, OutboxSignal, ServiceState, WebhookEvent, database_now
from billing_service.jobs import outbox as outbox_job
from billing_service.jobs import runs
from billing_service.jobs.schedule import SCHEDULE
from billing_service.jobs.sweep import sweep
from billing_service.monitoring.alerts import REMINDER
from billing_service.outbox.audiences import KINDS, PEOPLE
from billing_service.settings import Settings
from billing_service.webhooks import pauses
from tests.integration.jobs.receiver import Inbox

DUNNING = next(row for row in SCHEDULE if row.job == "dunning")


@pytest.fixture
def look(app, runtime):
    """Looks at all conditions, so many minutes from now, with these jobs due; returns how many changed."""

    def at(minutes=0.0, **due):
        now = database_now() + timedelta(minutes=minutes)
        return monitoring.check(monitoring.Watch(now=now, stripe=runtime.stripe, due=due))

    return at


@pytest.fixture
def put():
    """Stores events."""

    def insert(count=1, **fields):
        now = database_now()
        known = len(WebhookEvent.objects)
        rows = [
            {
                "event_id": f"evt_{known + number}",
                "type": "invoice.paid",
                "created": now,
                "received_at": now,
                "source": "delivery",
                "state": "received",
                "attempts": 0,
                "payload": "{}",
            }
            | fields
            for number in range(count)
        ]
        WebhookEvent._get_collection().insert_many(rows)

    return insert


def told():
    return [each.name for each in OutboxSignal.objects.order_by("created_at", "id")]


def facts(name):
    return OutboxSignal.objects(name=name).order_by("-created_at").first().facts


def run_of(job, slot, state, ago):
    now = database_now() - ago
    JobRun(job=job, slot=slot, state=state, claimed_at=now, lease_until=now, finished_at=now, error="x").save()


def test_every_condition_is_told_to_people_under_its_name():
    for condition in monitoring.CONDITIONS:
        assert PEOPLE in KINDS[condition.name].audiences


def test_a_good_installation_is_silent(look, put):
    put(3)
    put(1, state="succeeded", outcome="applied")
    put(1, state="failed", next_attempt_at=database_now() + timedelta(minutes=20), reason="handler_failed")
    put(1, state="dead", dead_at=database_now() - timedelta(hours=1))
    assert look(dunning=database_now() - timedelta(hours=2)) == 0
    assert (told(), len(OpenAlert.objects)) == ([], 0)


def test_events_that_nobody_takes_up(look, put):
    put(2, received_at=database_now() - timedelta(minutes=6))
    assert look() == 0
    assert told() == []  # it may have been woken a moment ago
    assert look(1) == 1
    assert told() == ["events_waiting"]
    assert (facts("events_waiting")["count"], facts("events_waiting")["oldest"]) == (2, "evt_0")
    assert look(2) == 0
    WebhookEvent.objects.update(set__state="succeeded")
    assert look(3) == 1
    assert told() == ["events_waiting", "recovered"]
    over = facts("recovered")
    assert (over["alert"], over["count"]) == ("events_waiting", 2)
    assert 175 <= over["seconds"] <= 190
    assert len(OpenAlert.objects) == 0


def test_what_was_over_before_it_was_told_is_told_to_nobody(look, put):
    put(1, received_at=database_now() - timedelta(minutes=6))
    look()
    WebhookEvent.objects.update(set__state="succeeded")
    assert look(1) == 1
    assert told() == []


def test_paused_events_and_replays_of_old_ones_do_not_wait(look, put):
    old = database_now() - timedelta(days=5)
    put(1, received_at=old, type="invoice.paid")
    put(1, received_at=old, type="customer.deleted", state="failed", replay={"job_id": "x", "asked_at": database_now()})
    pauses.pause("invoice.paid", by="ada", note=None, now=database_now())
    look()
    look(1)
    assert told() == []


def test_it_is_told_again_each_day_and_ends_once(look, put):
    put(1, received_at=database_now() - timedelta(hours=1))
    for minutes in (0, 1, 2, 600):
        look(minutes)
    assert told() == ["events_waiting"]
    look(REMINDER / timedelta(minutes=1) + 1)
    look(REMINDER / timedelta(minutes=1) + 2)
    assert told() == ["events_waiting"] * 2
    WebhookEvent.objects.update(set__state="succeeded")
    look(3000)
    assert sorted(told()) == ["events_waiting", "events_waiting", "recovered"]


def test_it_can_happen_again(look, put):
    for minutes in (0, 100):
        put(1, received_at=database_now() - timedelta(minutes=6))
        look(minutes)
        look(minutes + 1)
        WebhookEvent.objects.update(set__state="succeeded")
        look(minutes + 2)
    assert sorted(told()) == ["events_waiting"] * 2 + ["recovered"] * 2


def test_many_sweeps_at_once_tell_once(app, look, put):
    put(10, state="dead", dead_at=database_now())

    def work():
        with app.app_context():
            look()

    def at_once():
        threads = [threading.Thread(target=work) for _ in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    at_once()
    look()
    assert told() == ["dead_letters_growing"]
    WebhookEvent.objects.update(set__dead_at=database_now() - timedelta(hours=1))
    at_once()
    assert sorted(told()) == ["dead_letters_growing", "recovered"]


def test_dead_letters_grow_until_no_more_come(look, put):
    put(9, state="dead", dead_at=database_now())
    look()
    assert told() == []
    put(1, state="dead", dead_at=database_now(), reason="handler_failed")
    look()
    assert told() == ["dead_letters_growing"]
    WebhookEvent.objects(event_id__ne="evt_9").update(set__dead_at=database_now() - timedelta(hours=1))
    look()
    assert told() == ["dead_letters_growing"]
    look(16)
    assert sorted(told()) == ["dead_letters_growing", "recovered"]


def test_a_job_that_is_late(look):
    now = database_now()
    run_of("dunning", "20260601T0300", "succeeded", timedelta(hours=26))
    due_at = now - timedelta(hours=2)
    assert look(dunning=now - timedelta(minutes=59)) == 0
    assert look(dunning=due_at) == 1
    assert facts("job_overdue")["job"] == "dunning"
    run_of("dunning", "20260602T0300", "succeeded", timedelta(0))
    assert look(dunning=due_at) == 1
    assert facts("recovered")["alert"] == "job_overdue"


def test_a_job_that_was_never_due_is_not_late(look):
    ServiceState(name="scheduled_since:dunning", value=DUNNING.cron, at=database_now()).save()
    assert look(dunning=database_now() - timedelta(hours=20)) == 0


def test_a_job_that_was_given_up_is_well_again_when_it_ends_well(look):
    run_of("dunning", "20260601T0300", "failed", timedelta(hours=1))
    JobRun.objects.update(set__attempt=3)
    runs.take_up_lost(frozenset({"dunning"}))
    assert told() == ["job_given_up"]
    look(dunning=database_now())
    look(1, dunning=database_now())
    assert told() == ["job_given_up"]  # by who gave it up, once
    run_of("dunning", "20260602T0300", "succeeded", timedelta(0))
    look(2, dunning=database_now())
    assert told() == ["job_given_up", "recovered"]
    assert (facts("recovered")["alert"], facts("recovered")["slot"]) == ("job_given_up", "20260601T0300")


def test_the_end_of_a_long_pause(look):
    pauses.pause("invoice.paid", by="ada", note="a bug", now=database_now() - timedelta(hours=2))
    pauses.pause("customer.deleted", by="ada", note=None, now=database_now())
    pauses.warn_of_long_pauses(database_now())
    look()
    look(1)
    assert told() == ["dispatch_paused"]
    pauses.resume("invoice.paid", by="bob")
    pauses.resume("customer.deleted", by="bob")
    look(2)
    assert told() == ["dispatch_paused", "recovered"]
    assert (facts("recovered")["alert"], facts("recovered")["type"]) == ("dispatch_paused", "invoice.paid")


def test_stripe_is_asked_only_when_there_is_a_sign(look, sandbox, put):
    look()
    put(1)
    look()
    assert sandbox.requests()["items"] == []


def test_stripe_that_is_away(look, runtime, sandbox):
    sandbox.arm("error", status=500, times=None)
    for _ in range(5):
        runtime.stripe.circuit.failed()
    for minutes in (0, 1):
        look(minutes)
    assert told() == []  # most outages are over by then
    look(2.1)
    assert told() == ["stripe_unreachable"]
    assert facts("stripe_unreachable")["code"] in ("stripe_unavailable", "stripe_circuit_open")
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()  # another worker's sweep, say, whose circuit never opened
    look(3)
    assert told() == ["stripe_unreachable", "recovered"]


def test_events_that_wait_for_stripe_are_a_sign(look, sandbox, put):
    """The worker that sweeps may be another one than the one that asked."""
    sandbox.arm("error", status=500, times=None)
    now = database_now()
    waits = {"state": "failed", "next_attempt_at": now + timedelta(hours=1), "reason": "outage"}
    put(1, deferred_since=now - timedelta(minutes=5), **waits)
    look()
    look(2.1)
    assert told() == ["stripe_unreachable"]
    sandbox.disarm()
    time.sleep(1.1)  # a look that fails opens the circuit of who looks; it lets one through each second
    look(3)
    assert told() == ["stripe_unreachable", "recovered"]


def test_signals_that_are_not_accepted(look):
    now = database_now()
    outbox.put([outbox.signal("plan_changed", "one", now=now)])
    OutboxSignal.objects.update(set__failing_since=now - timedelta(minutes=59))
    assert look() == 0
    assert look(2) == 1
    OutboxSignal.objects(key="one").update(unset__next_attempt_at=True, unset__failing_since=True)
    assert look(3) == 1
    assert sorted(told()) == ["plan_changed", "recovered", "signals_failing"]


def test_one_that_cannot_be_found_out_keeps_no_other(look, put, runtime):
    put(10, state="dead", dead_at=database_now())
    run_of("dunning", "20260601T0300", "succeeded", timedelta(hours=26))
    # A job without a slot breaks the conditions about jobs.
    monitoring.check(monitoring.Watch(now=database_now(), stripe=runtime.stripe, due={"dunning": None}))
    assert told() == ["dead_letters_growing"]


def test_the_sweep_looks_and_slack_is_told(app, put, runtime, environment):
    """From the condition to the text in the channel, by a setting for what is like Slack."""
    inbox = Inbox()
    inbox.up()
    try:
        put(12, state="dead", dead_at=database_now(), reason="handler_failed")
        assert sweep()["conditions_changed"] == 1
        told_to = Settings.from_env(environment | {"ALERT_WEBHOOK_URL": inbox.url, "ALERT_WEBHOOK_FORMAT": "slack"})
        outbox.rests.end()
        app.extensions["billing"] = replace(runtime, settings=told_to)
        try:
            assert outbox_job.send_outbox() == {"sent": 1}
            WebhookEvent.objects.update(set__dead_at=database_now() - timedelta(hours=1))
            sweep()
            assert outbox_job.send_outbox() == {"sent": 1}
        finally:
            app.extensions["billing"] = runtime
    finally:
        inbox.down()
    first, second = inbox.bodies
    assert first.startswith(b'{"text": "dead_letters_growing: ')
    assert b"docs/runbooks/dead-letters.md" in first
    assert second.startswith(b'{"text": "recovered: ')
    assert b"alert: dead_letters_growing" in second
