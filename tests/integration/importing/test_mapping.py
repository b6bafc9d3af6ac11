"""Whose each subscription is, which one of several is the organization's, and why some are nobody's."""

import pytest
from bson import ObjectId

from billing_service import importing, subscriptions
from billing_service.documents import (
    AdminAction,
    Finding,
    ImportItem,
    ImportRun,
    Organization,
    OutboxSignal,
    Subscription,
    database_now,
)
from billing_service.importing.run import go_on


def plan_of(org_id):
    return Organization.objects(id=org_id).first().plan


def test_named_by_the_subscription(organization, customer, subscribe, imported, row, item):
    org_id = organization()
    whose = customer()
    subscription = subscribe(whose, "pro", metadata={"organizationId": str(org_id)})
    run = imported()
    stored = row(org_id)
    assert (stored.stripe_subscription_id, stored.stripe_customer_id) == (subscription, whose)
    assert (stored.status, stored.plan, stored.stripe_plan, plan_of(org_id)) == ("active", "pro", "pro", "pro")
    assert (stored.synced_from, stored.version, item(subscription)) == ("import", 1, ("imported", None))
    assert (run.listed, run.organizations, run.plans_changed, dict(run.states)) == (1, 1, 1, {"imported": 1})


def test_named_by_the_customer(organization, customer, subscribe, imported, row, sandbox):
    org_id = organization()
    subscription = subscribe(customer(org_id), "pro")
    sandbox.clear_requests()
    imported()
    assert row(org_id).stripe_subscription_id == subscription
    # The customers came with the list.
    assert sandbox.requests(path="/v1/customers", limit=0)["count"] == 0
    assert sandbox.requests(path="/v1/subscriptions/", limit=0)["count"] == 0


def test_named_by_both_in_capitals_too(organization, customer, subscribe, imported, row):
    org_id = organization(id=ObjectId("abcdefabcdefabcdefabcdef"))
    subscribe(customer(str(org_id).upper()), "pro", metadata={"organizationId": str(org_id)})
    imported()
    assert row(org_id).plan == "pro"


def test_the_row_is_that_of_a_sync(organization, customer, subscribe, imported, row, runtime):
    org_id = organization()
    subscribe(customer(org_id), "pro", cancel_at_period_end=True, metadata={"organizationId": str(org_id)})
    imported()
    change = subscriptions.sync(org_id, stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock(), dry_run=True)
    assert change.changed == []
    assert row(org_id).cancel_at_period_end is True


def test_a_dry_run_tells_the_same_and_writes_no_row(organization, customer, subscribe, imported, item):
    one, two = organization(), organization()
    plain = subscribe(customer(one), "pro")
    whose = customer(two)
    first, second = subscribe(whose, "pro"), subscribe(whose, "pro", payment_behavior="default_incomplete")
    dry = imported(apply=False)
    assert (item(plain), item(first), item(second)) == (("imported", None), ("imported", None), ("beside", None))
    assert (len(Subscription.objects), plan_of(one), plan_of(two)) == (0, "free", "free")
    assert (len(AdminAction.objects), len(OutboxSignal.objects)) == (0, 0)
    applied = imported()
    assert [getattr(dry, name) for name in ("states", "organizations", "plans_changed", "listed")] == [
        getattr(applied, name) for name in ("states", "organizations", "plans_changed", "listed")
    ]
    assert len(Subscription.objects) == 2


def test_nobody_is_told_of_plans_as_of_a_change(organization, customer, subscribe, imported, sandbox):
    one, two = organization(), organization()
    subscribe(customer(one), "pro")
    sandbox.patch(subscribe(customer(two), "pro"), {"status": "past_due"})
    imported()
    assert (plan_of(one), plan_of(two), len(OutboxSignal.objects)) == ("pro", "pro", 0)


def test_each_row_has_its_line_in_the_audit_log(organization, customer, subscribe, imported):
    org_id = organization()
    subscribe(customer(org_id), "pro")
    run = imported(actor="ada", note="going live")
    of_org = AdminAction.objects.get(organization=org_id)
    assert (of_org.action, of_org.phase, of_org.actor, of_org.note) == ("import", "outcome", "ada", "going live")
    assert (of_org.after["plan"], of_org.operation, of_org.outcome) == ("pro", run.pk, "succeeded")
    whole = AdminAction.objects(target=f"import {run.pk}").order_by("id")
    assert [(each.phase, each.outcome) for each in whole] == [("intent", "pending"), ("outcome", "succeeded")]
    assert whole[1].parameters["organizations"] == 1


@pytest.mark.parametrize(
    ("on_customer", "on_subscription", "plan", "reason"),
    [
        (None, None, "pro", "organization_missing"),
        (None, None, None, "foreign"),
        (None, "org 5", "pro", "organization_invalid"),
        ("$ne", "", "pro", "organization_invalid"),
        ("a" * 24, None, "pro", "organization_unknown"),
        (None, "a" * 24, "pro", "organization_unknown"),
        ("a" * 24, "b" * 24, "pro", "organization_conflict"),
    ],
)
def test_what_names_nobody_we_know_is_listed(
    customer, subscribe, imported, item, on_customer, on_subscription, plan, reason
):
    metadata = {"organizationId": on_subscription} if on_subscription else {}
    subscription = subscribe(customer(on_customer), plan, metadata=metadata)
    run = imported()
    assert item(subscription) == ("unmapped", reason)
    assert (dict(run.reasons), run.organizations, len(Subscription.objects)) == ({reason: 1}, 0, 0)


def test_a_conflict_of_two_that_are_known(organization, customer, subscribe, imported, item):
    one, two = organization(), organization()
    subscription = subscribe(customer(one), "pro", metadata={"organizationId": str(two)})
    imported()
    assert item(subscription) == ("unmapped", "organization_conflict")
    found = ImportItem.objects.get()
    assert str(one) in found.detail
    assert str(two) in found.detail
    assert len(Subscription.objects) == 0


def test_a_customer_of_two_organizations_is_nobodys(organization, customer, subscribe, imported, item):
    one, two, whose = organization(), organization(), customer()
    first = subscribe(whose, "pro", metadata={"organizationId": str(one)})
    second = subscribe(whose, "pro", metadata={"organizationId": str(two)})
    nameless = subscribe(whose, "pro")
    imported()
    assert {item(each) for each in (first, second, nameless)} == {("unmapped", "customer_shared")}
    assert len(Subscription.objects) == 0


def test_a_customer_of_a_known_and_an_unknown_organization_is_nobodys(
    organization, customer, subscribe, imported, item
):
    whose = customer()
    first = subscribe(whose, "pro", metadata={"organizationId": str(organization())})
    second = subscribe(whose, "pro", metadata={"organizationId": "a" * 24})
    imported()
    assert {item(first), item(second)} == {("unmapped", "customer_shared")}


def test_what_names_nobody_is_its_customers(organization, customer, subscribe, imported, item, row):
    """The surplus one says nothing: it counts as the organization's all the same."""
    org_id, whose = organization(), customer()
    first = subscribe(whose, "pro", metadata={"organizationId": str(org_id)})
    second = subscribe(whose, "pro")
    imported()
    assert {item(first), item(second)} == {("unmapped", "several_live_subscriptions")}
    assert row(org_id) is None


def test_what_names_nobody_of_an_unknown_organizations_customer(customer, subscribe, imported, item):
    whose = customer()
    first = subscribe(whose, "pro", metadata={"organizationId": "a" * 24})
    second = subscribe(whose, "pro")
    imported()
    assert {item(first), item(second)} == {("unmapped", "organization_unknown")}


def test_one_that_names_another_than_its_customer_takes_nothing_from_it(
    organization, customer, subscribe, imported, item, row
):
    one, two = organization(), organization()
    whose = customer(one)
    first = subscribe(whose, "pro")
    second = subscribe(whose, "pro", metadata={"organizationId": str(two)})
    imported()
    assert (item(first), item(second)) == (("imported", None), ("unmapped", "organization_conflict"))
    assert (row(one).stripe_subscription_id, row(two)) == (first, None)


@pytest.mark.parametrize("canceled", [False, True])
def test_several_of_which_one_is_live(organization, customer, subscribe, stripe, imported, item, row, canceled):
    org_id = organization()
    whose, other = customer(org_id), customer(org_id)
    old = subscribe(whose, "pro")
    stripe.subscriptions.cancel(old)
    live = subscribe(other, "business")
    begun = subscribe(whose, "pro", payment_behavior="default_incomplete")
    run = imported(canceled=canceled)
    assert (item(live), item(begun)) == (("imported", None), ("beside", None))
    assert item(old) == (("beside", None) if canceled else None)
    stored = row(org_id)
    assert (stored.stripe_subscription_id, stored.plan) == (live, "business")
    assert [each.stripe_subscription_id for each in stored.candidates] == [begun]
    assert run.organizations == 1


def test_several_live_ones_are_not_chosen_from(organization, customer, subscribe, imported, item, row):
    org_id = organization()
    first, second = subscribe(customer(org_id), "pro"), subscribe(customer(org_id), "business")
    run = imported()
    assert {item(first), item(second)} == {("unmapped", "several_live_subscriptions")}
    assert (row(org_id), dict(run.reasons)) == (None, {"several_live_subscriptions": 2})
    assert first in ImportItem.objects(stripe_subscription_id=second).first().detail


def test_an_ended_one_makes_a_row_that_grants_nothing(organization, customer, subscribe, stripe, imported, row):
    org_id = organization()
    whose = customer(org_id)
    subscription = subscribe(whose, "pro")
    stripe.subscriptions.cancel(subscription)
    assert imported().listed == 0
    assert imported(canceled=True).organizations == 1
    assert (row(org_id).status, row(org_id).plan, row(org_id).stripe_customer_id) == ("canceled", "free", whose)


def test_past_due_since_its_open_invoice(organization, customer, subscribe, sandbox, imported, row, runtime):
    org_id = organization()
    whose = customer(org_id)
    subscription = subscribe(whose, "pro")
    sandbox.payment(whose, "decline")
    sandbox.advance(32 * 86400)
    assert runtime.stripe.subscription(subscription).value.status == "past_due"
    imported()
    opened = runtime.stripe.open_invoices_of(subscription).value
    assert (row(org_id).status, row(org_id).past_due_since) == ("past_due", min(opened))
    assert row(org_id).plan == "pro"


def test_a_price_of_no_plan(organization, customer, subscribe, imported, item, row):
    org_id = organization()
    subscription = subscribe(customer(org_id), None)
    imported()
    assert (item(subscription), row(org_id)) == (("unmapped", "plan_unresolved"), None)


def test_who_has_a_row_is_left_alone(billed, subscribe, imported, item, sandbox):
    it = billed("pro")
    sandbox.patch(it.subscription, {"status": "unpaid"})
    version = it.row.version
    run = imported()
    assert (item(it.subscription), it.row.version, it.row.status) == (("kept", None), version, "active")
    assert (dict(run.states), run.organizations) == ({"kept": 1}, 0)


def test_another_one_of_who_has_a_row_is_for_sync(billed, subscribe, imported, item):
    it = billed("pro")
    other = subscribe(it.customer, "business")
    imported()
    assert (item(other), it.row.stripe_subscription_id) == (("kept", None), it.subscription)


def test_a_row_without_a_subscription_gets_one_and_keeps_its_override(
    organization, customer, subscribe, imported, row, runtime
):
    org_id = organization()
    at_hand = {"plans": runtime.plans, "now": runtime.clock()}
    subscriptions.bump(org_id, "business", until=None, note=None, actor="ada", **at_hand)
    subscription = subscribe(customer(org_id), "pro")
    imported()
    stored = row(org_id)
    assert (stored.stripe_subscription_id, stored.stripe_plan, stored.plan) == (subscription, "pro", "business")
    assert (stored.override.actor, stored.version, stored.synced_from) == ("ada", 2, "import")


def test_twice_is_once(organization, customer, subscribe, imported, row):
    org_id = organization()
    subscribe(customer(org_id), "pro")
    imported()
    run = imported()
    assert (dict(run.states), run.organizations, row(org_id).version) == ({"kept": 1}, 0, 1)
    assert AdminAction.objects(organization=org_id).count() == 1


def test_a_customer_that_is_another_organizations_here(billed, organization, subscribe, imported, item):
    it, other = billed("pro"), organization()
    subscription = subscribe(it.customer, "pro", metadata={"organizationId": str(other)})
    imported()
    # Its customer names one, it names the other.
    assert item(subscription) == ("unmapped", "organization_conflict")


def test_a_customer_without_a_name_that_is_another_organizations_here(
    billed, organization, subscribe, imported, item, stripe
):
    it, other = billed("pro"), organization()
    stripe.customers.update(it.customer, {"metadata": {"organizationId": ""}})
    subscription = subscribe(it.customer, "pro", metadata={"organizationId": str(other)})
    nameless = subscribe(it.customer, "pro")
    imported()
    assert (item(subscription), item(nameless)) == (("unmapped", "customer_shared"), ("kept", None))


def test_what_a_row_here_says_decides(billed, imported, item, stripe):
    it, also = billed("pro"), billed("pro")
    stripe.customers.update(it.customer, {"metadata": {"organizationId": ""}})
    stripe.customers.update(also.customer, {"metadata": {"organizationId": "org 5"}})
    run = imported()
    assert (item(it.subscription), item(also.subscription)) == (("kept", None), ("kept", None))
    assert dict(run.reasons) == {}


def test_a_row_that_names_another_than_stripe(billed, organization, imported, item, stripe):
    it, other = billed("pro"), organization()
    stripe.customers.update(it.customer, {"metadata": {"organizationId": str(other)}})
    imported()
    assert item(it.subscription) == ("unmapped", "organization_conflict")
    assert it.row.organization == it.org_id


def test_one_that_cannot_be_read_hides_no_other(organization, customer, subscribe, imported, item, row, sandbox):
    org_id = organization()
    subscribe(customer(org_id), "pro")
    broken = subscribe(customer(organization()), "pro")
    sandbox.patch(broken, {"metadata": "text"})
    run = imported()
    assert (item(broken), run.organizations, run.listed) == (("unmapped", "unreadable"), 1, 2)
    assert row(org_id).plan == "pro"


def test_one_that_is_gone_when_it_is_looked_at(organization, customer, subscribe, desk, runtime, sandbox, finish, item):
    org_id = organization()
    whose = customer(org_id)
    both = [subscribe(whose, "pro"), subscribe(whose, "business")]
    run, _ = importing.start(importing.Wanted(apply=True), runtime.clock())
    go_on(desk, lambda: ImportRun.objects(active=True, phase="organizations").count() > 0)
    for each in both:
        sandbox.remove(each)
    finish(run)
    assert {item(each) for each in both} == {("unmapped", "subscription_gone")}


def test_a_newer_event_has_it_looked_at_once_more(organization, customer, subscribe, imported, row, store_event):
    org_id = organization()
    subscription = subscribe(customer(org_id), "pro")
    created = store_event(subscription, state="succeeded", outcome="ignored")
    imported()
    assert row(org_id).verify_at > created


def test_events_that_waited_for_their_owner_are_woken(organization, customer, subscribe, imported, store_event):
    from billing_service.documents import WebhookEvent

    org_id = organization()
    whose = customer()
    subscription = subscribe(whose, "pro", metadata={"organizationId": str(org_id)})
    store_event(subscription, stripe_customer_id=whose, state="dead", reason="organization_unknown")
    store_event("sub_of_nobody", state="dead", reason="organization_unknown")
    imported()
    woken = WebhookEvent.objects(stripe_subscription_id=subscription).first()
    assert (woken.state, woken.learned) == ("failed", org_id)
    assert WebhookEvent.objects(stripe_subscription_id="sub_of_nobody").first().state == "dead"


@pytest.fixture
def store_event(app):
    """Stores an event of a subscription that was created now; returns when."""
    from billing_service.documents import WebhookEvent

    def store(subscription, **fields):
        now = database_now()
        WebhookEvent(
            event_id=f"evt_{ObjectId()}",
            type="customer.subscription.updated",
            created=now,
            received_at=now,
            payload="{}",
            source="delivery",
            stripe_subscription_id=subscription,
            **fields,
        ).save()
        return now

    return store


def test_the_finding_of_a_missing_row_is_resolved(organization, customer, subscribe, imported):
    org_id = organization()
    subscription = subscribe(customer(org_id), "pro")
    now = database_now()
    Finding(
        fingerprint=f"missing_in_db:{org_id}",
        kind="missing_in_db",
        severity="critical",
        organization=org_id,
        stripe_subscription_ids=[subscription],
        first_seen_at=now,
        last_seen_at=now,
        state="open",
    ).save()
    imported(apply=False)
    assert Finding.objects.get().state == "open"
    imported()
    assert (Finding.objects.get().state, Finding.objects.get().resolved_by) == ("resolved", "import")
