"""Whose event it is stands on the event from its arrival on, so that an admin finds it, above all when it failed."""

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.documents import Subscription, WebhookEvent
from billing_service.documents.subscription import Candidate
from billing_service.webhooks import handle_due


def subject(live):
    return {"object": "subscription", "id": live.subscription, "customer": live.customer}


@pytest.fixture
def run(app, desk):
    """Handles what is due and what waits, as often as asked."""

    def handled(times=1):
        for _ in range(times):
            WebhookEvent.objects(state="failed").update(unset__next_attempt_at=True)
            handle_due(desk, stop=lambda: False)

    return handled


@pytest.fixture
def shown(client, admin):
    """What the organization's page shows: its events by id, and the explanation."""

    def read(org_id):
        answer = client.get(f"/api/admin/billing/customer/{org_id}", headers=admin).json
        return {each["eventId"]: each for each in answer["recentEvents"]}, answer["explanation"]

    return read


@pytest.fixture
def newest(events_at_stripe):
    """The newest event of a type that Stripe has."""
    return lambda kind: events_at_stripe(kind)[-1]


def test_an_event_that_died_is_shown_with_its_organization(billed, deliver, newest, sandbox, stripe, run, row, shown):
    it = billed("pro")
    stripe.subscriptions.cancel(it.subscription)
    event = newest("customer.subscription.deleted")
    deliver(event)
    sandbox.remove(it.subscription)
    run(5)
    assert (row(event["id"]).state, row(event["id"]).attempts) == ("dead", 5)
    events, explanation = shown(it.org_id)
    assert events[event["id"]]["state"] == "dead"
    assert event["id"] in explanation


def test_an_event_that_cannot_be_read_is_shown_with_its_organization(billed, deliver, event_of, run, row, shown):
    it = billed("pro")
    event = event_of(subject=subject(it))
    deliver(event)
    run()
    assert (row(event["id"]).state, row(event["id"]).reason) == ("failed", "handler_failed")
    events, explanation = shown(it.org_id)
    assert event["id"] in events
    assert event["id"] in explanation


def test_an_event_that_waits_for_stripe_is_shown_with_its_organization(
    billed, deliver, newest, sandbox, stripe, run, row, runtime, shown
):
    it = billed("pro")
    stripe.subscriptions.cancel(it.subscription)
    event = newest("customer.subscription.deleted")
    deliver(event)
    sandbox.arm("error", path="/v1/", times=None)
    run()
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    assert (row(event["id"]).state, row(event["id"]).reason) == ("failed", "outage")
    assert event["id"] in shown(it.org_id)[0]


def test_the_subscription_the_customer_and_the_candidates_name_the_organization(app, deliver, event_of, row):
    ours = {name: ObjectId() for name in ("subscription", "customer", "candidate")}
    Subscription(organization=ours["subscription"], plan="free", stripe_subscription_id="sub_ours").save()
    Subscription(organization=ours["customer"], plan="free", stripe_customer_id="cus_ours").save()
    candidate = Candidate(stripe_subscription_id="sub_next", stripe_customer_id="cus_next")
    Subscription(organization=ours["candidate"], plan="free", candidates=[candidate]).save()
    for sub, cus, owner in (
        ("sub_ours", "cus_other", ours["subscription"]),
        ("sub_other", "cus_ours", ours["customer"]),
        ("sub_ours", "cus_ours", ours["subscription"]),
        ("sub_next", "cus_next", ours["candidate"]),
        ("sub_other", "cus_other", None),
    ):
        event = event_of(subject={"object": "subscription", "id": sub, "customer": cus})
        deliver(event)
        assert row(event["id"]).organization == owner, (sub, cus)


def test_the_organization_is_found_with_one_indexed_read(billed, deliver, event_of):
    it = billed("pro")
    database = get_db()
    database.command("profile", 2)
    try:
        deliver(event_of(subject=subject(it)))
        deliver(event_of("product.created", {"object": "product", "id": "prod_1"}))
        deliver(event_of(subject={"object": "subscription"}))
        database.command("profile", 0)
        seen = list(database.system.profile.find({"ns": {"$regex": "subscriptions$"}}))
    finally:
        database.command("profile", 0)
        database.system.profile.drop()
    reads = [each for each in seen if "planSummary" in each]
    assert len(reads) == 1
    assert "COLLSCAN" not in reads[0]["planSummary"]
    assert reads[0]["docsExamined"] == 1


def test_an_owner_that_became_known_meanwhile_is_told_at_the_failure(
    organization, subscribed, deliver, newest, sandbox, run, row
):
    org_id = organization()
    live = subscribed(org_id)
    event = newest("customer.subscription.created")
    deliver(event)
    assert row(event["id"]).organization is None
    sandbox.remove(live.id)
    run()
    failed = row(event["id"])
    assert (failed.state, failed.history[-1].error_class, failed.organization) == ("failed", "StripeMissing", org_id)


def test_a_row_that_was_made_meanwhile_names_the_owner_at_the_failure(organization, deliver, event_of, run, row):
    org_id = organization()
    event = event_of(subject={"object": "subscription", "id": "sub_late", "customer": "cus_late"})
    deliver(event)
    assert row(event["id"]).organization is None
    Subscription(organization=org_id, plan="free", stripe_customer_id="cus_late").save()
    run()
    assert (row(event["id"]).state, row(event["id"]).organization) == ("failed", org_id)


def test_an_event_that_was_buried_was_attempted_once(organization, subscribed, deliver, newest, run, row, shown):
    mine, other = organization(), organization()
    live = subscribed(other)
    Subscription(organization=mine, plan="free", stripe_subscription_id=live.id).save()
    event = newest("customer.subscription.created")
    deliver(event)
    run()
    buried = row(event["id"])
    assert (buried.state, buried.reason) == ("dead", "organization_conflict")
    assert (buried.attempts, len(buried.history)) == (1, 1)
    assert event["id"] in shown(mine)[0]
