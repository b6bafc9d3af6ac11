"""Runs over windows and pages: what they cost, what interrupts them, and who may go on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from billing_service import reconciliation
from billing_service.documents import (
    Finding,
    Organization,
    OutboxSignal,
    ReconciliationCandidate,
    ReconciliationRun,
    Subscription,
    WebhookEvent,
    database_now,
)
from billing_service.errors import ReconciliationRunning, StripeMissing
from billing_service.reconciliation.holding import Hold, Suspect
from billing_service.runtime import build
from billing_service.scans import LostLease

COMMAND = [sys.executable, "-c", "from billing_service.cli import main; main()"]


@pytest.fixture
def drift(sandbox):
    """Lets some of the seeded rows drift; returns how many."""

    def make(*indexes):
        for index in indexes:
            wanted = {"stripe_subscription_id": f"sub_1Seed01{index:08d}"}
            assert Subscription._get_collection().update_one(wanted, {"$set": {"quantity": 9}}).matched_count
        return len(indexes)

    return make


def asked(sandbox, path="/v1/subscriptions"):
    return sandbox.requests(path=path, limit=0)["count"]


def test_a_request_for_each_hundred_and_one_for_each_candidate(seeded, drift, reconcile, sandbox):
    seeded(2_000)
    drifted = drift(3, 700, 1_999)
    run = reconcile()
    assert len(run.windows) == 4
    assert (run.checked, run.divergences, run.candidates, run.errors) == (2_000, 3, 3, 0)
    assert asked(sandbox, r"/v1/subscriptions$") <= 2_000 / 100 + 4 + 1
    assert asked(sandbox, r"/v1/subscriptions/") == drifted
    assert asked(sandbox, "/v1/") <= run.stripe_requests


def test_pages_that_end_within_a_second(seeded, drift, reconcile, findings):
    """All of 450 were made in three seconds, so that every page ends in the middle of one."""
    seeded(450, created_from=1_750_000_000, created_to=1_750_000_003)
    drift(0, 149, 150, 151, 449)
    run = reconcile()
    assert (run.checked, run.candidates, run.divergences, run.errors) == (450, 5, 5, 0)


def test_rows_that_are_not_listed_are_found_wherever_they_are(seeded, sandbox, reconcile, findings):
    seeded(450, created_from=1_750_000_000, created_to=1_750_000_003)
    for index in (0, 99, 100, 101, 225, 449):
        sandbox.remove(f"sub_1Seed01{index:08d}")
    run = reconcile()
    assert (run.checked, run.candidates) == (450, 6)
    assert dict(run.findings) == {"missing_in_stripe": 6}


@pytest.mark.parametrize(("count", "per_second"), [(9_000, 900), (2_500, 2_500)])
def test_more_rows_than_listed_are_read_in_steps(seeded, start, go_on, count, per_second):
    """Rows that Stripe does not list at all, between two that it does."""
    seeded(220, created_from=1_750_000_000, created_to=1_750_100_000)
    row = Subscription._get_collection().find_one({}, {"_id": 0})
    at = datetime.fromtimestamp(1_750_002_400, UTC)

    def gone(number):
        ids = {"stripe_subscription_id": f"sub_gone{number}", "stripe_customer_id": f"cus_gone{number}"}
        made = at - timedelta(seconds=number // per_second)
        return row | ids | {"organization": ObjectId(), "stripe_created_at": made}

    Subscription._get_collection().insert_many([gone(number) for number in range(count)])
    run = start()
    ReconciliationRun.objects().update(set__key_trusted=True)
    for _ in range(40):
        if run.phase in ("planned", "listing"):
            go_on(stop=stop_after(4))
            run.reload()
    assert (run.state, run.error) == ("running", None)
    assert (run.checked, run.candidates, run.key_trusted) == (count + 220, count, True)
    assert len({each.subject for each in ReconciliationCandidate.objects.only("subject")}) == count


def test_a_key_of_another_account_fails_the_run_without_findings(seeded, sandbox, start, go_on, findings, runtime):
    seeded(400)
    key = sandbox.add_account(id="acct_other", key="sk_test_other")["key"]
    stranger = build(replace(runtime.settings, stripe_secret_key=key))
    run = start()
    go_on(stripe=stranger.stripe)
    run.reload()
    assert (run.state, findings()) == ("failed", [])
    assert run.error.startswith("stripe_misconfigured")
    assert run.stripe_requests < 10


def test_many_cancellations_are_no_wrong_key(seeded, sandbox, stripe, reconcile):
    seeded(210, statuses={"active": 1})
    for index in range(120):
        sandbox.patch(f"sub_1Seed01{index + 60:08d}", {"status": "canceled"})
    run = reconcile()
    assert (run.state, dict(run.findings)) == ("completed", {"status": 120})


@pytest.fixture
def killed(environment, tmp_path, eventually):
    """Runs the command as a process and kills it (-9) once something holds."""

    def kill(until):
        with (tmp_path / "killed.log").open("w") as log:
            child = subprocess.Popen(
                [*COMMAND, "reconcile", "--json"],
                env={**os.environ, **environment, "RECONCILE_CONFIRM_SECONDS": "0"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(until)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        return ReconciliationRun.objects.order_by("-started_at").first()

    return kill


@pytest.fixture
def eventually():
    def wait(look, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            assert time.monotonic() < deadline, f"still {seen!r} after {seconds} s"
            time.sleep(0.02)

    return wait


def expire():
    ReconciliationRun.objects(active=True).update(set__lease_until=database_now())


def test_killed_in_a_window_the_next_start_goes_on(seeded, drift, killed, sandbox, reconcile, start):
    seeded(3_000)
    drift(*range(0, 3_000, 300))
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, seconds=0.15)
    run = killed(lambda: ReconciliationRun.objects(checked__gte=800).count())
    assert (run.active, run.state) == (True, "running")
    assert 800 <= run.checked < 3_000
    sandbox.disarm()
    with pytest.raises(ReconciliationRunning):
        start()
    expire()
    sandbox.clear_requests()
    done = reconcile()
    assert (done.pk, done.state, done.checked, done.divergences) == (run.pk, "completed", 3_000, 10)
    assert asked(sandbox, "/v1/subscriptions$") <= (3_000 - run.checked) / 100 + 5
    assert (len(Finding.objects), len(OutboxSignal.objects)) == (10, 10)
    assert done.fence == 2


def test_killed_in_the_confirmation_each_finding_is_made_once(seeded, drift, killed, sandbox, reconcile):
    seeded(300)
    drift(*range(0, 300, 10))
    sandbox.arm("delay", path="/v1/subscriptions/", times=None, seconds=0.1)
    run = killed(lambda: len(Finding.objects) >= 8)
    assert run.phase == "confirming"
    counted = sum(run.findings.values())
    assert counted == len(Finding.objects) == len(OutboxSignal.objects) < 30
    sandbox.disarm()
    expire()
    done = reconcile()
    assert (done.pk, done.divergences, done.new, done.candidates) == (run.pk, 30, 30, 30)
    names = sorted(each.name.rpartition(".")[2] for each in OutboxSignal.objects)
    assert (len(Finding.objects), names) == (30, ["divergence"] * 30 + ["summary"])
    assert {each.times_seen for each in Finding.objects} == {1}


def test_a_worker_that_dies_each_time_is_given_up(start, go_on):
    run = start()
    for _ in range(5):
        ReconciliationRun.objects(id=run.pk).update(set__lease_owner="dead", set__failures=4)
    go_on()
    run.reload()
    assert (run.state, "without progress" in run.error) == ("failed", True)
    assert OutboxSignal.objects(name="job_given_up").count() == 1


def test_two_starts_at_once_one_runs(app, runtime):
    results = []
    barrier = threading.Barrier(4)

    def work():
        with app.app_context():
            barrier.wait()
            try:
                results.append(reconciliation.start("api", runtime.clock()).pk)
            except ReconciliationRunning:
                results.append(None)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sum(1 for each in results if each) == 1
    assert len(ReconciliationRun.objects) == 1


def test_two_workers_at_once_one_goes_on(app, seeded, start, go_on, sandbox, desk):
    seeded(300)
    start()
    turns = []
    barrier = threading.Barrier(2)

    def work():
        with app.app_context():
            barrier.wait()
            turns.append(reconciliation.go_on(desk(), lambda: False).held)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert ReconciliationRun.objects.first().checked == 300
    assert True in turns


def test_a_stale_holder_writes_nothing(start, desk, organization, billed):
    run = start()
    stale = Hold.take(desk())
    expire()
    fresh = Hold.take(desk())
    assert (fresh.run.pk, fresh.run.fence) == (run.pk, stale.run.fence + 1)
    suspect = Suspect(organization(), ("sub_1",), frozenset({"x"}))
    with pytest.raises(LostLease):
        stale.commit(inc={"checked": 5}, suspects=[suspect])
    with pytest.raises(LostLease):
        stale.end("completed")
    stale.release(next_at=run.started_at)
    run.reload()
    assert (run.checked, run.state, run.lease_owner) == (0, "running", fresh.run.lease_owner)
    assert len(ReconciliationCandidate.objects) == 0
    fresh.commit(inc={"checked": 5}, suspects=[suspect])
    assert ReconciliationRun.objects.first().checked == 5


def test_whoever_lost_the_lease_does_not_fail_the_run(start, desk, sandbox):
    run = start()
    sandbox.arm("error", path="/v1/subscriptions$", status=401, times=None)

    def another_takes_it():
        ReconciliationRun.objects(id=run.pk).update(inc__fence=1, set__lease_owner="another")
        return False

    turn = reconciliation.go_on(desk(), another_takes_it)
    assert (turn.over, turn.run.state, turn.run.lease_owner) == (False, "running", "another")
    assert len(OutboxSignal.objects) == 0


def test_the_lease_is_kept_between_the_requests_of_one_look(organization, stripe, subscribe, reconcile):
    """Stripe may take ten seconds for each, and an organization may have many subscriptions."""
    whose = stripe.customers.create({"metadata": {"organizationId": str(organization())}}).id
    for _ in range(6):
        subscribe(whose, "pro", metadata={"organizationId": str(Organization.objects.first().pk)})
    phases = []
    run = reconcile(tell=lambda run: phases.append(run.phase))
    assert (run.candidates, dict(run.findings)) == (1, {"missing_in_db": 1, "several_live_subscriptions": 1})
    assert phases.count("confirming") > 6


def test_that_it_failed_is_told_with_its_end(start, desk):
    """Not after it: nobody would tell if the process died in between."""
    run = start()
    Hold.take(desk()).end("failed", error="stripe_misconfigured: no")
    assert (run.reload().state, OutboxSignal.objects(name="job_given_up").get().facts["error"]) == ("failed", run.error)


def test_while_slow_readers_end_after_one_failed_nobody_spins(seeded, start, desk, sandbox):
    seeded(1_200)
    start()
    sandbox.arm("error", path="/v1/subscriptions$", status=401, after=1)
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, seconds=0.8, after=1)
    looks = []
    turn = reconciliation.go_on(desk(), lambda: looks.append(1))
    assert (turn.run.state, turn.run.phase) == ("failed", "listing")
    assert 0 < len(looks) < 20


LIES = {
    "the same page again": lambda first: first,
    "more, but nothing is shown": lambda first: first | {"data": []},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_list_that_does_not_go_on_is_waited_for(seeded, start, go_on, desk, sandbox, stripe, lie):
    """It is not taken for the end, and not read for ever."""
    seeded(90)
    first = json.loads(str(stripe.subscriptions.list({"limit": 50})))
    run = start()
    pages = [first | {"has_more": True}, LIES[lie](first | {"has_more": True})]
    for page in pages:
        sandbox.arm("error", path="/v1/subscriptions$", status=200, body=page, after=1)
    deadline = time.monotonic() + 10
    turn = go_on(stop=lambda: time.monotonic() > deadline)
    assert (turn.over, turn.run.checked, turn.run.outages) == (False, 50, 1)
    while not go_on().over:
        pass
    run.reload()
    assert (run.state, run.checked, run.candidates) == ("completed", 90, 0)


def test_a_run_that_an_earlier_version_left_goes_on(seeded, go_on):
    seeded(150, created_from=1_750_000_000, created_to=1_750_000_150)
    begun, until = (datetime.fromtimestamp(at, UTC) for at in (1_750_000_500, 1_750_000_400))
    window = {"since": datetime.fromtimestamp(0, UTC), "until": until, "at": until, "settled": [], "done": False}
    run = {"active": True, "trigger": "schedule", "slot": "20261129T0300", "attempt": 1, "actor": "schedule"}
    run |= {"state": "running", "phase": "listing", "windows": [window], "lease_owner": "dead", "lease_until": begun}
    run |= {
        "fence": 3,
        "failures": 0,
        "outages": 2,
        "next_at": None,
        "started_at": begun,
        "until": until,
        "place": None,
    }
    run |= {
        "expected": 150,
        "checked": 0,
        "rows": 0,
        "unshown": 0,
        "stripe_requests": 1,
        "findings": {},
        "told_kinds": {},
    }
    ReconciliationRun._get_collection().insert_one(run | {"error": "stripe_unavailable: away", "error_sample": []})
    while not go_on().over:
        pass
    done = ReconciliationRun.objects.get()
    assert (done.state, done.checked, done.candidates, done.error) == ("completed", 150, 0, None)
    assert (done.fence, done.outages, done.failures) == (4, 0, 0)


def test_a_slice_ends_and_the_next_goes_on(seeded, start, go_on, drift):
    seeded(1_200)
    drift(5, 6)
    run = start()
    turns = 0
    while not (turn := go_on(stop=stop_after(2))).over:
        turns += 1
        assert turn.run.lease_owner is None
        assert turns < 200
    run.reload()
    assert turns > 3
    assert (run.checked, run.divergences, run.new) == (1_200, 2, 2)


def stop_after(looks):
    left = iter(range(looks))
    return lambda: next(left, None) is None


def test_faults_make_it_later_not_other(seeded, drift, start, go_on, sandbox, desk):
    seeded(1_500)
    drift(1, 500, 1_499)
    paths = {"rate_limited": {"retry_after": 0}, "lock_timeout": {}, "drop": {}, "drop_after": {}}
    for kind, more in paths.items():
        sandbox.arm(kind, path="/v1/subscriptions", times=4, after=2, **more)
    sandbox.arm("error", path="/v1/subscriptions", times=4, after=8)
    sandbox.arm("delay", path="/v1/subscriptions$", times=5, seconds=0.3)
    sandbox.arm("timeout_before", path="/v1/subscriptions$", times=2, seconds=1.5)
    run = start()
    for _ in range(100):
        desk().stripe.circuit.succeeded()
        if go_on().over:
            break
    run.reload()
    assert (run.state, run.checked, run.errors) == ("completed", 1_500, 0)
    assert (run.divergences, run.new, len(Finding.objects)) == (3, 3, 3)


def test_an_outage_is_waited_out(seeded, start, go_on, sandbox, desk, runtime):
    seeded(200)
    run = start()
    sandbox.arm("drop", times=None)
    turn = go_on()
    assert (turn.run.state, turn.run.active) == ("running", True)
    assert turn.run.next_at > runtime.clock()
    assert turn.run.error.startswith("stripe_")
    # Nobody goes on before.
    assert not reconciliation.go_on(desk(), lambda: False).held
    sandbox.disarm()
    desk().stripe.circuit.succeeded()
    while not go_on().over:
        pass
    run.reload()
    assert (run.state, run.checked, run.error) == ("completed", 200, None)


def test_a_cursor_that_is_gone(seeded, start, go_on, sandbox, runtime, desk):
    seeded(500, created_from=1_750_000_000, created_to=1_750_000_100)
    # One page each time, because the next is slow.
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, after=2, seconds=0.4)
    run = start()
    began = time.monotonic()
    go_on(stop=lambda: time.monotonic() - began > 0.3)
    sandbox.disarm()
    run.reload()
    [window] = run.windows
    assert 100 <= run.checked < 500
    sandbox.remove(window.after)
    with pytest.raises(StripeMissing):
        runtime.stripe.subscriptions_page(created={}, starting_after=window.after)
    while not go_on().over:
        pass
    run.reload()
    assert (run.state, run.checked, run.candidates) == ("completed", 500, 0)


def test_an_unreadable_one_is_an_error_and_hides_no_other(seeded, sandbox, reconcile, drift, monotonic_pauses):
    seeded(150)
    drift(7)
    sandbox.patch("sub_1Seed0100000050", {"items": {"data": [{"price": "none"}]}})
    run = reconcile(clock=monotonic_pauses)
    assert (run.state, run.errors, dict(run.findings)) == ("completed", 1, {"price": 1})
    assert run.error_sample[0]["code"] == "stripe_unavailable"


def test_one_that_a_bug_strikes_is_an_error_and_hides_no_other(billed, sandbox, reconcile, deliver, monotonic_pauses):
    struck, other = billed("pro"), billed("pro")
    for it in (struck, other):
        sandbox.patch(it.subscription, {"status": "past_due"})
    deliver("customer.subscription.created", of=struck.subscription, type="customer.subscription.unheard_of")
    stored = {"set__outcome": "ignored", "set__payload": "no JSON", "set__created": database_now()}
    assert WebhookEvent.objects(stripe_subscription_id=struck.subscription).update(**stored) == 1
    run = reconcile(clock=monotonic_pauses)
    assert (run.state, run.errors, dict(run.findings)) == ("completed", 1, {"status": 1})
    assert [(each["subject"], each["code"]) for each in run.error_sample] == [(str(struck.org_id), "internal_error")]
    assert Finding.objects.get().organization == other.org_id


@pytest.mark.parametrize("count", [20_000])
def test_memory_is_bounded(seeded, environment, count):
    seeded(count)
    code = (
        "import re\n"
        "from billing_service.cli import cli\n"
        "try:\n    cli(['reconcile', '--json'], standalone_mode=False)\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        # Not getrusage: that remembers the process from which this one was forked.
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "RECONCILE_CONFIRM_SECONDS": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told, megabytes = done.stdout.strip().splitlines()
    assert json.loads(told)["checked"] == count
    assert int(megabytes) < 200
