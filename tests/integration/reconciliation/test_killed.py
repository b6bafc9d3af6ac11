"""Reconciliations killed (-9) at their writes: the next one goes on, and each thing is found, told and counted once."""

import os

import pytest

from billing_service.documents import (
    Finding,
    Organization,
    OutboxSignal,
    ReconciliationCandidate,
    ReconciliationRun,
    Subscription,
    database_now,
)

LONG = os.environ.get("BILLING_TESTS") == "long"
# What is stored before a write is what was stored after the one before it.
WHEN = [True, False] if LONG else [True]
# Each phase is met with a few of them, too.
STEP = 1 if LONG else 8
# Well above what these runs write.
MOST = 80
FOUND = ["canceled_here_live_there", "missing_in_db", "org_plan", "overridden", "price", "status"]


@pytest.fixture
def drifted(billed, organization, stripe, subscribe, sandbox, reconcile):
    """Organizations each of which has drifted in its own way, and a finding of an earlier run that holds no more."""
    status, price, plan, override, ended, mended = (billed("pro") for _ in range(6))
    row(mended, quantity=7)
    assert dict(reconcile().findings) == {"price": 1}
    row(mended, quantity=1)
    sandbox.patch(status.subscription, {"status": "past_due"})
    row(price, quantity=9)
    Organization.objects(id=plan.org_id).update_one(set__plan="business")
    row(override, plan="business", override={"plan": "business", "actor": "ada"})
    Organization.objects(id=override.org_id).update_one(set__plan="business")
    row(ended, status="canceled", plan="free")
    Organization.objects(id=ended.org_id).update_one(set__plan="free")
    names = {"metadata": {"organizationId": str(organization())}}
    subscribe(stripe.customers.create(names).id, "pro", **names)


def row(it, **fields):
    changes = {f"set__{name}": value for name, value in fields.items()}
    assert Subscription.objects(organization=it.org_id).update_one(**changes)


def forget(earlier):
    """As it was before this run."""
    ReconciliationRun.objects(id__ne=earlier.run).delete()
    ReconciliationCandidate.objects().delete()
    OutboxSignal.objects().delete()
    Finding.objects(id__ne=earlier.pk).delete()
    earlier.update(set__state="open", unset__resolved_at=True, unset__resolved_by=True, unset__expires_at=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("after", WHEN)
def test_killed_at_its_writes(mortal, drifted, go_on, start, after):
    earlier = Finding.objects.get()
    for at in range(4, MOST, STEP):
        forget(earlier)
        told = mortal(at, after, command=["reconcile", "--json"])
        ReconciliationRun.objects(active=True).update(set__lease_until=database_now())
        run = ReconciliationRun.objects(id__ne=earlier.run).first() or start()
        while run.active:
            go_on(meter_mode=True)
            run.reload()
        check(run, earlier, at)
        if told is not None:
            assert told["code"] == 1
            return
    raise AssertionError(f"it writes more than {MOST} times")


def check(run, earlier, at):
    assert (run.state, run.checked, run.divergences, run.errors) == ("completed", 8, 5, 0), (at, run.describe())
    assert (run.new, run.changed, run.resolved, run.in_flight) == (6, 0, 1, 0), at
    assert sorted(each.kind for each in Finding.objects(state="open")) == FOUND, at
    assert {each.times_seen for each in Finding.objects(state="open")} == {1}, at
    assert (earlier.reload().state, earlier.resolved_by) == ("resolved", "reconcile"), at
    assert sorted(each.facts["kind"] for each in OutboxSignal.objects) == sorted({*FOUND} - {"overridden"}), at
