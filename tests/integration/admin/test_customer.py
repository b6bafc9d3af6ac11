"""GET /api/admin/billing/customer/{orgId}"""

from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from pymongo import monitoring

from billing_service.documents import Organization, Override, Subscription, WebhookEvent

BASE = "/api/admin/billing/customer/"


def show(client, headers, org_id, query=""):
    return client.get(f"{BASE}{org_id}{query}", headers=headers)


def test_it_works(client, admin, billed):
    it = billed("pro")
    answer = show(client, admin, it.org_id)
    assert answer.status_code == 200
    assert set(answer.json) == {
        "organization",
        "stored",
        "live",
        "differences",
        "verdict",
        "explanation",
        "actions",
        "recentEvents",
        "openFindings",
        "audit",
    }
    assert answer.json["verdict"] == "in_sync"
    assert answer.json["differences"] == []
    live = answer.json["live"]
    assert live["customer"]["id"] == it.customer
    assert [(each["id"], each["plan"], each["status"]) for each in live["subscriptions"]] == [
        (it.subscription, "pro", "active")
    ]
    assert [each["amountRefundable"] for each in live["payments"]] == [4900]
    assert all(each["allowed"] for each in answer.json["actions"])


def test_every_field_of_the_row_is_shown(client, admin, billed):
    it = billed("pro")
    stored = show(client, admin, it.org_id).json["stored"]
    names = {name for name in Subscription._fields if name != "id"}
    assert len(stored) == len(names)
    assert stored["orgId"] == str(it.org_id)


def test_secrets_among_what_stripe_says_in_words_are_masked(client, admin, billed, stripe, sandbox):
    it, card, key = billed("pro"), "4242 4242 4242 4242", "sk_test_0123456789abcdef"
    charge = stripe.charges.list({"customer": it.customer}).data[0].id
    stripe.customers.update(it.customer, {"name": f"{key}, {card}"})
    sandbox.patch(charge, {"failure_message": f"Declined: {card}."})
    shown = show(client, admin, it.org_id)
    assert shown.json["live"]["customer"]["name"] == "[masked], [masked]"
    assert shown.json["live"]["payments"][0]["failureMessage"] == "Declined: [masked]."
    listed = client.get(f"/api/admin/billing/charges?orgId={it.org_id}", headers=admin)
    for answer in (shown, listed):
        assert answer.status_code == 200
        assert card not in answer.text
        assert key not in answer.text


def test_it_needs_a_token(client, billed):
    assert show(client, {}, billed().org_id).status_code == 401


def test_it_needs_the_permission(client, token, billed):
    assert show(client, token("service"), billed().org_id).status_code == 403


def test_a_role_is_not_offered_what_it_may_not_do(client, token, billed):
    actions = show(client, token("support"), billed().org_id).json["actions"]
    assert {each["name"]: each["allowed"] for each in actions} == {
        "sync": True,
        "link": False,
        "cancel": False,
        "bump": False,
        "refund": False,
    }


@pytest.mark.parametrize("org_id", ["x", "0" * 23, "0" * 25, "g" * 24, "%7B%22$gt%22:%22%22%7D"])
def test_it_rejects_bad_input(client, admin, org_id):
    answer = client.get(BASE + org_id, headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert client.get(f"{BASE}{ObjectId()}?verbose=1", headers=admin).status_code == 422


def test_it_reports_stripe_down(client, admin, billed, sandbox):
    it = billed("pro")
    sandbox.arm("drop", times=None)
    answer = show(client, admin, it.org_id)
    assert answer.status_code == 200
    assert (answer.json["live"], answer.json["verdict"]) == (None, "stripe_unavailable")
    assert answer.json["stored"]["plan"] == "pro"
    # What needs no Stripe can be done all the same.
    assert [each["name"] for each in answer.json["actions"] if each["allowed"]] == ["bump"]


def test_an_unknown_organization_is_404(client, admin):
    answer = show(client, admin, ObjectId())
    assert (answer.status_code, answer.json["code"]) == (404, "organization_not_found")


def in_sync(it, stripe, sandbox, subscribe):
    pass


def not_billed(it, stripe, sandbox, subscribe):
    stripe.subscriptions.cancel(it.subscription)
    Subscription.objects(organization=it.org_id).update_one(
        set__status=None,
        set__plan="free",
        set__stripe_subscription_id=None,
        set__stripe_customer_id=None,
    )
    Organization.objects(id=it.org_id).update_one(set__plan="free")


def overridden(it, stripe, sandbox, subscribe):
    Subscription.objects(organization=it.org_id).update_one(
        set__override=Override(plan="business", actor="ada", at=datetime.now(UTC)), set__plan="business"
    )
    Organization.objects(id=it.org_id).update_one(set__plan="business")


def diverged(it, stripe, sandbox, subscribe):
    stripe.subscriptions.update(it.subscription, {"cancel_at_period_end": True})


def plan_unresolved(it, stripe, sandbox, subscribe):
    """The price names no plan: see the test."""


def several_live_subscriptions(it, stripe, sandbox, subscribe):
    subscribe(it.customer, "starter")


def missing_in_db(it, stripe, sandbox, subscribe):
    Subscription.objects(organization=it.org_id).update_one(
        set__stripe_subscription_id=None, set__status=None, set__plan="free"
    )


def missing_in_stripe(it, stripe, sandbox, subscribe):
    sandbox.remove(it.subscription)


def customer_deleted(it, stripe, sandbox, subscribe):
    stripe.customers.delete(it.customer)


def stripe_unavailable(it, stripe, sandbox, subscribe):
    sandbox.arm("error", status=503, times=None)


VERDICTS = (
    stripe_unavailable,
    customer_deleted,
    missing_in_stripe,
    missing_in_db,
    several_live_subscriptions,
    plan_unresolved,
    diverged,
    overridden,
    not_billed,
    in_sync,
)


@pytest.mark.parametrize("drift", VERDICTS, ids=lambda drift: drift.__name__)
def test_each_verdict_is_drawn_and_explained(client, admin, billed, stripe, sandbox, subscribe, drift):
    unresolved = drift is plan_unresolved
    it = billed(None if unresolved else "pro", stored=not unresolved)
    drift(it, stripe, sandbox, subscribe)
    answer = show(client, admin, it.org_id)
    assert answer.status_code == 200
    assert answer.json["verdict"] == drift.__name__
    assert len(answer.json["explanation"]) > 20


def test_a_difference_names_both_values_and_its_severity(client, admin, billed, stripe):
    it = billed("pro")
    stripe.subscriptions.cancel(it.subscription)
    differences = {each["field"]: each for each in show(client, admin, it.org_id).json["differences"]}
    assert (differences["status"]["stored"], differences["status"]["live"]) == ("active", "canceled")
    assert differences["status"]["severity"] == "high"
    assert (differences["plan"]["stored"], differences["plan"]["live"]) == ("pro", "free")


def test_a_subscription_that_names_another_organization_is_no_agreement(client, admin, billed, stripe):
    it, other = billed("pro"), str(ObjectId())
    stripe.subscriptions.update(it.subscription, {"metadata": {"organizationId": other}})
    answer = show(client, admin, it.org_id).json
    assert answer["verdict"] == "diverged"
    assert {each["field"]: each["live"] for each in answer["differences"]}["organization"] == other
    assert other in answer["explanation"]


def test_paid_but_not_granted_is_critical(client, admin, billed):
    it = billed("pro", stored=False)
    differences = {each["field"]: each for each in show(client, admin, it.org_id).json["differences"]}
    assert differences["status"]["severity"] == "critical"


def test_a_sync_ends_the_differences(client, admin, billed):
    it = billed("pro", stored=False)
    assert show(client, admin, it.org_id).json["verdict"] == "diverged"
    assert client.post(f"/api/admin/billing/sync/{it.org_id}", headers=admin).status_code == 200
    assert show(client, admin, it.org_id).json["verdict"] == "in_sync"


def test_a_missing_one_without_proof_is_not_called_gone(client, admin, billed, sandbox):
    it = billed("pro")
    sandbox.remove(it.subscription)
    sandbox.remove(it.customer)
    answer = show(client, admin, it.org_id).json
    assert answer["verdict"] == "missing_in_stripe"
    assert "STRIPE_SECRET_KEY" in answer["explanation"]
    assert {each["name"]: each["allowed"] for each in answer["actions"]}["sync"] is False


def test_the_event_that_may_be_the_cause_is_named(client, admin, billed):
    it = billed("pro", stored=False)
    now = datetime.now(UTC)
    WebhookEvent(
        event_id="evt_stuck",
        type="customer.subscription.updated",
        created=now,
        received_at=now,
        source="delivery",
        state="dead",
        reason="organization_conflict",
        organization=it.org_id,
    ).save()
    answer = show(client, admin, it.org_id).json
    assert "evt_stuck" in answer["explanation"]
    assert [each["eventId"] for each in answer["recentEvents"]] == ["evt_stuck"]


def test_a_plan_granted_by_hand_without_any_subscription_is_no_agreement(client, admin, organization):
    org_id = organization(plan="business")
    Subscription(organization=org_id, plan="business").save()
    answer = show(client, admin, org_id).json
    assert answer["verdict"] == "diverged"
    assert [(each["field"], each["stored"], each["live"]) for each in answer["differences"]] == [
        ("plan", "business", "free")
    ]
    assert "Granted but not paid" in answer["explanation"]


def test_many_subscriptions_of_a_customer_cost_no_further_requests(client, admin, billed, subscribe, stripe, sandbox):
    it = billed("pro")
    for _ in range(101):
        stripe.subscriptions.cancel(subscribe(it.customer, "starter"))
    sandbox.clear_requests()
    answer = show(client, admin, it.org_id)
    assert len(answer.json["live"]["subscriptions"]) == 101
    assert answer.json["verdict"] == "in_sync"
    assert sandbox.requests()["count"] == 4  # the row's own is older than the hundred that one list shows


def test_a_dead_event_is_named_however_many_came_after(client, admin, billed):
    it = billed("pro", stored=False)
    now = datetime.now(UTC)
    for number in range(12):
        WebhookEvent(
            event_id=f"evt_{number}",
            type="customer.subscription.updated",
            created=now + timedelta(seconds=number),
            received_at=now,
            source="delivery",
            state="dead" if number == 0 else "succeeded",
            organization=it.org_id,
        ).save()
    answer = show(client, admin, it.org_id).json
    assert "evt_0 " in answer["explanation"]
    assert len(answer["recentEvents"]) == 10


class Counter(monitoring.CommandListener):
    def __init__(self):
        self.commands = []
        self.on = False

    def started(self, event):
        if self.on and event.command_name in ("find", "aggregate", "count", "getMore", "update", "insert"):
            self.commands.append(event.command_name)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def test_it_costs_at_most_seven_reads_and_three_requests(client, admin, billed, sandbox, servers):
    from billing_service.documents import connect

    it = billed("pro")
    counter = Counter()
    monitoring.register(counter)
    try:
        connect(servers.mongod.url)  # listeners belong to clients made after they were registered
        sandbox.clear_requests()
        counter.on = True
        assert show(client, admin, it.org_id).status_code == 200
    finally:
        counter.on = False
        monitoring._LISTENERS.command_listeners.remove(counter)
        connect(servers.mongod.url)
    assert 0 < len(counter.commands) <= 7, counter.commands
    assert sandbox.call("GET", "/requests")["count"] == 3
