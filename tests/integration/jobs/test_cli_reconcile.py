"""billing-service reconcile: run here, followed, gone on with."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from billing_service import reconciliation, startup
from billing_service.documents import Finding, Organization, ReconciliationRun, Subscription, database_now

COMMAND = [sys.executable, "-c", "from billing_service.cli import main; main()"]


@pytest.fixture
def run(command_line):
    return lambda *arguments, **changes: command_line(
        "reconcile", *arguments, **{"RECONCILE_CONFIRM_SECONDS": "0"} | changes
    )


@pytest.fixture
def drifted(billed, sandbox):
    it = billed("pro")
    sandbox.patch(it.subscription, {"status": "unpaid"})
    return it


def test_clean_is_0(run, billed):
    billed("pro")
    code, printed, _ = run("--json")
    told = json.loads(printed)
    assert (code, told["checked"], told["divergences"], told["errors"]) == (0, 1, 0, 0)
    assert (told["state"], told["trigger"], told["actor"]) == ("completed", "cli", "cli")


def test_divergences_are_1(run, drifted):
    code, printed, _ = run()
    assert code == 1
    assert "status: 1" in printed
    assert "new 1" in printed
    # Acknowledged ones are not worth an alarm.
    Finding.objects().update(set__state="acknowledged")
    assert run()[0] == 0


def test_an_acknowledged_override_hides_no_divergence(run, drifted, billed):
    """An override is no divergence: that it is acknowledged says nothing of those that are."""
    it = billed("pro")
    override = {"plan": "business", "actor": "ada@example.com"}
    Subscription.objects(organization=it.org_id).update_one(set__override=override, set__plan="business")
    Organization.objects(id=it.org_id).update_one(set__plan="business")
    assert run()[0] == 1
    assert Finding.objects(kind="overridden").update(set__state="acknowledged") == 1
    code, printed, _ = run("--json")
    told = json.loads(printed)
    assert (code, told["divergences"], told["acknowledged"]) == (1, 1, 0)


def test_errors_are_2(run, drifted, sandbox):
    sandbox.remove(drifted.subscription)
    sandbox.remove(drifted.customer)
    code, printed, _ = run()
    assert code == 2
    assert "missing_unproven" in printed


def test_one_organization(run, drifted, billed, sandbox):
    other = billed("pro")
    sandbox.patch(other.subscription, {"status": "unpaid"})
    code, printed, _ = run("--org", str(drifted.org_id), "--json")
    assert (code, json.loads(printed)["checked"]) == (1, 1)
    assert [each.organization for each in Finding.objects] == [drifted.org_id]


@pytest.mark.parametrize("value", ["x", "5" * 23, "$ne"])
def test_bad_input_is_2(run, value):
    assert run("--org", value)[0] == 2


def test_an_unknown_organization_is_2(run, app):
    code, _, said = run("--org", "5" * 24)
    assert (code, "organization_not_found" in said) == (2, True)
    assert len(ReconciliationRun.objects) == 0


def test_another_run_in_the_way_is_2(run, drifted, runtime):
    reconciliation.start("api", runtime.clock(), organization=drifted.org_id)
    code, _, said = run()
    assert (code, "reconciliation_running" in said) == (2, True)


def test_without_a_key_the_run_fails(run, app):
    code, printed, _ = run(STRIPE_SECRET_KEY="", STRIPE_WEBHOOK_SECRETS="")
    assert (code, "stripe_not_configured" in printed) == (2, True)


def test_a_key_of_another_account_is_refused(run, drifted, sandbox, runtime):
    startup.check(runtime)
    key = sandbox.add_account(id="acct_other", key="sk_test_other")["key"]
    code, _, said = run(STRIPE_SECRET_KEY=key)
    assert (code, "acct_sandbox" in said) == (2, True)
    assert len(ReconciliationRun.objects) == 0


def test_it_goes_on_with_one_that_waits(run, drifted, runtime):
    started = reconciliation.start("api", runtime.clock())
    code, printed, said = run("--json")
    assert (code, json.loads(printed)["id"]) == (1, str(started.pk))
    assert "following" in said


def test_interrupted_it_says_so_and_the_next_goes_on(run, environment, sandbox, app, tmp_path):
    sandbox.seed(1_500, ["price_pro_monthly"])
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, seconds=0.3)
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen(
            [*COMMAND, "reconcile"],
            env={**os.environ, **environment, "RECONCILE_CONFIRM_SECONDS": "0"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + 20
    while not ReconciliationRun.objects(checked__gte=100).count():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    assert child.wait(15) == 2
    stopped = ReconciliationRun.objects.get()
    assert (stopped.state, stopped.lease_owner) == ("interrupted", None)
    sandbox.disarm()
    ReconciliationRun.objects().update(set__phase="rows")
    code, printed, said = run("--json")
    assert (code in (0, 1), json.loads(printed)["id"], "following" in said) == (True, str(stopped.pk), False)


def test_a_dead_holder_is_waited_for(run, drifted, runtime):
    started = reconciliation.start("api", runtime.clock())
    started.update(set__lease_owner="dead", set__lease_until=database_now().replace(microsecond=0))
    code, printed, _ = run("--json")
    assert (code, json.loads(printed)["id"]) == (1, str(started.pk))


def test_nothing_is_repaired(run, drifted):
    before = Subscription.objects().first().describe()
    run()
    assert Subscription.objects().first().describe() == before


def test_a_person_sees_a_bar(environment, sandbox, billed):
    for _ in range(3):
        billed("pro")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [*COMMAND, "reconcile"],
        env={**os.environ, **environment, "RECONCILE_CONFIRM_SECONDS": "0"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    assert child.wait(30) == 0
    shown = os.read(ours, 100_000).decode(errors="replace")
    os.close(ours)
    assert "100%" in shown, shown


def test_without_a_terminal_the_log_tells_how_far_it_is(run, runtime, sandbox, app):
    sandbox.seed(6_000, ["price_of_another_product"], metadata_key="theirs")
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, seconds=0.25)
    code, printed, said = run("--json")
    assert (code, json.loads(printed)["state"]) == (0, "completed")
    lines = [json.loads(line) for line in said.splitlines() if "reconciliation_progress" in line]
    assert lines, said
    assert {line["phase"] for line in lines} == {"listing"}
    assert 0 < lines[0]["stripe_requests"] <= 61
