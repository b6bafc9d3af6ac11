"""Each kind of event that is not a subscription's own: invoices, customers, Checkout, refunds, disputes."""

import time
from datetime import timedelta

import pytest
from bson import ObjectId

from billing_service.documents import Finding, Organization, OutboxSignal, Subscription, WebhookEvent

SUCCESS = "https://saas.example/thanks"


APPLIED = ("succeeded", "applied", None)
IGNORED = ("succeeded", "ignored", None)


# Invoices


def test_a_failed_payment_reaches_the_row(billed, sandbox, arrive, run, ends):
    it = billed()
    sandbox.payment(it.customer, "decline")
    sandbox.advance(32 * 86_400)
    ids = arrive("invoice.payment_failed")
    run()
    assert ends(ids) == {APPLIED}
    assert (it.row.status, it.plan) == ("past_due", "pro")
    assert it.row.past_due_since


@pytest.mark.parametrize("kind", ["invoice.paid", "invoice.payment_succeeded"])
def test_a_payment_brings_the_plan_back_after_dunning(billed, sandbox, stripe, arrive, run, ends, kind):
    it = billed()
    Subscription.objects(organization=it.org_id).update_one(
        set__status="past_due", set__suspended_at=it.row.as_of, set__past_due_since=it.row.as_of, set__plan="free"
    )
    Organization.objects(id=it.org_id).update_one(set__plan="free")
    ids = arrive(kind)
    run()
    assert ends(ids) == {APPLIED}
    assert (it.row.suspended_at, it.row.past_due_since, it.plan) == (None, None, "pro")


@pytest.mark.parametrize("version", ["2024-06-20", "2026-10-28.endive"])
def test_both_shapes_of_an_invoice_name_the_subscription(billed, stripe, sandbox, deliver, run, row, version):
    endpoint = stripe.webhook_endpoints.create(
        {"url": "https://saas.example/hook", "enabled_events": ["*"], "api_version": version}
    )
    it = billed(stored=False)
    [held] = [each for each in sandbox.deliveries(state="held", type="invoice.paid") if each["endpoint"] == endpoint.id]
    body = held["body"] if isinstance(held["body"], bytes) else held["body"].encode()
    assert deliver(body).status_code == 200
    run()
    assert row(held["event"]).stripe_subscription_id == it.subscription
    assert (it.row.status, it.plan) == ("active", "pro")


def test_an_invoice_of_no_subscription_is_ignored(stripe, deliver, event_of, run, ends):
    event = event_of("invoice.paid", {"object": "invoice", "id": "in_1", "customer": "cus_1", "parent": None})
    deliver(event)
    run()
    assert ends([event["id"]]) == {IGNORED}


def test_an_invoice_of_an_unattached_subscription_attaches_it(organization, subscribed, arrive, run, ends):
    org_id = organization()
    live = subscribed(org_id)
    ids = arrive("invoice.paid")
    run()
    assert ends(ids) == {APPLIED}
    assert Subscription.objects(organization=org_id).first().stripe_subscription_id == live.id


def test_an_invoice_of_another_product_is_ignored(subscribed, arrive, run, ends):
    subscribed(price="price_of_another_product")
    ids = arrive("invoice.paid")
    run()
    assert ends(ids) == {IGNORED}


def test_an_invoice_of_a_subscription_that_nobody_shows_is_a_failure(deliver, event_of, run, row):
    """A read that lags hides it; ignored it would never be looked at again."""
    event = event_of(
        "invoice.paid", {"object": "invoice", "id": "in_1", "customer": "cus_none", "subscription": "sub_none"}
    )
    deliver(event)
    run()
    assert (row(event["id"]).state, row(event["id"]).reason) == ("failed", "handler_failed")


def test_one_look_for_a_subscription_and_its_invoices(billed, stripe, sandbox, arrive, run, ends):
    it = billed()
    sandbox.payment(it.customer, "decline")
    sandbox.advance(32 * 86_400)
    ids = arrive("invoice.payment_failed", "customer.subscription.updated", "invoice.paid")
    sandbox.clear_requests()
    run()
    assert ends(ids) == {APPLIED}
    looks = sandbox.requests(path=r"/v1/subscriptions", limit=1000)["count"]
    assert looks <= 3
    assert it.row.status == "past_due"


# Customers


def test_a_deleted_customer_ends_the_plan_and_keeps_the_ids(billed, stripe, arrive, run, ends):
    it = billed()
    stripe.customers.delete(it.customer)
    ids = arrive("customer.deleted")
    run()
    assert ends(ids) == {APPLIED}
    row = it.row
    assert (row.status, it.plan, bool(row.customer_deleted_at)) == ("canceled", "free", True)
    assert (row.stripe_customer_id, row.stripe_subscription_id) == (it.customer, it.subscription)


def test_a_deleted_customer_whose_subscription_is_gone_too(billed, stripe, sandbox, arrive, run, ends):
    it = billed()
    stripe.customers.delete(it.customer)
    ids = arrive("customer.deleted")
    sandbox.remove(it.subscription)
    run()
    assert ends(ids) == {APPLIED}
    assert (it.row.status, it.plan, bool(it.row.customer_deleted_at)) == ("canceled", "free", True)


def test_a_deletion_that_stripe_does_not_show_is_a_failure(billed, sandbox, deliver, event_of, run, row):
    it = billed()
    sandbox.remove(it.subscription)
    event = event_of("customer.deleted", {"object": "customer", "id": it.customer})
    deliver(event)
    run()
    assert (row(event["id"]).state, it.plan, it.row.status) == ("failed", "pro", "active")


def test_the_deletion_of_a_candidates_customer_only_drops_the_candidate(
    billed, stripe, subscribe, sandbox, arrive, run, ends
):
    it = billed()
    sandbox.advance(2)  # the older one is the organization's
    other = stripe.customers.create({"metadata": {"organizationId": str(it.org_id)}}).id
    subscribe(other, "starter", metadata={"organizationId": str(it.org_id)})
    arrive("customer.subscription.created")
    run()
    assert [each.stripe_customer_id for each in it.row.candidates] == [other]
    stripe.customers.delete(other)
    ids = arrive("customer.deleted")
    run()
    assert ends(ids) == {APPLIED}
    assert (it.row.candidates, it.row.stripe_subscription_id, it.plan) == ([], it.subscription, "pro")
    assert it.row.customer_deleted_at is None


def test_the_deletion_moves_to_what_is_live(billed, stripe, subscribe, sandbox, arrive, run):
    it = billed()
    sandbox.advance(2)  # the older one is the organization's
    other = stripe.customers.create({"metadata": {"organizationId": str(it.org_id)}}).id
    second = subscribe(other, "starter", metadata={"organizationId": str(it.org_id)})
    arrive("customer.subscription.created")
    run()
    stripe.customers.delete(it.customer)
    arrive("customer.deleted")
    run()
    assert (it.row.stripe_subscription_id, it.row.stripe_customer_id, it.plan) == (second, other, "starter")
    assert it.row.customer_deleted_at is None  # it is another customer's row now


def test_a_deleted_customer_stays_deleted(billed, stripe, arrive, run):
    """The list of its subscriptions is answered as ever."""
    it = billed()
    stripe.customers.delete(it.customer)
    arrive("customer.deleted")
    run()
    deleted_at = it.row.customer_deleted_at
    arrive("customer.subscription.deleted")
    run()
    assert deleted_at
    assert it.row.customer_deleted_at == deleted_at


def test_the_deletion_of_a_strangers_customer_is_ignored(stripe, arrive, run, ends):
    stripe.customers.delete(stripe.customers.create({}).id)
    ids = arrive("customer.deleted")
    run()
    assert ends(ids) == {IGNORED}


# Checkout


@pytest.fixture
def buy(stripe, sandbox, price):
    """A finished Checkout Session for a subscription."""

    def make(plan="pro", *, metadata=None, subscription_metadata=None, customer=None, outcome="paid"):
        params = {
            "mode": "subscription",
            "line_items": [{"price": price(plan), "quantity": 1}],
            "success_url": SUCCESS,
            "metadata": metadata or {},
            "subscription_data": {"metadata": subscription_metadata or {}},
        }
        session = stripe.checkout.sessions.create(params | ({"customer": customer} if customer else {}))
        sandbox.complete_checkout(session.id, outcome)
        return stripe.checkout.sessions.retrieve(session.id)

    return make


def test_checkout_attaches_what_was_bought(organization, buy, arrive, run, ends):
    org_id = organization()
    session = buy(metadata={"organizationId": str(org_id)})
    ids = arrive("checkout.session.completed")
    run()
    assert ends(ids) == {APPLIED}
    row = Subscription.objects(organization=org_id).first()
    assert (row.stripe_subscription_id, row.stripe_customer_id) == (session.subscription, session.customer)
    assert (row.plan, row.synced_from) == ("pro", "checkout")


def test_checkout_wakes_the_events_that_named_nobody(organization, buy, arrive, run, ends):
    org_id = organization()
    buy(metadata={"organizationId": str(org_id)})
    early = arrive("customer.subscription.created", "invoice.paid")
    run()
    assert {state for state, _, _ in ends(early)} == {"failed"}
    arrive("checkout.session.completed")
    run()
    assert ends(early) == {APPLIED}
    assert Organization.objects(id=org_id).first().plan == "pro"


def test_a_second_customer_made_by_checkout_is_seen(billed, buy, sandbox, arrive, run):
    it = billed()
    sandbox.advance(2)  # the older one is the organization's
    session = buy("business", metadata={"organizationId": str(it.org_id)})
    arrive("checkout.session.completed")
    run()
    assert [each.stripe_subscription_id for each in it.row.candidates] == [session.subscription]
    assert it.row.stripe_subscription_id == it.subscription
    assert Finding.objects(kind="several_live_subscriptions", organization=it.org_id).count() == 1


def test_a_session_and_a_subscription_that_disagree_are_a_conflict(organization, buy, arrive, run, ends):
    first, second = organization(), organization()
    buy(metadata={"organizationId": str(first)}, subscription_metadata={"organizationId": str(second)})
    ids = arrive("checkout.session.completed")
    run()
    assert ends(ids) == {("dead", None, "organization_conflict")}
    assert len(Subscription.objects) == 0
    assert Finding.objects(kind="organization_conflict").count() == 1


def test_a_session_that_names_another_than_its_customers_owner(billed, organization, buy, arrive, run, ends):
    it, other = billed(), organization()
    buy(metadata={"organizationId": str(other)}, customer=it.customer)
    ids = arrive("checkout.session.completed")
    run()
    assert ends(ids) == {("dead", None, "customer_shared")}
    assert it.plan == "pro"


def test_a_session_for_an_organization_that_is_not_known_yet_waits(organization, buy, arrive, run, ends, row):
    org_id = ObjectId()
    buy(metadata={"organizationId": str(org_id)})
    [event_id] = arrive("checkout.session.completed")
    run()
    assert (row(event_id).state, row(event_id).reason) == ("failed", "organization_unknown")
    organization(id=org_id)
    run(later=True)
    assert ends([event_id]) == {APPLIED}


@pytest.mark.parametrize(
    "kind",
    ["checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed"],
)
def test_a_session_that_sold_nothing_of_ours_is_ignored(deliver, event_of, run, ends, kind):
    session = {
        "object": "checkout.session",
        "id": "cs_1",
        "mode": "payment",
        "status": "complete",
        "payment_status": "paid",
        "metadata": {},
        "customer": None,
        "created": int(time.time()),
    }
    event = event_of(kind, session)
    deliver(event)
    run()
    assert ends([event["id"]]) == {IGNORED}


# Refunds and disputes; of extras: test_extras.py


def test_a_refund_of_a_subscription_moves_nothing(billed, stripe, arrive, run, ends, row):
    it = billed()
    charge = stripe.charges.list({"customer": it.customer}).data[0]
    stripe.refunds.create({"charge": charge.id, "amount": 100})
    ids = arrive("charge.refunded", "refund.created")
    version = it.row.version
    run()
    assert ends(ids) == {IGNORED}
    assert it.row.version == version
    assert row(ids[0]).organization == it.org_id


def test_a_dispute_whose_charge_is_not_shown_is_a_failure(billed, stripe, sandbox, arrive, run, row):
    it = billed()
    sandbox.dispute(stripe.charges.list({"customer": it.customer}).data[0].id)
    [event_id] = arrive("charge.dispute.created")
    missing = {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such charge"}}
    sandbox.arm("error", path="/v1/charges/", status=404, times=1, body=missing)
    run()
    assert row(event_id).state == "failed"
    run(later=True)
    assert row(event_id).outcome == "applied"
    assert OutboxSignal.objects(name="dispute_opened").count() == 1


def test_a_dispute_is_told_of_once(billed, stripe, sandbox, arrive, run, ends):
    it = billed()
    charge = stripe.charges.list({"customer": it.customer}).data[0]
    dispute = sandbox.dispute(charge.id)
    ids = arrive("charge.dispute.created")
    run()
    assert ends(ids) == {APPLIED}
    [told] = OutboxSignal.objects(name="dispute_opened")
    assert (told.organization, told.facts["charge_id"], told.facts["amount"]) == (it.org_id, charge.id, charge.amount)
    WebhookEvent.objects(event_id__in=ids).update(set__state="received")
    run()
    assert OutboxSignal.objects(name="dispute_opened").count() == 1
    assert dispute["id"] in told.key


@pytest.mark.parametrize(("outcome", "signal"), [("lost", "dispute_lost"), ("won", "dispute_reinstated")])
def test_the_end_of_a_dispute_is_told_of(billed, stripe, sandbox, arrive, run, outcome, signal):
    it = billed()
    charge = stripe.charges.list({"customer": it.customer}).data[0]
    dispute = sandbox.dispute(charge.id)
    sandbox.close_dispute(dispute["id"], outcome)
    kinds = ["charge.dispute.closed", "charge.dispute.funds_withdrawn"]
    arrive(*kinds, *(["charge.dispute.funds_reinstated"] if outcome == "won" else []))
    run()
    assert [each.name for each in OutboxSignal.objects(name__startswith="dispute")] == [signal]
    if outcome == "won":
        assert str(it.org_id) in OutboxSignal.objects(name=signal).first().facts["next"]
    assert WebhookEvent.objects(state__ne="succeeded").count() == 0


def test_a_dispute_of_a_buyer_for_whom_checkout_made_a_customer(billed, pack, stripe, sandbox, arrive, run, ends):
    it = billed()
    session = pack(it.org_id, customer=stripe.customers.create({}).id)
    sandbox.dispute(stripe.charges.list({"payment_intent": session.payment_intent}).data[0].id)
    assert arrive("charge.dispute.created")
    run()
    assert [each.organization for each in OutboxSignal.objects(name="dispute_opened")] == [it.org_id]


def test_a_strangers_dispute_is_ignored(stripe, subscribed, sandbox, arrive, run, ends):
    live = subscribed(price="price_of_another_product")
    charge = stripe.charges.list({"customer": live.customer}).data[0]
    sandbox.dispute(charge.id)
    ids = arrive("charge.dispute.created")
    run()
    assert ends(ids) == {IGNORED}
    assert len(OutboxSignal.objects) == 0


def test_a_poison_event_of_an_organization_harms_none_of_its_others(billed, deliver, event_of, stripe, run, row):
    """They share a look; when it fails each has its own."""
    it = billed()
    Subscription.objects(organization=it.org_id).update_one(set__as_of=it.row.as_of - timedelta(minutes=2))
    good = event_of("invoice.paid", {"object": "invoice", "customer": it.customer, "subscription": it.subscription})
    poison = event_of("invoice.paid", {"object": "invoice", "customer": it.customer, "subscription": "sub_none"})
    for each in (poison, good):
        deliver(each)
    run()
    assert row(good["id"]).state == "succeeded"
    assert row(poison["id"]).state in ("succeeded", "failed")
    assert it.plan == "pro"
