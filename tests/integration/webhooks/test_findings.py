"""What webhooks bring to light, and when it is over."""

import time
from datetime import UTC, datetime

import pytest
from bson import ObjectId

from billing_service import subscriptions
from billing_service.documents import Finding


def open_findings(kind):
    return Finding.objects(kind=kind, state="open").count()


def test_a_conflict_that_lasts_is_not_resolved_by_a_look_at_something_else(
    organization, billed, subscribed, arrive, run, runtime
):
    it, other = billed(), organization()
    subscribed(it.org_id, customer_organization=other)  # of a customer that no look at `it` shows
    arrive("customer.subscription.created")
    run()
    assert open_findings("organization_conflict") == 1
    subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=datetime.now(UTC))
    assert open_findings("organization_conflict") == 1


def test_a_conflict_that_was_corrected_is_over(billed, stripe, organization, runtime):
    it, other = billed(), organization()
    asked = {"stripe": runtime.stripe, "plans": runtime.plans}
    stripe.subscriptions.update(it.subscription, {"metadata": {"organizationId": str(other)}})
    with pytest.raises(subscriptions.synchronization.OrganizationConflict):
        subscriptions.sync(it.org_id, now=datetime.now(UTC), **asked)
    second = stripe.subscriptions.create(
        {
            "customer": it.customer,
            "items": [{"price": stripe.subscriptions.retrieve(it.subscription)["items"].data[0].price.id}],
        }
    )
    subscriptions.sync(it.org_id, now=datetime.now(UTC), **asked)
    assert (it.row.stripe_subscription_id, open_findings("organization_conflict")) == (second.id, 1)
    stripe.subscriptions.update(it.subscription, {"metadata": {"organizationId": str(it.org_id)}})
    subscriptions.sync(it.org_id, now=datetime.now(UTC), **asked)
    assert open_findings("organization_conflict") == 0


@pytest.mark.parametrize("pause", [0, 1.1])
def test_a_price_that_is_known_again_ends_its_finding(billed, stripe, price, arrive, run, pause):
    """Whether by a look or from a payload."""
    it = billed("pro")
    item = stripe.subscriptions.retrieve(it.subscription)["items"].data[0].id

    def move(plan):
        change = {"items": [{"id": item, "price": price(plan)}], "proration_behavior": "none"}
        stripe.subscriptions.update(it.subscription, change)
        arrive("customer.subscription.updated")
        run()

    move(None)
    assert open_findings("plan_unresolved") == 1
    time.sleep(pause)
    move("business")
    assert (it.plan, open_findings("plan_unresolved")) == ("business", 0)


def test_an_organization_id_in_capitals_is_the_same(organization, subscribed, arrive, run, events_at_stripe, row):
    org_id = organization(id=ObjectId("abcdefabcdefabcdefabcdef"))
    subscribed(str(org_id).upper())
    arrive("customer.subscription.created")
    run()
    [event] = events_at_stripe("customer.subscription.created")
    assert (row(event["id"]).state, row(event["id"]).organization) == ("succeeded", org_id)
