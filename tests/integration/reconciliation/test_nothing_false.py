"""What is on its way, lags or was decided by an admin is no finding; and nothing is written but findings."""

from datetime import timedelta

import pytest

from billing_service.documents import EPOCH, Organization, OutboxSignal, ReconciliationCandidate, Subscription

UPDATED = "customer.subscription.updated"


def cleared():
    return {each.state for each in ReconciliationCandidate.objects}


@pytest.mark.parametrize("state", ["received", "processing", "failed"])
def test_an_event_in_flight_explains_it(billed, sandbox, stripe, deliver, reconcile, findings, state):
    it = billed("pro")
    deliver()
    stripe.subscriptions.update(it.subscription, {"cancel_at_period_end": True})
    deliver(UPDATED, state=state, outcome=None)
    run = reconcile()
    assert (findings(), run.in_flight, run.divergences) == ([], 1, 0)
    assert cleared() == {"in_flight"}


def test_a_row_that_waits_for_its_second_look_is_in_flight(billed, sandbox, reconcile, findings, runtime):
    it = billed("pro")
    sandbox.patch(it.subscription, {"status": "past_due"})
    Subscription.objects(organization=it.org_id).update_one(set__verify_at=runtime.clock() + timedelta(seconds=15))
    assert reconcile().in_flight == 1
    assert findings() == []


def test_lists_that_lag(billed, sandbox, stripe, sync, reconcile, findings):
    rows = [billed("pro") for _ in range(3)]
    stripe.subscriptions.update(rows[0].subscription, {"cancel_at_period_end": True})
    stripe.subscriptions.cancel(rows[1].subscription)
    late = billed("pro")
    for it in (rows[0], rows[1], late):
        sync(it)
    Subscription.objects().update(unset__verify_at=True)
    # Lists show what was two seconds ago, retrievals what is.
    sandbox.arm("lag", path="/v1/subscriptions$", times=None, seconds=2)
    run = reconcile()
    assert (findings(), run.divergences, run.errors) == ([], 0, 0)
    assert run.candidates > 0
    assert cleared() == {"cleared"}


def test_what_changes_between_the_looks_has_to_last(billed, sandbox, stripe, start, desk, findings, go_on):
    it = billed("pro")
    sandbox.patch(it.subscription, {"status": "past_due"})
    run = start()
    go_on(confirm=timedelta(seconds=60))
    sandbox.patch(it.subscription, {"status": "unpaid"})
    for expected in (1, 2, 3):
        ReconciliationCandidate.objects().update(set__due_at=EPOCH)
        sandbox.patch(it.subscription, {"status": ("incomplete", "unpaid")[expected % 2]})
        go_on(confirm=timedelta(seconds=60))
        assert ReconciliationCandidate.objects.first().restarts == expected
    sandbox.patch(it.subscription, {"status": "past_due", "cancel_at_period_end": True})
    ReconciliationCandidate.objects().update(set__due_at=EPOCH, set__seen=[])
    go_on(confirm=timedelta(seconds=60))
    assert findings() == []
    run.reload()
    assert (run.state, run.in_flight) == ("completed", 1)


def test_changes_of_the_same_second(billed, stripe, sync, reconcile, findings):
    rows = [billed("pro") for _ in range(5)]
    for it in rows:
        stripe.subscriptions.update(it.subscription, {"cancel_at_period_end": True})
        sync(it)
        stripe.subscriptions.update(it.subscription, {"cancel_at_period_end": False})
        sync(it)
    Subscription.objects().update(unset__verify_at=True)
    assert reconcile().candidates == 0
    assert findings() == []


def test_it_writes_nothing_but_findings(billed, subscribe, organization, stripe, sandbox, reconcile, everything):
    rows = [billed("pro") for _ in range(6)]
    stripe.subscriptions.cancel(rows[0].subscription)
    sandbox.remove(rows[1].subscription)
    subscribe(rows[2].customer, "business")
    Organization.objects(id=rows[3].org_id).update_one(set__plan="business")
    sandbox.patch(rows[4].subscription, {"status": "past_due"})
    Subscription.objects(organization=rows[5].org_id).delete()
    organization(plan="pro")
    before, told = everything(), len(OutboxSignal.objects)
    sandbox.clear_requests()
    run = reconcile()
    assert (run.divergences, run.new) == (8, 8)
    assert everything() == before
    asked = sandbox.requests(limit=1000)["items"]
    assert {each["method"] for each in asked} == {"GET"}
    assert (
        len(OutboxSignal.objects) - told == OutboxSignal.objects(name="billing.reconciliation.divergence").count() == 8
    )


def test_one_that_stripe_never_answers_for_does_not_hold_up_the_others(
    billed, sandbox, reconcile, findings, monotonic_pauses
):
    stuck, other = billed("pro"), billed("pro")
    for it in (stuck, other):
        sandbox.patch(it.subscription, {"status": "unpaid"})
    sandbox.arm("lock_timeout", path=f"/{stuck.subscription}$", times=None)
    run = reconcile(clock=monotonic_pauses)
    assert (run.state, run.errors) == ("completed", 1)
    assert run.error_sample[0]["subject"] == str(stuck.org_id)
    assert findings() == [("status", other.org_id)]


@pytest.fixture
def sync(runtime):
    from billing_service import subscriptions

    def run(it):
        subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())

    return run
