"""The Sunday reconciliation: its slot, its slices, and who goes on with it."""

import hashlib
import hmac
import json
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import requests
from redis import Redis
from rq import Queue, Worker

from billing_service import reconciliation
from billing_service.documents import (
    Finding,
    JobRun,
    OutboxSignal,
    ReconciliationCandidate,
    ReconciliationRun,
    ServiceState,
    Subscription,
    WebhookEvent,
    database_now,
)
from billing_service.jobs import runs
from billing_service.jobs.reconcile import SLICE_SECONDS, UNDISTURBED_SECONDS, reconcile, reconcile_on
from billing_service.jobs.schedule import row_of
from billing_service.jobs.sweep import sweep
from billing_service.jobs.tick import catch_up, tick

SUNDAY = datetime(2026, 11, 29, 3, tzinfo=UTC)
SLOT = "20261129T0300"
HELD = "rq:scheduler:scheduled_jobs"
ROW = row_of("reconcile")


@pytest.fixture
def confirming(app):
    """A difference has to last so many seconds."""
    billing = app.extensions["billing"]

    def seconds(number):
        settings = replace(billing.settings, reconcile_confirm_seconds=number)
        app.extensions["billing"] = replace(billing, settings=settings)

    yield seconds
    app.extensions["billing"] = billing


@pytest.fixture
def drifted(billed, sandbox):
    it = billed("pro")
    sandbox.patch(it.subscription, {"status": "unpaid"})
    return it


def queued(runtime):
    queue = Queue("batch", connection=runtime.redis.client())
    return [job.func_name.rpartition(".")[2] for job in queue.jobs]


def active():
    return ReconciliationRun.objects(active=True).first()


def test_the_calendar_has_it():
    assert ROW.cron == "0 3 * * 0"
    assert ROW.latest_slot(SUNDAY) == SUNDAY
    assert ROW.latest_slot(SUNDAY - timedelta(seconds=1)) == SUNDAY - timedelta(days=7)
    assert ROW.next_slot(SUNDAY) == SUNDAY + timedelta(days=7)


def test_the_slot_is_one_run_however_often_it_is_ticked(app, runtime, at):
    at(SUNDAY + timedelta(minutes=1))
    assert tick("reconcile") is True
    assert tick("reconcile") is False
    for _ in range(2):
        reconcile(slot=SLOT, attempt=1)
    run = ReconciliationRun.objects.get()
    assert (run.slot, run.trigger, run.active) == (SLOT, "schedule", True)
    assert queued(runtime) == ["reconcile", "reconcile_on"]
    assert JobRun.objects(job="reconcile").get().summary == {"reconciliation": str(run.pk)}


def test_a_slot_that_is_done_is_not_done_again(app, confirming):
    confirming(0)
    runs.claim("reconcile", SLOT)
    reconcile(slot=SLOT, attempt=1)
    reconcile_on()
    assert ReconciliationRun.objects.get().state == "completed"
    JobRun.objects(job="reconcile").update(set__state="claimed", set__attempt=2)
    reconcile(slot=SLOT, attempt=2)
    assert len(ReconciliationRun.objects) == 1


@pytest.mark.parametrize("late", [timedelta(minutes=1), timedelta(days=3)])
def test_a_missed_sunday_is_caught_up_once(app, at, late):
    ServiceState(name="scheduled_since:reconcile", value=ROW.cron, at=SUNDAY - timedelta(days=30)).save()
    now = SUNDAY + late
    assert catch_up((ROW,), now) == ["reconcile"]
    assert catch_up((ROW,), now) == []
    assert JobRun.objects(job="reconcile").get().slot == SLOT


def test_a_start_that_failed_is_taken_up(app, runtime):
    runs.claim("reconcile", SLOT)
    JobRun.objects(job="reconcile").update(set__state="failed")
    assert sweep()["runs_taken_up"] == 1
    taken = JobRun.objects(job="reconcile").get()
    reconcile(slot=SLOT, attempt=taken.attempt)
    assert ReconciliationRun.objects.get().slot == SLOT


def test_a_run_that_is_under_way_is_the_slots(app, runtime):
    run = reconciliation.start("api", runtime.clock())
    runs.claim("reconcile", SLOT)
    reconcile(slot=SLOT, attempt=1)
    assert (ReconciliationRun.objects.get().pk, ReconciliationRun.objects.get().slot) == (run.pk, SLOT)


def test_a_run_of_one_organization_is_waited_for(app, runtime, billed):
    it = billed("pro")
    other = reconciliation.start("api", runtime.clock(), organization=it.org_id)
    runs.claim("reconcile", SLOT)
    assert reconcile(slot=SLOT, attempt=1) == {"waits_for": str(other.pk)}
    claimed = JobRun.objects(job="reconcile").get()
    assert (claimed.state, claimed.part) == ("claimed", 1)
    while not active() or active().organization:
        reconcile_on()
        ReconciliationRun.objects(active=True).update(unset__next_at=True)
        if active() is None:
            break
    reconcile(slot=SLOT, attempt=1, part=1)
    assert active().slot == SLOT


def test_it_is_done_in_slices_and_waits_to_be_woken(app, drifted, confirming, runtime):
    confirming(60)
    reconciliation.start("schedule", runtime.clock(), slot=SLOT)
    told = reconcile_on()
    assert (told["state"], told["checked"], told["candidates"]) == ("running", 1, 1)
    run = active()
    assert 50 < (run.next_at - runtime.clock()).total_seconds() <= 60
    connection = runtime.redis.client()
    [entry] = [each.decode() for each in connection.zrange(HELD, 0, -1) if each.startswith(b"reconcile-")]
    assert abs(connection.zscore(HELD, entry) - run.next_at.timestamp()) < 5
    assert sweep()["reconciliations_due"] == 0
    # Until then nobody goes on.
    assert reconcile_on()["candidates"] == 1
    assert len(Finding.objects) == 0
    ReconciliationRun.objects(active=True).update(set__next_at=runtime.clock())
    ReconciliationCandidate.objects().update(set__due_at=runtime.clock())
    assert sweep()["reconciliations_due"] == 1
    assert queued(runtime) == ["reconcile_on"]
    assert reconcile_on()["state"] == "completed"
    assert Finding.objects.get().kind == "status"
    assert Queue("admin", connection=connection).jobs[-1].func_name.endswith("send_outbox")


def test_the_sweep_finds_a_run_whose_process_is_gone(app, runtime, confirming):
    confirming(0)
    run = reconciliation.start("api", runtime.clock())
    run.update(set__lease_owner="dead", set__lease_until=database_now() + timedelta(seconds=30))
    assert sweep()["reconciliations_due"] == 0
    run.update(set__lease_until=database_now())
    assert sweep()["reconciliations_due"] == 1
    assert run.reload().state == "interrupted"
    assert reconcile_on()["state"] == "completed"
    assert run.reload().fence == 1


def test_redis_losing_everything_does_not_end_it(app, runtime, confirming):
    confirming(0)
    run = reconciliation.start("api", runtime.clock())
    runtime.redis.client().flushall()
    assert sweep()["reconciliations_due"] == 1
    reconcile_on()
    assert run.reload().state == "completed"


def test_it_survives_an_outage_of_stripe(app, drifted, runtime, sandbox, confirming):
    confirming(0)
    run = reconciliation.start("api", runtime.clock())
    sandbox.arm("drop", times=None)
    assert reconcile_on()["state"] == "running"
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    run.update(unset__next_at=True)
    assert reconcile_on()["state"] == "completed"
    assert len(Finding.objects) == 1


def test_a_bug_is_raised_and_the_run_goes_on_later(app, drifted, runtime, confirming):
    confirming(0)
    run = reconciliation.start("api", runtime.clock())
    Subscription._get_collection().update_one({}, {"$set": {"override": "no document"}})
    for failures in range(1, 6):
        with pytest.raises(AttributeError):
            reconcile_on()
        assert (run.reload().failures, run.active) == (failures, True)
        run.update(unset__next_at=True)
    assert reconcile_on()["state"] == "failed"
    assert OutboxSignal.objects(name="job_given_up").count() == 1
    # The next Sunday has a run of its own.
    assert reconciliation.start("schedule", runtime.clock(), slot=SLOT).pk != run.pk


def test_a_sunday_that_failed_is_started_anew_three_times_in_all(app, runtime, drifted, sandbox, confirming):
    confirming(0)
    runs.claim("reconcile", SLOT)
    reconcile(slot=SLOT, attempt=1)
    sandbox.arm("error", path="/v1/subscriptions$", status=401, times=None)
    hour = timedelta(hours=1)
    for attempt in (1, 2, 3):
        assert reconcile_on()["state"] == "failed"
        assert (sweep()["reconciliations_due"], active()) == (0, None)
        last = ReconciliationRun.objects(attempt=attempt).get()
        last.update(set__finished_at=last.finished_at - hour, set__started_at=last.started_at - hour)
        assert sweep()["reconciliations_due"] == (0 if attempt == 3 else 1)
    assert [each.slot for each in ReconciliationRun.objects.order_by("attempt")] == [SLOT, f"{SLOT}-2", f"{SLOT}-3"]


def test_a_run_that_was_asked_for_and_became_the_slots_is_started_anew_too(app, runtime):
    run = reconciliation.start("api", runtime.clock() - timedelta(hours=2), actor="ada")
    runs.claim("reconcile", SLOT)
    reconcile(slot=SLOT, attempt=1)
    run.update(set__state="failed", unset__active=True, set__finished_at=runtime.clock() - timedelta(hours=2))
    assert sweep()["reconciliations_due"] == 1
    assert (active().slot, active().trigger, active().attempt) == (f"{SLOT}-2", "schedule", 2)


def test_what_failed_is_not_started_anew_where_another_run_was(app, runtime, drifted, sandbox, confirming):
    confirming(0)
    reconciliation.start("schedule", runtime.clock() - timedelta(hours=2), slot=SLOT)
    ReconciliationRun.objects().update(
        set__state="failed", unset__active=True, set__finished_at=runtime.clock() - timedelta(hours=2)
    )
    reconciliation.start("api", runtime.clock())
    assert reconcile_on()["state"] == "completed"
    assert (sweep()["reconciliations_due"], len(ReconciliationRun.objects)) == (0, 2)


def test_nothing_to_do_is_nothing_done(app):
    assert reconcile_on() == {}


def test_jobs_run_starts_one(command_line, app):
    code, printed, _ = command_line("jobs", "run", "reconcile", "--json")
    assert code == 0, printed
    assert active().slot.endswith("-cli")


def test_two_schedulers_and_two_workers_do_it_once_whatever_their_zone(app, runtime, process, eventually, drifted):
    zones = ("Asia/Kolkata", "America/New_York")
    made = [process(name, RECONCILE_CONFIRM_SECONDS="1", TZ=zone) for name in ("worker", "scheduler") for zone in zones]
    client = runtime.redis.client()
    eventually(lambda: all("_started" in each.log.read_text() for each in made), 60)
    eventually(lambda: client.zscore(HELD, "cron-reconcile"))
    due = datetime.fromtimestamp(client.zscore(HELD, "cron-reconcile"), UTC)
    assert (due.weekday(), due.hour, due.minute) == (6, 3, 0)
    Redis.zadd(client, HELD, {"cron-reconcile": time.time() - 1})
    eventually(lambda: ReconciliationRun.objects(state="completed").count(), 60)
    run = ReconciliationRun.objects.get()
    assert run.slot == runs.slot_name(ROW.latest_slot(runtime.clock()))
    assert (run.divergences, Finding.objects.get().organization) == (1, drifted.org_id)
    assert [(each.slot, each.attempt) for each in JobRun.objects(job="reconcile")] == [(run.slot, 1)]
    for each in made:
        each.send_signal(signal.SIGTERM)
    assert [each.wait(15) for each in made] == [0] * 4


def meta_of_the_job(runtime):
    """How far it is, as RQ's own tools show it."""
    [worker] = Worker.all(connection=runtime.redis.client())
    job = worker.get_current_job()
    return job and job.get_meta().get("reconciliation")


def test_a_worker_that_is_told_to_stop_leaves_it_to_the_next(app, runtime, process, eventually, sandbox):
    sandbox.seed(4_000, ["price_pro_monthly"])
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, seconds=0.5)
    run = reconciliation.start("api", runtime.clock())
    worker = process("worker", RECONCILE_CONFIRM_SECONDS="0")
    sweep()
    eventually(lambda: run.reload().checked >= 100)
    meta = eventually(lambda: meta_of_the_job(runtime))
    assert (meta["id"], meta["phase"]) == (str(run.pk), "listing")
    assert 0 < meta["checked"] < 4_000
    eventually(lambda: "reconciliation_progress" in worker.log.read_text(), 25)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0
    run.reload()
    assert (run.state, run.lease_owner, run.active) == ("interrupted", None, True)
    assert run.checked < 4_000


@pytest.fixture
def endless(runtime, sandbox):
    """A run of some minutes: an account of another product, whose pages come slowly."""
    sandbox.seed(60_000, ["price_of_another_product"], metadata_key="theirs")
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, seconds=0.3)
    return reconciliation.start("api", runtime.clock())


@pytest.fixture
def arrive(app, runtime, stripe):
    """Lets a subscription change at Stripe and delivers the event; returns its id."""

    def post(it, **change):
        stripe.subscriptions.update(it.subscription, change)
        listed = f"{runtime.settings.stripe_api_base}/v1/events?limit=1"
        headers = {"Authorization": f"Bearer {runtime.settings.stripe_secret_key}"}
        [event] = requests.get(listed, headers=headers, timeout=10).json()["data"]
        body = json.dumps(event).encode()
        stamp, secret = int(time.time()), runtime.settings.stripe_webhook_secrets[0].encode()
        proof = hmac.new(secret, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        headers = {"Stripe-Signature": f"t={stamp},v1={proof}"}
        assert app.test_client().post("/api/billing/webhook", data=body, headers=headers).status_code == 200
        return event["id"]

    return post


def test_a_webhook_is_not_held_up_with_a_single_worker(app, process, eventually, billed, endless, arrive):
    """Not even for a slice of twenty seconds: the run makes way, and goes on afterwards."""
    it = billed("pro")
    process("worker")
    sweep()
    eventually(lambda: endless.reload().foreign >= 100)
    spans = []
    for number in range(3):
        event_id, begun = arrive(it, cancel_at_period_end=number % 2 == 0), time.monotonic()
        eventually(lambda event_id=event_id: WebhookEvent.objects(event_id=event_id, state="succeeded").first())
        spans.append(time.monotonic() - begun)
    assert max(spans) < SLICE_SECONDS / 2, spans
    before = endless.reload().foreign
    assert (endless.active, endless.state) == (True, "running")
    eventually(lambda: endless.reload().foreign > before + 500)
    assert (endless.failures, endless.divergences) == (0, 0)
    assert endless.fence >= 2


def test_a_run_gets_on_however_much_waits(app, runtime, endless):
    """Where somebody always waits, as a backlog does, each slice still does its work."""
    Queue("webhooks", connection=runtime.redis.client()).enqueue_call("nothing.at_all")
    read = []
    for _ in range(2):
        begun = time.monotonic()
        read.append(reconcile_on()["stripe_requests"])
        assert UNDISTURBED_SECONDS <= time.monotonic() - begun < SLICE_SECONDS / 2
    assert 1 < read[0] < read[1]
    assert set(queued(runtime)) == {"reconcile_on"}
