"""Drift of every kind is found with its cause, and nothing else is."""

from datetime import timedelta

from billing_service.documents import Finding, Organization, Subscription


def only(kind):
    [found] = Finding.objects(state="open")
    assert found.kind == kind, found.describe()
    return found


def test_what_is_in_step_is_clean(billed, reconcile, findings):
    for _ in range(3):
        billed("pro")
    run = reconcile()
    assert (run.state, run.checked, run.divergences, run.errors) == ("completed", 3, 0, 0)
    assert (run.candidates, findings()) == (0, [])


def test_a_status_that_was_missed(billed, reconcile, sandbox):
    it = billed("pro")
    sandbox.patch(it.subscription, {"status": "unpaid"})
    run = reconcile()
    found = only("status")
    assert (found.severity, found.cause, found.organization) == ("high", "unknown", it.org_id)
    assert (found.stored["status"], found.live["status"]) == ("active", "unpaid")
    assert found.money_at_risk == [{"currency": "usd", "amount": 4900}]
    assert (run.divergences, run.new, dict(run.findings)) == (1, 1, {"status": 1})


def test_a_cancellation_that_was_missed(billed, reconcile, stripe):
    it = billed("pro")
    stripe.subscriptions.cancel(it.subscription)
    reconcile()
    found = only("status")
    assert (found.severity, found.live["status"], found.live["plan"]) == ("high", "canceled", "free")


def test_canceled_here_live_there(billed, reconcile, runtime):
    it = billed("pro")
    Subscription.objects(organization=it.org_id).update_one(set__status="canceled", set__plan="free")
    Organization.objects(id=it.org_id).update_one(set__plan="free")
    reconcile()
    found = only("canceled_here_live_there")
    assert (found.severity, found.money_at_risk) == ("critical", [{"currency": "usd", "amount": 4900}])


def test_another_plan(billed, price, reconcile, stripe):
    it = billed("pro")
    item = stripe.subscriptions.retrieve(it.subscription)["items"].data[0].id
    stripe.subscriptions.update(it.subscription, {"items": [{"id": item, "price": price("business")}]})
    reconcile()
    found = only("plan")
    assert (found.severity, found.stored["plan"], found.live["plan"]) == ("medium", "pro", "business")
    assert "price_id" in found.live


def test_another_price_of_the_same_plan(billed, reconcile, sandbox):
    it = billed("pro")
    Subscription.objects(organization=it.org_id).update_one(set__quantity=7)
    reconcile()
    assert only("price").stored["quantity"] == 7


def test_another_period(billed, reconcile):
    it = billed("pro")
    row = it.row
    Subscription.objects(organization=it.org_id).update_one(
        set__current_period_start=row.current_period_start - timedelta(days=31),
        set__current_period_end=row.current_period_start,
    )
    reconcile()
    assert only("period").severity == "low"


def test_an_intent_to_cancel(billed, reconcile, stripe):
    it = billed("pro")
    stripe.subscriptions.update(it.subscription, {"cancel_at_period_end": True})
    reconcile()
    assert only("cancel_intent").severity == "low"


def test_another_customer(billed, reconcile):
    it = billed("pro")
    Subscription.objects(organization=it.org_id).update_one(set__stripe_customer_id="cus_somebody")
    reconcile()
    assert only("customer").live["stripe_customer_id"] == it.customer


def test_missing_in_stripe_proven(billed, reconcile, sandbox):
    it = billed("pro")
    sandbox.remove(it.subscription)
    run = reconcile()
    found = only("missing_in_stripe")
    assert (found.severity, found.organization, run.errors) == ("high", it.org_id, 0)


def test_missing_and_unproven_is_an_error_and_no_finding(billed, reconcile, sandbox, findings):
    it = billed("pro")
    sandbox.remove(it.subscription)
    sandbox.remove(it.customer)
    run = reconcile()
    assert (run.state, run.errors, findings()) == ("completed", 1, [])
    assert run.error_sample[0]["code"] == "missing_unproven"
    assert run.error_sample[0]["subject"] == str(it.org_id)


def test_missing_in_db_by_its_customer(billed, reconcile):
    it = billed("pro")
    gone = ("stripe_subscription_id", "stripe_created_at", "status", "stripe_plan", "price_id")
    Subscription.objects(organization=it.org_id).update_one(
        set__plan="free", **{f"unset__{name}": True for name in gone}
    )
    Organization.objects(id=it.org_id).update_one(set__plan="free")
    reconcile()
    found = only("missing_in_db")
    assert (found.severity, found.organization) == ("critical", it.org_id)
    assert found.money_at_risk == [{"currency": "usd", "amount": 4900}]


def test_missing_in_db_by_what_it_names(organization, stripe, subscribe, reconcile):
    org_id = organization()
    named = {"metadata": {"organizationId": str(org_id)}}
    subscribe(stripe.customers.create({}).id, "pro", **named)
    subscribe(stripe.customers.create(named).id, "pro")
    reconcile()
    found = Finding.objects(state="open")
    assert {(each.kind, each.organization) for each in found} >= {("missing_in_db", org_id)}
    assert {each.organization for each in found} == {org_id}


def test_missing_in_db_by_its_price(stripe, subscribe, reconcile):
    subscribe(stripe.customers.create({}).id, "pro")
    reconcile()
    assert only("missing_in_db").organization is None


def test_another_product_is_only_counted(stripe, subscribe, reconcile, findings):
    subscribe(stripe.customers.create({}).id, None)
    run = reconcile()
    assert (findings(), run.foreign, run.checked) == ([], 1, 0)


def test_several_live_subscriptions(billed, subscribe, reconcile):
    it = billed("pro")
    other = subscribe(it.customer, "business")
    reconcile()
    found = only("several_live_subscriptions")
    assert set(found.stripe_subscription_ids) == {it.subscription, other}
    assert (found.severity, found.money_at_risk) == ("high", [{"currency": "usd", "amount": 4900}])


def test_an_organizations_plan(billed, reconcile):
    it = billed("pro")
    Organization.objects(id=it.org_id).update_one(set__plan="business")
    reconcile()
    assert only("org_plan").severity == "medium"


def test_a_plan_without_a_row(organization, reconcile):
    org_id = organization(plan="business")
    organization()
    reconcile()
    found = only("org_plan")
    assert (found.organization, found.severity) == (org_id, "high")


def test_an_organizations_plan_of_who_was_never_billed(organization, reconcile):
    org_id = organization(plan="pro")
    Subscription(organization=org_id, plan="free", version=1).save()
    reconcile()
    assert (only("org_plan").organization, only("org_plan").severity) == (org_id, "high")


def test_plan_unresolved(billed, subscribe, stripe, price, sandbox, reconcile):
    it = billed("pro")
    item = stripe.subscriptions.retrieve(it.subscription)["items"].data[0].id
    stripe.subscriptions.update(it.subscription, {"items": [{"id": item, "price": price(None)}]})
    Subscription.objects(organization=it.org_id).update_one(set__price_id=price(None))
    reconcile()
    assert only("plan_unresolved").live == {"price_id": price(None)}


def test_an_organization_conflict(billed, organization, reconcile, stripe):
    it, other = billed("pro"), organization()
    stripe.subscriptions.update(it.subscription, {"metadata": {"organizationId": str(other)}})
    reconcile()
    found = only("organization_conflict")
    assert (found.organization, found.live) == (it.org_id, {"organization_ids": [str(other)]})


def test_an_override_informs_and_is_no_divergence(billed, reconcile, runtime):
    it = billed("pro")
    Subscription.objects(organization=it.org_id).update_one(
        set__override={"plan": "business", "actor": "ada@example.com"}, set__plan="business"
    )
    Organization.objects(id=it.org_id).update_one(set__plan="business")
    run = reconcile()
    assert (only("overridden").severity, run.divergences) == ("info", 0)


def test_a_candidate_without_a_customer_makes_nothing_its_own(billed, organization, stripe, subscribe, reconcile):
    """A row's candidates may lack their customer; a subscription that names nobody is not that row's."""
    it = billed("pro")
    other = subscribe(stripe.customers.create({}).id, "pro")
    candidates = [
        {"stripe_subscription_id": other, "stripe_customer_id": stripe.subscriptions.retrieve(other).customer},
        {"stripe_subscription_id": "sub_x"},
    ]
    Subscription.objects(organization=it.org_id).update_one(set__candidates=candidates)
    stranger = subscribe(stripe.customers.create({}).id, "pro")
    reconcile()
    found = {each.kind: each for each in Finding.objects(state="open")}
    assert set(found) == {"several_live_subscriptions", "missing_in_db"}
    assert set(found["several_live_subscriptions"].stripe_subscription_ids) == {it.subscription, other}
    assert (found["missing_in_db"].organization, found["missing_in_db"].stripe_subscription_ids) == (None, [stranger])
