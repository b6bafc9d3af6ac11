"""Findings over several runs: seen again, changed, acknowledged, resolved."""

from datetime import timedelta

import pytest

from billing_service import reconciliation, subscriptions
from billing_service.documents import Finding, OutboxSignal, ReconciliationCandidate, Subscription
from billing_service.reconciliation import described

NAME = "billing.reconciliation.divergence"


@pytest.fixture
def drifted(billed, sandbox):
    """An organization whose status was missed."""
    it = billed("pro")
    sandbox.patch(it.subscription, {"status": "past_due"})
    return it


def signals():
    return OutboxSignal.objects(name=NAME).count()


def finding(it):
    return Finding.objects(organization=it.org_id).order_by("-id").first()


def acknowledge(found, runtime):
    reconciliation.acknowledge(
        found.pk,
        by="ada@example.com",
        until=runtime.clock() + timedelta(days=30),
        note=None,
        now=runtime.clock(),
        also=lambda outcome: None,
    )


def test_seen_again_is_not_told_again(drifted, reconcile):
    reconcile()
    run = reconcile()
    found = finding(drifted)
    assert (len(Finding.objects), found.times_seen, found.run) == (1, 2, run.pk)
    assert (signals(), run.new, run.changed, run.divergences) == (1, 0, 0, 1)
    assert found.last_seen_at > found.first_seen_at


def test_changed_is_told(drifted, reconcile, sandbox):
    reconcile()
    sandbox.patch(drifted.subscription, {"status": "unpaid"})
    run = reconcile()
    assert (signals(), run.changed, finding(drifted).live["status"]) == (2, 1, "unpaid")
    news = [each.facts["news"] for each in OutboxSignal.objects(name=NAME).order_by("id")]
    assert news == ["new", "changed"]


def test_acknowledged_stays_quiet(drifted, reconcile, runtime):
    reconcile()
    acknowledge(finding(drifted), runtime)
    run = reconcile()
    assert (finding(drifted).state, signals(), run.acknowledged, run.divergences) == ("acknowledged", 1, 1, 1)


def test_acknowledged_and_changed_is_open_again(drifted, reconcile, runtime, sandbox):
    reconcile()
    acknowledge(finding(drifted), runtime)
    sandbox.patch(drifted.subscription, {"status": "unpaid"})
    reconcile()
    assert (finding(drifted).state, signals()) == ("open", 2)


def test_a_run_resolves_what_is_gone(drifted, reconcile, sandbox):
    reconcile()
    sandbox.patch(drifted.subscription, {"status": "active"})
    run = reconcile()
    found = finding(drifted)
    assert (found.state, found.resolved_by, run.resolved) == ("resolved", "reconcile", 1)
    assert found.expires_at is not None
    sandbox.patch(drifted.subscription, {"status": "past_due"})
    reconcile()
    assert (len(Finding.objects), signals()) == (2, 2)


def test_acknowledged_ones_are_resolved_too(drifted, reconcile, sandbox, runtime):
    reconcile()
    acknowledge(finding(drifted), runtime)
    sandbox.patch(drifted.subscription, {"status": "active"})
    reconcile()
    assert finding(drifted).state == "resolved"


def test_what_was_not_compared_is_not_resolved(drifted, reconcile, sandbox):
    reconcile()
    sandbox.remove(drifted.subscription)
    sandbox.remove(drifted.customer)
    run = reconcile()
    assert (finding(drifted).state, run.errors, run.resolved) == ("open", 1, 0)


def test_what_nobody_owned_is_not_resolved_where_its_owner_was_not_compared(
    organization, stripe, subscribe, billed, reconcile, sandbox, monotonic_pauses
):
    """The finding names a subscription alone; by now it is one of an organization that could not be compared."""
    customer = stripe.customers.create({}).id
    subscription = subscribe(customer, "pro")
    reconcile()
    assert [(each.organization, each.kind) for each in Finding.objects] == [(None, "missing_in_db")]
    org_id = organization()
    Subscription(organization=org_id, stripe_customer_id=customer, plan="free", version=1).save()
    sandbox.arm("error", path=f"/v1/subscriptions/{subscription}", status=500, times=None)
    run = reconcile(clock=monotonic_pauses)
    assert (run.state, run.errors, run.resolved) == ("completed", 1, 0)
    assert [each.state for each in Finding.objects(organization=None)] == ["open"]


def test_what_is_in_flight_is_not_resolved(drifted, reconcile, sandbox, stripe, deliver):
    deliver()
    reconcile()
    stripe.subscriptions.update(drifted.subscription, {"cancel_at_period_end": True})
    deliver(state="received", outcome=None)
    run = reconcile()
    assert (finding(drifted).state, run.in_flight, run.resolved) == ("open", 1, 0)


def test_a_failed_run_resolves_nothing(drifted, reconcile, sandbox, start, go_on):
    reconcile()
    sandbox.patch(drifted.subscription, {"status": "active"})
    run = start()
    sandbox.arm("error", path="/v1/subscriptions$", status=401, times=None)
    go_on()
    run.reload()
    assert (run.state, finding(drifted).state) == ("failed", "open")
    assert run.error.startswith("stripe_misconfigured")
    assert OutboxSignal.objects(name="job_given_up").count() == 1


def test_other_kinds_are_left_alone(billed, reconcile, runtime):
    it = billed("pro")
    now = runtime.clock() - timedelta(days=1)
    Finding(
        fingerprint="cancel_unverified:1",
        kind="cancel_unverified",
        severity="high",
        organization=it.org_id,
        first_seen_at=now,
        last_seen_at=now,
        state="open",
    ).save()
    assert reconcile().resolved == 0


def test_a_run_of_one_organization_resolves_only_its_own(billed, reconcile, sandbox):
    it, other = billed("pro"), billed("pro")
    for each in (it, other):
        sandbox.patch(each.subscription, {"status": "past_due"})
    reconcile()
    for each in (it, other):
        sandbox.patch(each.subscription, {"status": "active"})
    run = reconcile(it.org_id)
    assert (run.checked, run.resolved) == (1, 1)
    assert (finding(it).state, finding(other).state) == ("resolved", "open")


def test_what_a_webhook_noted_is_told_by_the_first_run(billed, subscribe, reconcile, runtime):
    it = billed("pro")
    subscribe(it.customer, "business")
    subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())
    assert (finding(it).kind, signals()) == ("several_live_subscriptions", 0)
    Subscription.objects().update(unset__verify_at=True)
    run = reconcile()
    assert (len(Finding.objects), signals(), run.new) == (1, 1, 1)
    assert reconcile().new == 0
    assert signals() == 1


def test_the_difference_to_the_run_before(drifted, billed, reconcile, sandbox):
    first = reconcile()
    other = billed("pro")
    sandbox.patch(other.subscription, {"cancel_at_period_end": True})
    sandbox.patch(drifted.subscription, {"status": "active"})
    second = reconcile()
    assert described(first)["previous"] is None
    assert described(second)["previous"] == {
        "id": str(first.pk),
        "finished_at": first.finished_at,
        "difference": {"status": -1, "cancel_intent": 1},
    }


def test_one_organization_is_compared_whole(billed, subscribe, reconcile):
    it = billed("pro")
    subscribe(it.customer, "business")
    run = reconcile(it.org_id)
    assert dict(run.findings) == {"several_live_subscriptions": 1}
    assert ReconciliationCandidate.objects(run=run.pk).count() == 1


def test_a_sync_resolves_what_it_repairs(drifted, reconcile, runtime):
    reconcile()
    subscriptions.sync(drifted.org_id, stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())
    assert (finding(drifted).state, finding(drifted).resolved_by) == ("resolved", "sync")


def test_a_run_of_one_organization_without_a_row_looks_at_what_its_findings_name(
    organization, stripe, subscribe, reconcile, sandbox
):
    org_id = organization()
    subscription = subscribe(stripe.customers.create({}).id, "pro", metadata={"organizationId": str(org_id)})
    reconcile()
    run = reconcile(org_id)
    found = Finding.objects.get()
    assert (found.kind, found.state, found.times_seen, run.resolved) == ("missing_in_db", "open", 2, 0)
    stripe.subscriptions.cancel(subscription)
    assert reconcile(org_id).resolved == 1


def test_times_read_back_are_no_change(billed, reconcile):
    it = billed("pro")
    started = it.row.current_period_start
    Subscription.objects(organization=it.org_id).update_one(set__current_period_start=started - timedelta(days=31))
    reconcile()
    assert (reconcile().changed, signals(), finding(it).kind) == (0, 1, "period")
