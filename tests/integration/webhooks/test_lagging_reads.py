"""Stripe's reads lag behind its events by seconds: nobody is locked out, and nothing is forgotten, because of it."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from billing_service import subscriptions
from billing_service.documents import Subscription, WebhookEvent

LAG = 2.0


@pytest.fixture
def told_of(events_at_stripe, deliver):
    """Delivers all events of these types that name the object; returns their ids."""

    def send(object_id, *types):
        events = [each for each in events_at_stripe(*types) if object_id in json.dumps(each)]
        assert events
        for each in events:
            deliver(each)
        return [each["id"] for each in events]

    return send


@pytest.fixture
def lag(sandbox):
    return lambda: sandbox.arm("lag", path="/v1/subscriptions", key="sk_test_sandbox", seconds=LAG, times=None)


@pytest.fixture
def well_again(sandbox, runtime, run):
    """Reads are well again, what failed is tried again, what is doubted is verified."""

    def settle():
        sandbox.disarm()
        time.sleep(LAG)
        run(later=True)
        later = datetime.now(UTC) + timedelta(hours=2)
        subscriptions.verify_due(stripe=runtime.stripe, plans=runtime.plans, now=later)

    return settle


def test_who_comes_back_is_not_locked_out(billed, stripe, subscribe, lag, told_of, run, well_again, row, runtime):
    it = billed("pro")
    stripe.subscriptions.cancel(it.subscription)
    subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=datetime.now(UTC))
    time.sleep(LAG + 1)
    second = subscribe(it.customer, "business")
    lag()
    ids = told_of(second, "customer.subscription.created", "invoice.paid", "invoice.payment_succeeded")
    run()
    assert {row(each).state for each in ids} == {"failed"}
    well_again()
    assert (it.plan, it.row.stripe_subscription_id) == ("business", second)
    assert {row(each).state for each in ids} == {"succeeded"}


def test_a_second_customers_subscription_is_not_forgotten(
    billed, stripe, subscribe, lag, told_of, run, well_again, row, sandbox
):
    it = billed("pro")
    time.sleep(LAG + 1)
    other = stripe.customers.create({}).id
    second = subscribe(other, "business", metadata={"organizationId": str(it.org_id)})
    lag()
    [event_id] = told_of(second, "customer.subscription.created")
    run()
    assert row(event_id).state == "succeeded"
    assert [each.stripe_subscription_id for each in it.row.candidates] == [second]
    assert it.row.verify_at is not None
    sandbox.disarm()
    time.sleep(LAG)
    stripe.subscriptions.cancel(it.subscription)
    told_of(it.subscription, "customer.subscription.deleted")
    run()
    assert (it.plan, it.row.stripe_subscription_id) == ("business", second)


def test_what_is_named_and_does_not_exist_is_dropped_by_the_verification(
    billed, deliver, event_of, run, well_again, row
):
    it = billed("pro")
    named = {"object": "subscription", "id": "sub_none", "customer": it.customer, "status": "active"}
    event = event_of("customer.subscription.created", named | {"created": int(time.time()), "items": {"data": []}})
    event["created"] -= 8
    deliver(event)
    run()
    assert [each.stripe_subscription_id for each in it.row.candidates] == ["sub_none"]
    assert it.row.verify_at is not None
    well_again()
    assert (it.row.candidates, it.row.verify_at, it.plan) == ([], None, "pro")


@pytest.mark.parametrize("together", [True, False])
def test_a_deletion_does_not_settle_a_creation_that_is_not_shown(
    billed, stripe, subscribe, lag, told_of, run, well_again, row, together
):
    it = billed("pro")
    stripe.customers.delete(it.customer)
    time.sleep(LAG + 1)
    other = stripe.customers.create({}).id
    second = subscribe(other, "business", metadata={"organizationId": str(it.org_id)})
    lag()
    [created] = told_of(second, "customer.subscription.created")
    if not together:
        run()
    told_of(it.customer, "customer.deleted")
    run()
    assert row(created).state == "failed"
    well_again()
    assert (it.plan, it.row.stripe_subscription_id, it.row.customer_deleted_at) == ("business", second, None)


def test_a_better_subscription_that_is_not_shown_yet_is_looked_at_again(
    billed, subscribe, sandbox, lag, told_of, run, well_again
):
    it = billed("pro")
    sandbox.patch(it.subscription, {"status": "past_due"})
    Subscription.objects(organization=it.org_id).update_one(set__status="past_due")
    time.sleep(LAG + 1)
    second = subscribe(it.customer, "business")
    lag()
    told_of(second, "customer.subscription.created")
    run()
    assert it.row.verify_at is not None
    well_again()
    assert (it.plan, it.row.stripe_subscription_id) == ("business", second)


@pytest.mark.parametrize("what", ["invoice.paid", "customer.subscription.deleted"])
def test_another_look_within_the_lag_does_not_forget_it(billed, stripe, subscribe, lag, told_of, run, well_again, what):
    it = billed("pro")
    time.sleep(LAG + 1)
    other = stripe.customers.create({}).id
    second = subscribe(other, "business", metadata={"organizationId": str(it.org_id)})
    if what == "customer.subscription.deleted":
        stripe.subscriptions.cancel(it.subscription)
    lag()
    told_of(second, "customer.subscription.created")
    run()
    told_of(it.subscription, what)
    run()
    well_again()
    ended = what == "customer.subscription.deleted"
    assert it.row.stripe_subscription_id == (second if ended else it.subscription)
    assert [each.stripe_subscription_id for each in it.row.candidates] == ([] if ended else [second])


def test_what_ended_and_is_gone_is_not_verified_for_ever(billed, stripe, sandbox, runtime, event_of, deliver):
    it = billed("pro")
    subject = {"object": "subscription", "id": it.subscription, "customer": it.customer}
    deliver(event_of("customer.subscription.updated", subject, created=int(time.time())))
    WebhookEvent.objects.update(set__state="succeeded")
    sandbox.remove(it.subscription)
    asked = {"stripe": runtime.stripe, "plans": runtime.plans}
    subscriptions.sync(it.org_id, now=datetime.now(UTC), **asked)
    assert (it.row.status, it.plan, it.row.verify_at is None) == ("canceled", "free", False)
    subscriptions.verify_due(now=datetime.now(UTC) + timedelta(hours=1), **asked)
    assert it.row.verify_at is None
