"""billing-service sync --finding-kind | --status: looked at first, then written one by one."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from bson import ObjectId

from billing_service import startup
from billing_service.documents import AdminAction, AdminOperation, Finding, Subscription, database_now
from billing_service.subscriptions import bulk_sync

COMMAND = [sys.executable, "-c", "from billing_service.cli import main; main()"]


@pytest.fixture
def drifted(billed, sandbox):
    """Makes an organization whose last change was missed, with the finding that tells of it."""

    def make(kind="status", status="unpaid", state="open"):
        it = billed("pro")
        sandbox.patch(it.subscription, {"status": status})
        found(it.org_id, kind, state)
        return it

    return make


def found(org_id, kind="status", state="open"):
    now = database_now()
    Finding(
        fingerprint=f"{kind}:{ObjectId()}",
        kind=kind,
        severity="medium",
        organization=org_id,
        first_seen_at=now,
        last_seen_at=now,
        state=state,
    ).save()


@pytest.fixture
def run(command_line):
    """Runs the command; returns its exit code, a line for each organization, and the summary."""

    def call(*arguments, **changes):
        code, printed, said = command_line("sync", *arguments, "--json", **changes)
        lines = [json.loads(line) for line in printed.splitlines()]
        assert lines, said
        return code, {each["orgId"]: each for each in lines[:-1]}, lines[-1]["summary"]

    return call


def test_it_looks_first_and_writes_nothing(run, drifted, frozen, runtime):
    it = drifted()
    startup.check(runtime)  # the account is remembered at the first start, whatever is started
    with frozen:
        code, each, told = run("--finding-kind", "status")
    assert code == 0
    assert each[str(it.org_id)]["changed"]["status"] == {"stored": "active", "live": "unpaid"}
    assert told == {
        "organizations": 1,
        "changed": 1,
        "unchanged": 0,
        "refused": 0,
        "failed": 0,
        "unnamed": 0,
        "stopped": None,
        "applied": False,
    }
    assert (len(AdminOperation.objects), len(AdminAction.objects)) == (0, 0)


def test_applied_each_is_a_sync_of_its_own(run, drifted):
    ones = [drifted(), drifted()]
    code, each, told = run("--finding-kind", "status", "--apply", "--note", "missed on Sunday", "--actor", "ada")
    assert (code, told["changed"], len(each)) == (0, 2, 2)
    for it in ones:
        assert (it.row.status, it.row.synced_from, it.plan) == ("unpaid", "sync", "free")
        actions = list(AdminAction.objects(organization=it.org_id).order_by("id"))
        assert [(a.phase, a.action, a.actor, a.note) for a in actions] == [
            ("intent", "sync", "ada", "missed on Sunday"),
            ("outcome", "sync", "ada", "missed on Sunday"),
        ]
        assert (actions[1].before["status"], actions[1].after["status"]) == ("active", "unpaid")
        assert actions[1].parameters == {"finding_kind": "status"}
    assert {finding.state for finding in Finding.objects} == {"resolved"}


def test_twice_is_once(run, drifted):
    it = drifted()
    run("--finding-kind", "status", "--apply")
    version = it.row.version
    assert run("--finding-kind", "status", "--apply")[2]["organizations"] == 0
    assert it.row.version == version


def test_by_status(run, drifted, billed):
    it, other = drifted(), billed("pro", trial_period_days=7)
    code, each, told = run("--status", "active", "--apply")
    assert (code, set(each), told["changed"]) == (0, {str(it.org_id)}, 1)
    assert (it.row.status, other.row.status) == ("unpaid", "trialing")


def test_only_open_and_acknowledged_findings_of_the_kind_count(run, drifted):
    opened, acknowledged = drifted(), drifted(state="acknowledged")
    drifted(state="resolved")
    drifted(kind="plan")
    found(opened.org_id)  # a second one of the same organization
    assert set(run("--finding-kind", "status")[1]) == {str(opened.org_id), str(acknowledged.org_id)}


def test_a_finding_of_nobody_is_told(run, drifted, command_line):
    drifted()
    found(None)
    assert run("--finding-kind", "status")[2]["unnamed"] == 1
    assert "then link" in command_line("sync", "--finding-kind", "status")[1]


def test_one_that_is_refused_does_not_hold_up_the_others(run, drifted, organization):
    first, stranger, last = drifted(), organization(), None
    found(stranger)
    last = drifted()
    code, each, told = run("--finding-kind", "status", "--apply", "--stop-after", "1")
    assert (code, told["changed"], told["refused"], told["stopped"]) == (1, 2, 1, None)
    assert each[str(stranger)]["code"] == "subscription_not_found"
    assert (first.row.status, last.row.status) == ("unpaid", "unpaid")
    assert AdminAction.objects(organization=stranger, outcome="failed").count() == 1


def test_one_that_fails_does_not_hold_up_the_others(run, drifted, sandbox):
    first, second = drifted(), drifted()
    sandbox.arm("error", path=f"/v1/subscriptions/{first.subscription}", status=500, times=None)
    code, each, told = run("--finding-kind", "status", "--apply")
    assert (code, told["changed"], told["failed"], told["stopped"]) == (1, 1, 1, None)
    assert each[str(first.org_id)]["code"] == "stripe_unavailable"
    assert (first.row.status, second.row.status) == ("active", "unpaid")


def test_it_stops_when_stripe_is_down(run, drifted, sandbox):
    ones = [drifted() for _ in range(4)]
    sandbox.arm("error", path="/v1/(subscriptions|customers)", status=500, times=None)
    code, _, told = run("--finding-kind", "status", "--apply", "--stop-after", "2")
    assert (code, told["failed"], told["organizations"], told["stopped"]) == (1, 2, 2, "failures")
    sandbox.disarm()
    code, _, told = run("--finding-kind", "status", "--apply", "--stop-after", "2")
    assert (code, told["changed"], told["stopped"]) == (0, 4, None)
    assert {it.row.status for it in ones} == {"unpaid"}


def test_a_key_that_sees_nothing_stops_it(run, drifted, sandbox):
    ones = [drifted() for _ in range(3)]
    for it in ones:
        sandbox.remove(it.subscription)
        sandbox.remove(it.customer)
    code, each, told = run("--finding-kind", "status", "--apply", "--stop-after", "2")
    assert (code, told["stopped"], {one["code"] for one in each.values()}) == (1, "failures", {"missing_unproven"})
    assert {it.row.status for it in ones} == {"active"}


def test_killed_it_goes_on(run, drifted, environment, sandbox):
    ones = [drifted() for _ in range(6)]
    sandbox.arm("delay", path="/v1/subscriptions", times=None, seconds=0.1)
    child = subprocess.Popen(
        [*COMMAND, "sync", "--finding-kind", "status", "--apply"],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while Subscription.objects(status="unpaid").count() < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = Subscription.objects(status="unpaid").count()
    assert done < 6
    sandbox.disarm()
    code, _, told = run("--finding-kind", "status", "--apply")
    assert (code, told["changed"]) == (0, 6 - done)
    assert {it.row.version for it in ones} == {3}


def test_it_keeps_to_the_budget(run, drifted):
    for _ in range(4):
        drifted()
    began = time.monotonic()
    assert run("--finding-kind", "status", STRIPE_REQUESTS_PER_SECOND="4")[0] == 0
    assert time.monotonic() - began > 1.5


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["5" * 24, "--status", "active"],
        ["--status", "active", "--finding-kind", "status"],
        ["--status", "activ"],
        ["--finding-kind", "$ne"],
        ["--status", "active", "--dry-run"],
        ["5" * 24, "--apply"],
        ["--status", "active", "--stop-after", "0"],
        ["--status", "active", "--note", "x" * 1001],
    ],
)
def test_bad_input_is_2(command_line, arguments):
    assert command_line("sync", *arguments)[0] == 2


def test_the_words_for_a_person(command_line, drifted):
    it = drifted()
    code, printed, _ = command_line("sync", "--finding-kind", "status")
    assert code == 0
    assert f"{it.org_id}  would change" in printed
    assert "status: active -> unpaid" in printed
    assert "the same with --apply" in printed


def test_many_findings_are_read_by_index_in_pages(app, drifted):
    from mongoengine.connection import get_db

    at = database_now()
    many = [
        {"kind": "status", "state": "open" if n % 2 else "resolved", "organization": ObjectId(), "first_seen_at": at,
         "fingerprint": f"{n}"}
        for n in range(600)
    ]  # fmt: skip
    others = [each | {"kind": "plan", "fingerprint": f"p{each['fingerprint']}"} for each in many]
    Finding._get_collection().insert_many([dict(each) for each in many + others])
    database = get_db()
    database.command("profile", 2)
    try:
        read = list(bulk_sync.organizations_with_finding("status"))
    finally:
        database.command("profile", 0)
    seen = list(database.system.profile.find({"op": "query", "ns": f"{database.name}.findings"}))
    database.system.profile.drop()
    assert len(read) == len(set(read)) == 300
    assert sum(each["docsExamined"] for each in seen) <= 2 * 600
    assert all("kind_first_seen" in str(each["execStats"]) or "IXSCAN" in each["planSummary"] for each in seen)
