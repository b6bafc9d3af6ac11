"""billing-service import, and the list of what it made of each subscription."""

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from bson import ObjectId

from billing_service import importing, startup
from billing_service.documents import AdminAction, ImportItem, ImportRun, Organization, Subscription, database_now

COMMAND = [sys.executable, "-c", "from billing_service.cli import main; main()", "import"]


@pytest.fixture
def run(command_line):
    return lambda *arguments, **changes: command_line("import", *arguments, **changes)


@pytest.fixture
def nobodys(customer, subscribe):
    """A subscription that names nobody."""
    return subscribe(customer(), "pro")


@pytest.fixture
def somebodys(organization, customer, subscribe):
    """A subscription of an organization without a row: (organization, subscription)."""
    org_id = organization()
    return org_id, subscribe(customer(org_id), "pro")


def test_it_looks_first(run, somebodys, row):
    code, printed, _ = run()
    assert code == 0
    assert "1 organizations would get a row, 1 of them with another plan than before" in printed
    assert "(nothing was written)" in printed
    assert "the same with --apply" in printed
    assert row(somebodys[0]) is None
    code, printed, _ = run("--apply", "--note", "going live", "--actor", "ada")
    assert (code, row(somebodys[0]).plan) == (0, "pro")
    assert "1 organizations got a row" in printed


def test_what_is_not_mapped_is_1_and_told(run, somebodys, nobodys):
    code, printed, _ = run("--apply")
    assert code == 1
    assert "organization_missing: 1  Neither it nor its customer names an organization" in printed
    assert "import items" in printed
    code, printed, _ = run("items", "--state", "unmapped")
    assert code == 0
    assert printed.split()[0] == nobodys
    assert "organization_missing" in printed


def test_whoever_goes_on_with_it_is_named(run, somebodys, runtime):
    """The rows are theirs who made them, not theirs who began."""
    importing.start(importing.Wanted(apply=True, actor="ada", note="began"), runtime.clock())
    code, printed, _ = run("--apply", "--json", "--actor", "bob", "--note", "went on")
    assert (code, json.loads(printed)["actor"]) == (0, "bob")
    told = [(each.phase, each.actor, each.note) for each in AdminAction.objects(organization=None).order_by("at")]
    assert told == [("intent", "ada", "began"), ("intent", "bob", "went on"), ("outcome", "bob", "went on")]
    assert [(each.actor, each.note) for each in AdminAction.objects(organization=somebodys[0])] == [("bob", "went on")]


def test_another_products_is_no_alarm(run, customer, subscribe):
    subscribe(customer(), None)
    code, printed, _ = run("--json")
    assert (code, json.loads(printed)["reasons"]) == (0, {"foreign": 1})


def test_the_document(run, somebodys, nobodys):
    code, printed, _ = run("--json", "--apply")
    told = json.loads(printed)
    assert code == 1
    assert {name: told[name] for name in ("state", "apply", "canceled", "listed", "organizations", "plansChanged")} == {
        "state": "completed",
        "apply": True,
        "canceled": False,
        "listed": 2,
        "organizations": 1,
        "plansChanged": 1,
    }
    assert (told["states"], told["reasons"]) == ({"imported": 1, "unmapped": 1}, {"organization_missing": 1})
    assert told["startedAt"].endswith("Z")


def test_the_items_in_three_forms(run, somebodys, nobodys):
    org_id, subscription = somebodys
    run()
    lines = [json.loads(line) for line in run("items", "--format", "json")[1].splitlines()]
    assert [(each["stripeSubscriptionId"], each["state"], each["orgId"]) for each in lines] == [
        (subscription, "imported", str(org_id)),
        (nobodys, "unmapped", None),
    ]
    assert (lines[0]["previousPlan"], lines[0]["plan"], lines[1]["reason"]) == ("free", "pro", "organization_missing")
    rows = list(csv.DictReader(io.StringIO(run("items", "--format", "csv")[1])))
    assert [(each["stripeSubscriptionId"], each["state"]) for each in rows] == [
        (subscription, "imported"),
        (nobodys, "unmapped"),
    ]
    printed = run("items", "--reason", "organization_missing")[1]
    assert [line.split()[0] for line in printed.splitlines()] == [nobodys]


def test_hostile_metadata_are_text(run, customer, subscribe):
    for text in ("=1+1", "\x1b[31mred\x07", "x" * 400, '{"$ne": 1}'):
        subscribe(customer(), "pro", metadata={"organizationId": text})
    assert run()[0] == 1
    printed = run("items")[1]
    assert "\x1b" not in printed
    rows = list(csv.DictReader(io.StringIO(run("items", "--format", "csv")[1])))
    assert {each["reason"] for each in rows} == {"organization_invalid"}
    assert not [cell for each in rows for cell in each.values() if cell.startswith(("=", "+", "-", "@"))]


def test_the_items_of_an_import_by_its_id(run, somebodys):
    first = json.loads(run("--json")[1])["id"]
    run("--apply")
    run("--apply")
    assert "imported" in run("items", "--import", first)[1]
    assert "kept" in run("items")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--applly"],
        ["--note", "x" * 1001],
        ["items", "--state", "$ne"],
        ["items", "--reason", "none"],
        ["items", "--import", "5"],
        ["items", "--format", "xml"],
        ["anything"],
    ],
)
def test_bad_input_is_2(run, arguments):
    assert run(*arguments)[0] == 2


def test_no_import_is_1(run):
    code, _, said = run("items")
    assert (code, "import_not_found" in said) == (1, True)
    assert run("items", "--import", "5" * 24)[0] == 1


def test_without_a_key_it_fails(run):
    code, printed, _ = run(STRIPE_SECRET_KEY="", STRIPE_WEBHOOK_SECRETS="")
    assert (code, "stripe_not_configured" in printed) == (2, True)


def test_a_key_of_another_account_is_refused(run, somebodys, sandbox, runtime):
    startup.check(runtime)
    key = sandbox.add_account(id="acct_other", key="sk_test_other")["key"]
    code, _, said = run("--apply", STRIPE_SECRET_KEY=key)
    assert (code, "acct_sandbox" in said, len(ImportRun.objects)) == (2, True, 0)


def test_a_key_that_may_not_read_customers_is_told(run, somebodys, sandbox):
    key = sandbox.add_key(key="rk_test_few", permissions={"*": "read", "customers": "none"})
    code, printed, _ = run("--apply", STRIPE_SECRET_KEY=key)
    assert (code, "stripe_misconfigured" in printed, len(Subscription.objects)) == (2, True, 0)


def test_another_process_at_it_is_told(run, somebodys, runtime):
    """The other one renews its lease: it lives."""
    import threading

    from billing_service import importing

    started, _ = importing.start(importing.Wanted(apply=True, actor="bob"), runtime.clock())
    started.update(set__lease_owner="bob's", set__lease_until=database_now() + timedelta(seconds=60))
    over = threading.Event()

    def renew():
        while not over.wait(0.5):
            ImportRun.objects().update(set__lease_until=database_now() + timedelta(seconds=60))

    other = threading.Thread(target=renew)
    other.start()
    try:
        code, _, said = run("--apply")
    finally:
        over.set()
        other.join()
    assert (code, "import_running" in said, "bob" in said) == (2, True, True)
    assert len(Subscription.objects) == 0


def test_other_options_are_told_what_to_do(run, somebodys, runtime):
    from billing_service import importing

    importing.start(importing.Wanted(), runtime.clock())
    code, _, said = run("--apply")
    assert (code, "import_unfinished" in said, "--restart" in said) == (2, True, True)
    code, _, _ = run("--apply", "--restart")
    assert (code, len(Subscription.objects)) == (0, 1)


def test_interrupted_it_says_so_and_the_next_goes_on(run, environment, sandbox, app, tmp_path):
    sandbox.seed(1_500, ["price_pro_monthly"])
    ids = [ObjectId(f"{0x5EED00000000000000000000 + number:024x}") for number in range(1_500)]
    Organization._get_collection().insert_many([{"_id": each, "plan": "free"} for each in ids])
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, seconds=0.3)
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen(
            [*COMMAND, "--apply"], env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 60
    while not ImportRun.objects(listed__gte=100).count():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 2
    stopped = ImportRun.objects.get()
    assert (stopped.state, stopped.lease_owner) == ("interrupted", None)
    sandbox.disarm()
    code, printed, said = run("--apply", "--json")
    told = json.loads(printed)
    assert (code, told["id"], told["listed"], told["organizations"]) == (0, str(stopped.pk), 1_500, 1_500)
    assert "going on with the import" in said
    assert len(ImportItem.objects) == 1_500


def test_a_person_sees_a_bar(environment, sandbox, somebodys):
    ours, theirs = pty.openpty()
    child = subprocess.Popen(COMMAND, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    assert child.wait(60) == 0
    shown = os.read(ours, 100_000).decode(errors="replace")
    os.close(ours)
    assert "100%" in shown, shown


def test_it_keeps_to_the_budget(run, sandbox, app):
    sandbox.seed(1_000, ["price_pro_monthly"])
    began = time.monotonic()
    code, printed, _ = run("--json", STRIPE_REQUESTS_PER_SECOND="10")
    took = time.monotonic() - began
    told = json.loads(printed)
    assert (code, told["reasons"]) == (1, {"organization_unknown": 1_000})
    # Half of the rate is the background's; a second's worth may have been saved up.
    assert took > told["stripeRequests"] / 5 - 2
