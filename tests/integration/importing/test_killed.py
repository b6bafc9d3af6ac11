"""Imports killed (-9) at each single write to MongoDB: the next one goes on, and it all comes to the same."""

import json
import os
from datetime import timedelta

import pytest

from billing_service.documents import (
    AdminAction,
    ImportItem,
    ImportRun,
    Organization,
    OutboxSignal,
    Subscription,
    database_now,
)

# What is stored before a write is what was stored after the one before it.
WHEN = [True, False] if os.environ.get("BILLING_TESTS") == "long" else [True]
# Well above what these imports write.
MOST = 60


@pytest.fixture
def mortal(mortal):
    """Runs the import in a process that dies at its n-th write, before or after it; its exit code, None: it is dead."""

    def carry_out(at, after, *options):
        told = mortal(at, after, command=["import", "--json", *options])
        return told and told["code"]

    return carry_out


@pytest.fixture
def account(organization, customer, subscribe, sandbox):
    """Organizations of all sorts: plain ones, past due, several subscriptions, and some that are nobody's."""
    plain = [subscribe(customer(organization()), "pro") for _ in range(3)]
    late = subscribe(customer(organization()), "pro")
    sandbox.patch(late, {"status": "past_due"})
    whose = customer(organization())
    begun = [subscribe(whose, "pro"), subscribe(whose, "pro", payment_behavior="default_incomplete")]
    twice = customer(organization())
    both = [subscribe(twice, "pro"), subscribe(twice, "business")]
    nobody = subscribe(customer(), "pro")
    shared = customer()
    of_two = [subscribe(shared, "pro", metadata={"organizationId": str(organization())}) for _ in range(2)]
    ends = dict.fromkeys([*plain, late, begun[0]], ("imported", None))
    ends |= {begun[1]: ("beside", None), nobody: ("unmapped", "organization_missing")}
    ends |= dict.fromkeys(both, ("unmapped", "several_live_subscriptions"))
    return ends | dict.fromkeys(of_two, ("unmapped", "customer_shared"))


def forget():
    for document in (Subscription, ImportRun, ImportItem, AdminAction, OutboxSignal):
        document.objects().delete()
    Organization.objects().update(set__plan="free")


def ends_of(run):
    return {each.stripe_subscription_id: (each.state, each.reason) for each in ImportItem.objects(run=run.pk)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("after", WHEN)
def test_killed_at_each_write(mortal, account, finish, after):
    for at in range(1, MOST):
        forget()
        code = mortal(at, after, "--apply")
        started = ImportRun.objects.first()
        if code is None and started is None:
            assert mortal(None, False, "--apply") == 1
            started = ImportRun.objects.get()
        elif code is None:
            started = finish(started) if started.active else started
        assert_all_is_there(started, account, at)
        if code is not None:
            break
    assert code == 1
    assert at > 8


def assert_all_is_there(run, account, at):
    run.reload()
    assert (run.state, run.listed, run.organizations) == ("completed", 11, 5), at
    assert ends_of(run) == account, at
    assert run.states == {"imported": 5, "beside": 1, "unmapped": 5}, at
    assert run.settled == 8, at  # what was unmapped in the list was never pending
    rows = list(Subscription.objects)
    assert (len(rows), {each.version for each in rows}) == (5, {1}), at
    assert Organization.objects(plan="pro").count() == 5, at
    assert AdminAction.objects(organization__ne=None).count() == 5, at
    assert sorted(each.phase for each in AdminAction.objects(organization=None)) == ["intent", "outcome"], at
    assert len(OutboxSignal.objects) == 0, at


@pytest.mark.timeout(300)
def test_a_dry_run_killed_at_some_writes_writes_no_row(mortal, account, finish):
    for at in range(4, MOST, 3):
        forget()
        code = mortal(at, True)
        run = ImportRun.objects.get()
        run = finish(run) if run.active else run
        assert ends_of(run) == account, at
        assert (len(Subscription.objects), len(AdminAction.objects), run.organizations) == (0, 0, 5), at
        if code is not None:
            break
    assert code == 1


def test_the_command_waits_for_the_lease_of_the_dead(mortal, account, command_line):
    assert mortal(6, True, "--apply") is None
    run = ImportRun.objects.get()
    assert (run.active, run.lease_owner is not None) == (True, True)
    # A minute is more than a test should wait.
    run.update(set__lease_until=database_now() + timedelta(seconds=20))
    code, printed, said = command_line("import", "--apply", "--json")
    told = json.loads(printed)
    assert (code, told["id"], told["state"], told["organizations"]) == (1, str(run.pk), "completed", 5)
    assert "another process holds it" in said
    assert_all_is_there(run, account, 6)
