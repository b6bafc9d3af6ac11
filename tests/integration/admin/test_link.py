"""POST /api/admin/billing/link/{orgId}"""

import pytest
from bson import ObjectId

from billing_service.documents import Subscription

BASE = "/api/admin/billing/link/"


@pytest.fixture
def unbilled(organization, stripe, subscribe):
    """An organization without a row, and a live subscription at Stripe that names nobody."""
    org_id = organization()
    customer = stripe.customers.create({"email": "paid@example.com"}).id
    return org_id, customer, subscribe(customer, "pro")


def link(client, headers, org_id, subscription, query=""):
    return client.post(f"{BASE}{org_id}{query}", headers=headers, json={"stripeSubscriptionId": subscription})


def test_it_works(client, admin, unbilled):
    org_id, customer, subscription = unbilled
    answer = link(client, admin, org_id, subscription)
    assert answer.status_code == 200
    assert (answer.json["previous"], answer.json["plan"]) == (None, "pro")
    row = Subscription.objects(organization=org_id).first()
    assert (row.stripe_customer_id, row.stripe_subscription_id, row.plan) == (customer, subscription, "pro")
    assert row.synced_from == "link"


def test_twice_is_once(client, admin, unbilled):
    org_id, _, subscription = unbilled
    link(client, admin, org_id, subscription)
    again = link(client, admin, org_id, subscription)
    assert (again.status_code, again.json["changed"]) == (200, [])
    assert Subscription.objects(organization=org_id).count() == 1


def test_it_needs_a_token(client, unbilled, frozen):
    with frozen:
        assert link(client, {}, unbilled[0], unbilled[2]).status_code == 401


def test_it_needs_the_permission(client, token, unbilled, frozen):
    with frozen:
        answer = link(client, token("support"), unbilled[0], unbilled[2])
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"stripeSubscriptionId": None},
        {"stripeSubscriptionId": "cus_1"},
        {"stripeSubscriptionId": "sub_1/../x"},
        {"stripeSubscriptionId": "sub_1\n"},
        {"stripeSubscriptionId": {"$ne": None}},
        {"stripeSubscriptionId": "sub_1", "force": True},
    ],
)
def test_it_rejects_bad_input(client, admin, unbilled, frozen, body):
    with frozen:
        answer = client.post(f"{BASE}{unbilled[0]}", headers=admin, json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"]


def test_it_reports_stripe_down(client, admin, unbilled, sandbox, frozen):
    sandbox.arm("drop", times=None)
    with frozen:
        answer = link(client, admin, unbilled[0], unbilled[2])
    assert (answer.status_code, answer.json["code"]) == (502, "stripe_unavailable")


def test_an_unknown_organization_is_404(client, admin, unbilled):
    assert link(client, admin, ObjectId(), unbilled[2]).status_code == 404


def test_an_unknown_subscription_is_named(client, admin, unbilled, frozen):
    with frozen:
        answer = link(client, admin, unbilled[0], "sub_unknown")
    assert (answer.status_code, answer.json["code"]) == (422, "stripe_missing")
    assert "sub_unknown" in answer.json["detail"]


def test_a_customer_of_another_organization_is_refused(client, admin, billed, subscribe, organization, frozen):
    it = billed("pro")
    second, other = subscribe(it.customer, "starter"), organization()
    with frozen:
        answer = link(client, admin, other, second)
    assert (answer.status_code, answer.json["code"]) == (409, "customer_shared")
    assert answer.json["organizationId"] == str(it.org_id)


@pytest.mark.parametrize("where", ["subscription", "customer"])
def test_metadata_of_another_organization_is_refused(
    client, admin, organization, stripe, subscribe, unbilled, frozen, where
):
    org_id, customer, subscription = unbilled
    other = str(organization())
    if where == "customer":
        stripe.customers.update(customer, {"metadata": {"organizationId": other}})
    else:
        stripe.subscriptions.update(subscription, {"metadata": {"organizationId": other}})
    with frozen:
        answer = link(client, admin, org_id, subscription)
    assert (answer.status_code, answer.json["code"]) == (409, "organization_conflict")
    assert answer.json["organizationId"] == other


def test_another_live_one_is_refused_with_the_list(client, admin, billed, stripe, subscribe, frozen):
    it = billed("pro")
    customer = stripe.customers.create({"email": "second@example.com"}).id
    second = subscribe(customer, "business")
    with frozen:
        answer = link(client, admin, it.org_id, second)
    assert (answer.status_code, answer.json["code"]) == (409, "several_live_subscriptions")
    assert {each["id"] for each in answer.json["subscriptions"]} == {it.subscription, second}


def test_one_that_is_not_live_is_refused_when_there_is_another(client, admin, billed, stripe, subscribe, frozen):
    it = billed("pro")
    stripe.subscriptions.cancel(it.subscription)
    customer = stripe.customers.create({}).id
    second = subscribe(customer, "starter")
    stripe.subscriptions.cancel(second)
    with frozen:
        answer = link(client, admin, it.org_id, second)
    assert (answer.status_code, answer.json["code"]) == (409, "not_live")


def test_one_that_is_not_live_may_be_the_first(client, admin, unbilled, stripe):
    org_id, _, subscription = unbilled
    stripe.subscriptions.cancel(subscription)
    answer = link(client, admin, org_id, subscription)
    assert (answer.status_code, answer.json["status"], answer.json["plan"]) == (200, "canceled", "free")


def test_a_second_customer_made_by_checkout_can_be_linked(client, admin, billed, stripe, subscribe):
    it = billed("starter")
    stripe.subscriptions.cancel(it.subscription)
    customer = stripe.customers.create({"metadata": {"organizationId": str(it.org_id)}}).id
    second = subscribe(customer, "business")
    answer = link(client, admin, it.org_id, second)
    assert (answer.status_code, answer.json["plan"]) == (200, "business")
    assert (it.row.stripe_customer_id, it.row.stripe_subscription_id) == (customer, second)


def test_an_unresolved_plan_is_refused(client, admin, organization, stripe, subscribe, frozen):
    org_id, customer = organization(), stripe.customers.create({}).id
    subscription = subscribe(customer, None)
    with frozen:
        answer = link(client, admin, org_id, subscription)
    assert (answer.status_code, answer.json["code"]) == (409, "plan_unresolved")


def test_a_dry_run_writes_nothing(client, admin, unbilled, frozen):
    org_id, _, subscription = unbilled
    with frozen:
        answer = link(client, admin, org_id, subscription, "?dryRun=true")
    assert (answer.status_code, answer.json["dryRun"], answer.json["plan"]) == (200, True, "pro")


def test_a_candidate_of_another_organization_is_refused(client, admin, billed, organization, stripe, subscribe, frozen):
    from billing_service.documents import Candidate

    it, other = billed("pro"), organization()
    customer = stripe.customers.create({}).id
    second = subscribe(customer, "starter")
    seen = [Candidate(stripe_subscription_id=second, stripe_customer_id=customer)]
    Subscription.objects(organization=it.org_id).update_one(set__candidates=seen)
    with frozen:
        answer = link(client, admin, other, second)
    assert (answer.status_code, answer.json["code"]) == (409, "customer_shared")
