"""POST /api/admin/billing/cancel/{orgId}"""

from datetime import timedelta

import pytest
from bson import ObjectId

from billing_service import subscriptions
from billing_service.documents import AdminAction, AdminOperation, Finding

BASE = "/api/admin/billing/cancel/"
RETRIEVE = {"method": "GET", "path": r"/v1/subscriptions/sub_"}
ASK = {"method": "DELETE", "path": r"/v1/subscriptions/sub_"}
SCHEDULE = {"method": "POST", "path": r"/v1/subscriptions/sub_"}


def cancel(client, headers, org_id, query="", **body):
    return client.post(f"{BASE}{org_id}{query}", headers=headers, json=body)


def status_at_stripe(stripe, it):
    return stripe.subscriptions.retrieve(it.subscription).status


def test_it_works(client, admin, billed, stripe):
    it = billed("pro")
    answer = cancel(client, admin, it.org_id)
    assert answer.status_code == 200
    assert (answer.json["stripeStatus"], answer.json["verified"]) == ("canceled", True)
    assert (answer.json["previous"]["plan"], answer.json["updated"]["plan"]) == ("pro", "free")
    assert (it.row.status, it.row.plan, it.plan, it.row.synced_from) == ("canceled", "free", "free", "cancel")
    assert status_at_stripe(stripe, it) == "canceled"


def test_the_parameters_are_sent_explicitly(client, admin, billed, sandbox):
    it = billed("pro")
    cancel(client, admin, it.org_id)
    sent = sandbox.call("GET", "/requests")["items"]
    asked = next(each for each in sent if each["method"] == "DELETE")
    assert {name: str(value).lower() for name, value in asked["params"].items()} == {
        "prorate": "false",
        "invoice_now": "false",
    }


def test_it_is_verified_by_a_retrieve_before_anything_is_written(client, admin, billed, sandbox):
    it = billed("pro")
    sandbox.clear_requests()
    cancel(client, admin, it.org_id)
    methods = [each["method"] for each in sandbox.call("GET", "/requests")["items"]]
    assert "GET" in methods[methods.index("DELETE") + 1 :]


def test_at_the_periods_end(client, admin, billed, stripe):
    it = billed("pro")
    answer = cancel(client, admin, it.org_id, mode="period_end")
    assert answer.status_code == 200
    assert (answer.json["stripeStatus"], answer.json["verified"]) == ("active", True)
    assert (it.row.status, it.row.plan, it.row.cancel_at_period_end) == ("active", "pro", True)
    assert stripe.subscriptions.retrieve(it.subscription).cancel_at_period_end is True


@pytest.mark.parametrize("mode", ["now", "period_end"])
def test_twice_is_once(client, admin, billed, mode, sandbox):
    it = billed("pro")
    cancel(client, admin, it.org_id, mode=mode)
    sandbox.clear_requests()
    again = cancel(client, admin, it.org_id, mode=mode)
    assert (again.status_code, again.json["changed"], again.json["verified"]) == (200, [], True)
    assert {each["method"] for each in sandbox.call("GET", "/requests")["items"]} == {"GET"}


def test_it_needs_a_token(client, billed, frozen):
    it = billed()
    with frozen:
        assert cancel(client, {}, it.org_id).status_code == 401


def test_it_needs_the_permission(client, token, billed, stripe, frozen):
    it = billed()
    with frozen:
        answer = cancel(client, token("support"), it.org_id)
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert status_at_stripe(stripe, it) == "active"


@pytest.mark.parametrize(
    "body",
    [{"mode": "later"}, {"prorate": "perhaps"}, {"stripeSubscriptionId": "cus_1"}, {"dryRun": True}, {"mode": ["now"]}],
)
def test_it_rejects_bad_input(client, admin, billed, stripe, frozen, body):
    it = billed()
    with frozen:
        answer = cancel(client, admin, it.org_id, **body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert status_at_stripe(stripe, it) == "active"


def test_it_reports_stripe_down(client, admin, billed, sandbox, frozen):
    it = billed()
    sandbox.arm("error", status=500, times=None)
    with frozen:
        answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["code"]) == (502, "stripe_unavailable")


def test_no_row_is_404(client, admin, organization):
    assert cancel(client, admin, organization()).json["code"] == "subscription_not_found"
    assert cancel(client, admin, ObjectId()).json["code"] == "organization_not_found"


def test_refused_by_stripe_is_told_and_nothing_is_written(client, admin, billed, sandbox, stripe, frozen):
    it = billed()
    body = {"error": {"type": "invalid_request_error", "code": "subscription_odd", "message": "No, not this one."}}
    sandbox.arm("error", status=400, body=body, **ASK)
    with frozen:
        answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["code"]) == (422, "stripe_rejected")
    assert "No, not this one." in answer.json["detail"]
    assert status_at_stripe(stripe, it) == "active"


@pytest.mark.parametrize("mode", ["now", "period_end"])
@pytest.mark.parametrize("kind", ["timeout_after", "drop_after"])
def test_a_timeout_after_the_effect_ends_in_success(client, admin, billed, sandbox, stripe, mode, kind):
    it = billed()
    more = {"seconds": 1.5} if kind == "timeout_after" else {}
    sandbox.arm(kind, times=1, **(ASK if mode == "now" else SCHEDULE), **more)
    answer = cancel(client, admin, it.org_id, mode=mode)
    assert (answer.status_code, answer.json["verified"]) == (200, True)
    wanted = ("canceled", "free") if mode == "now" else ("active", "pro")
    assert (it.row.status, it.row.plan) == wanted


def test_a_timeout_before_the_effect_is_not_believed(client, admin, billed, sandbox, stripe, frozen):
    it = billed()
    sandbox.arm("timeout_before", seconds=1.5, times=None, **ASK)
    with frozen:
        answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["code"]) == (502, "cancel_unverified")
    operation = AdminOperation.objects(kind="cancel").first()
    assert (operation.state, operation.parameters["stripe_target_id"]) == ("unknown", it.subscription)
    assert operation.next_check_at is not None
    outcome = AdminAction.objects(organization=it.org_id, phase="outcome").first()
    assert outcome.outcome == "unknown"


def test_a_retrieve_that_fails_once_is_repeated(client, admin, billed, sandbox):
    it = billed()
    sandbox.arm("error", status=500, times=2, after=1, **RETRIEVE)
    answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["verified"]) == (200, True)


def unverified(client, admin, it, sandbox, **headers):
    """Cancel with every look at the result failing; Stripe carries it out all the same."""
    fault = sandbox.arm("error", status=500, times=None, after=1, **RETRIEVE)
    answer = client.post(f"{BASE}{it.org_id}", headers=admin | headers, json={})
    assert (answer.status_code, answer.json["code"]) == (502, "cancel_unverified")
    sandbox.disarm(fault["id"])
    return answer


def test_a_retrieve_that_always_fails_leaves_the_row_alone(client, admin, billed, sandbox, frozen, stripe):
    it = billed()
    with frozen:
        answer = unverified(client, admin, it, sandbox)
    assert it.subscription in answer.json["detail"]
    assert status_at_stripe(stripe, it) == "canceled"


def look_again(runtime, minutes):
    ahead = lambda: runtime.clock() + timedelta(minutes=minutes)
    return subscriptions.follow_up_cancels(stripe=runtime.stripe, plans=runtime.plans, clock=ahead)


def test_the_follow_up_writes_when_it_sees_it(client, admin, billed, sandbox, runtime):
    it = billed()
    unverified(client, admin, it, sandbox)
    runtime.stripe.circuit.succeeded()
    sandbox.clear_requests()
    assert look_again(runtime, 2) == 1
    assert (it.row.status, it.row.plan) == ("canceled", "free")
    assert AdminOperation.objects(kind="cancel").first().state == "done"
    assert AdminAction.objects(organization=it.org_id).order_by("-id").first().outcome == "succeeded"
    assert {each["method"] for each in sandbox.call("GET", "/requests")["items"]} == {"GET"}
    assert look_again(runtime, 3) == 0


def test_the_follow_up_gives_up_with_a_finding(client, admin, billed, sandbox, runtime, stripe):
    it = billed()
    sandbox.arm("timeout_before", seconds=1.5, times=None, **ASK)
    assert cancel(client, admin, it.org_id).status_code == 502
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    assert look_again(runtime, 2) == 0
    assert look_again(runtime, 26 * 60) == 1
    finding = Finding.objects(kind="cancel_unverified", organization=it.org_id).first()
    assert finding.stripe_subscription_ids == [it.subscription]
    assert (it.row.status, status_at_stripe(stripe, it)) == ("active", "active")


def test_the_same_key_resumes_an_unverified_cancel(client, admin, billed, sandbox, runtime):
    it = billed()
    headers = admin | {"Idempotency-Key": "cancel-1"}
    unverified(client, admin, it, sandbox, **{"Idempotency-Key": "cancel-1"})
    runtime.stripe.circuit.succeeded()
    answer = client.post(f"{BASE}{it.org_id}", headers=headers, json={})
    assert (answer.status_code, answer.json["verified"]) == (200, True)
    assert it.row.status == "canceled"
    assert AdminOperation.objects(kind="cancel").count() == 1


def test_already_canceled_at_stripe_converges(client, admin, billed, stripe):
    it = billed()
    stripe.subscriptions.cancel(it.subscription)
    answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["verified"], answer.json["stripeStatus"]) == (200, True, "canceled")
    assert (it.row.status, it.row.plan) == ("canceled", "free")


def test_a_deleted_customer_converges(client, admin, billed, stripe):
    it = billed()
    stripe.customers.delete(it.customer)
    answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["verified"]) == (200, True)
    assert (it.row.status, it.row.plan) == ("canceled", "free")


def test_a_subscription_proven_gone_converges(client, admin, billed, sandbox):
    it = billed()
    sandbox.remove(it.subscription)
    answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["verified"]) == (200, True)
    assert (it.row.status, it.row.plan) == ("canceled", "free")


def test_an_unknown_named_subscription_is_no_success(client, admin, billed, stripe, frozen):
    it = billed()
    with frozen:
        answer = cancel(client, admin, it.org_id, stripeSubscriptionId="sub_unknown")
    assert (answer.status_code, answer.json["code"]) == (422, "stripe_missing")
    assert status_at_stripe(stripe, it) == "active"


def test_a_named_one_that_is_canceled_already_tells_its_own_status(client, admin, billed, subscribe, stripe):
    it = billed()
    over = subscribe(it.customer, "starter")
    stripe.subscriptions.cancel(over)
    answer = cancel(client, admin, it.org_id, stripeSubscriptionId=over)
    assert answer.status_code == 200
    assert (answer.json["stripeSubscriptionId"], answer.json["stripeStatus"]) == (over, "canceled")
    assert (it.row.status, it.row.stripe_subscription_id) == ("active", it.subscription)


def test_nothing_at_stripe_to_look_at_is_no_success(client, admin, organization, frozen):
    from billing_service.documents import Subscription

    org_id = organization()
    Subscription(organization=org_id, plan="free").save()
    with frozen:
        answer = cancel(client, admin, org_id)
    assert (answer.status_code, answer.json["code"]) == (422, "no_stripe_subscription")


def test_one_that_names_another_organization_is_not_passed_over(client, admin, billed, stripe, frozen):
    it = billed()
    stripe.subscriptions.update(it.subscription, {"metadata": {"organizationId": str(ObjectId())}})
    with frozen:
        answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["code"]) == (409, "organization_conflict")
    assert status_at_stripe(stripe, it) == "active"


def test_a_resumed_cancel_never_chooses_again(client, admin, billed, sandbox, runtime, subscribe, stripe):
    it = billed()
    unverified(client, admin, it, sandbox, **{"Idempotency-Key": "cancel-2"})
    runtime.stripe.circuit.succeeded()
    bought = subscribe(it.customer, "business")
    answer = client.post(f"{BASE}{it.org_id}", headers=admin | {"Idempotency-Key": "cancel-2"}, json={})
    assert answer.status_code == 200
    assert answer.json["stripeSubscriptionId"] == it.subscription
    assert stripe.subscriptions.retrieve(bought).status == "active"
    assert (it.row.stripe_subscription_id, it.row.plan) == (bought, "business")


def test_an_outage_after_the_effect_is_followed_up(client, admin, billed, sandbox, runtime, stripe):
    """Stripe shows the cancel, then fails before the rest could be read."""
    it = billed()
    fault = sandbox.arm("error", status=500, times=None, after=1, method="GET", path=r"/v1/subscriptions$")
    answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["code"]) == (502, "stripe_unavailable")
    assert (status_at_stripe(stripe, it), it.row.status) == ("canceled", "active")
    sandbox.disarm(fault["id"])
    runtime.stripe.circuit.succeeded()
    assert AdminOperation.objects.first().state == "unknown"
    assert look_again(runtime, 2) == 1
    assert (it.row.status, it.row.plan) == ("canceled", "free")


def surplus(it, stripe, subscribe):
    """A second subscription on a customer that Checkout made, known here only as a candidate."""
    from billing_service.documents import Candidate, Subscription

    customer = stripe.customers.create({}).id
    second = subscribe(customer, "starter")
    seen = [Candidate(stripe_subscription_id=second, stripe_customer_id=customer)]
    Subscription.objects(organization=it.org_id).update_one(set__candidates=seen)
    return second


def test_a_candidate_that_ended_unseen_is_still_followed_up(client, admin, billed, sandbox, runtime, stripe, subscribe):
    """Its end takes it off the candidates; it was tied to the organization when the cancel was asked for."""
    it = billed("pro")
    sandbox.advance(5)  # so that it is the younger one, which nothing but the cancel itself retrieves
    second = surplus(it, stripe, subscribe)
    fault = sandbox.arm("error", status=500, times=None, method="GET", path=rf"/v1/subscriptions/{second}")
    answer = cancel(client, admin, it.org_id, stripeSubscriptionId=second)
    assert (answer.status_code, answer.json["code"]) == (502, "cancel_unverified")
    sandbox.disarm(fault["id"])
    runtime.stripe.circuit.succeeded()
    assert stripe.subscriptions.retrieve(second).status == "canceled"
    client.post(f"/api/admin/billing/sync/{it.org_id}", headers=admin)
    assert it.row.candidates == []
    assert look_again(runtime, 2) == 1
    assert AdminOperation.objects(kind="cancel").first().state == "done"
    assert it.row.status == "active"


def test_a_finding_of_an_unseen_cancel_ends_only_when_the_end_is_seen(client, admin, billed, runtime):
    it = billed("pro")
    now = runtime.clock()
    Finding(
        fingerprint="cancel_unverified:1",
        kind="cancel_unverified",
        severity="high",
        organization=it.org_id,
        stripe_subscription_ids=["sub_nobody_looked_at"],
        first_seen_at=now,
        last_seen_at=now,
        state="open",
    ).save()
    client.post(f"/api/admin/billing/sync/{it.org_id}", headers=admin)
    assert Finding.objects(kind="cancel_unverified").first().state == "open"
    Finding.objects(kind="cancel_unverified").update(set__stripe_subscription_ids=[it.subscription])
    cancel(client, admin, it.org_id)
    assert Finding.objects(kind="cancel_unverified").first().state == "resolved"


def test_one_that_was_reached_already_but_not_seen_again_is_followed_up(
    client, admin, billed, sandbox, runtime, stripe
):
    it = billed("pro")
    stripe.subscriptions.update(it.subscription, {"cancel_at_period_end": True})
    fault = sandbox.arm("error", status=500, times=None, after=1, **RETRIEVE)
    answer = cancel(client, admin, it.org_id, mode="period_end")
    assert answer.status_code == 502
    sandbox.disarm(fault["id"])
    runtime.stripe.circuit.succeeded()
    assert AdminOperation.objects.first().state == "unknown"
    assert look_again(runtime, 2) == 1
    assert it.row.cancel_at_period_end is True


def test_a_lagging_list_does_not_keep_a_cancel_from_being_asked_for(client, admin, billed, sandbox, stripe):
    import time

    it = billed("pro")
    stripe.subscriptions.update(it.subscription, {"cancel_at_period_end": True})
    time.sleep(0.4)
    stripe.subscriptions.update(it.subscription, {"cancel_at_period_end": False})
    sandbox.arm("lag", seconds=0.3, times=1, method="GET", path=r"/v1/subscriptions$")
    answer = cancel(client, admin, it.org_id, mode="period_end")
    assert (answer.status_code, answer.json["verified"]) == (200, True)
    assert stripe.subscriptions.retrieve(it.subscription).cancel_at_period_end is True


def test_a_resumption_that_fails_stays_followed_up(client, admin, billed, sandbox, runtime):
    it = billed()
    headers = admin | {"Idempotency-Key": "cancel-3"}
    unverified(client, admin, it, sandbox, **{"Idempotency-Key": "cancel-3"})
    fault = sandbox.arm("rate_limited", times=None)
    runtime.stripe.circuit.succeeded()
    assert client.post(f"{BASE}{it.org_id}", headers=headers, json={}).status_code == 429
    sandbox.disarm(fault["id"])
    runtime.redis.client().flushall()
    known = AdminOperation.objects.first()
    assert (known.state, known.stored, known.expires_at) == ("unknown", False, None)
    assert look_again(runtime, 3) == 1
    assert it.row.status == "canceled"


def test_a_process_that_died_after_the_effect_is_followed_up(client, admin, billed, sandbox, runtime, stripe):
    """The operation is what a process leaves that was killed between Stripe's effect and our write."""
    it = billed()
    cancel(client, admin, it.org_id)
    from billing_service.documents import Organization, Subscription

    Subscription.objects(organization=it.org_id).update_one(set__status="active", set__plan="pro")
    Organization.objects(id=it.org_id).update_one(set__plan="pro")
    AdminAction.objects(phase="outcome").delete()
    AdminOperation.objects.update_one(
        set__state="started",
        set__stored=False,
        set__pursued=True,
        set__expires_at=None,
        set__next_check_at=runtime.clock() + timedelta(minutes=3),
        set__lease_until=runtime.clock() + timedelta(minutes=2),
    )
    assert look_again(runtime, 1) == 0
    assert look_again(runtime, 4) == 1
    assert (it.row.status, it.row.plan) == ("canceled", "free")
    assert [each.outcome for each in AdminAction.objects(phase="outcome")] == ["succeeded"]


def test_a_period_end_cancel_is_not_held_by_a_500_that_stripe_remembers(client, admin, billed, sandbox, runtime):
    it = billed()
    headers = admin | {"Idempotency-Key": "cancel-4"}
    sandbox.arm("error", status=500, stored=True, times=1, **SCHEDULE)
    first = client.post(f"{BASE}{it.org_id}", headers=headers, json={"mode": "period_end"})
    assert (first.status_code, first.json["code"]) == (502, "cancel_unverified")
    runtime.stripe.circuit.succeeded()
    again = client.post(f"{BASE}{it.org_id}", headers=headers, json={"mode": "period_end"})
    assert (again.status_code, again.json["verified"]) == (200, True)


def test_what_was_asked_for_is_in_the_audit(client, admin, billed):
    it = billed()
    cancel(client, admin, it.org_id, mode="period_end", note="moves away")
    intent, outcome = AdminAction.objects(organization=it.org_id).order_by("id")
    assert intent.parameters["mode"] == "period_end"
    assert outcome.parameters["stripe_target_id"] == it.subscription
    assert intent.before["plan"] == outcome.before["plan"] == "pro"
    assert outcome.at >= intent.at
    listed = client.get(f"/api/admin/billing/audit?orgId={it.org_id}", headers=admin).json["items"]
    assert listed[0]["parameters"]["mode"] == "period_end"


def test_a_key_of_another_account_proves_nothing(client, admin, billed, sandbox, frozen):
    it = billed()
    missing = {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such object"}}
    sandbox.arm("error", status=404, body=missing, times=None)
    with frozen:
        answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["code"]) == (409, "missing_unproven")


def test_two_live_ones_are_refused_with_the_list(client, admin, billed, subscribe, stripe, frozen):
    it = billed("pro")
    second = subscribe(it.customer, "starter")
    with frozen:
        answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["code"]) == (409, "several_live_subscriptions")
    assert {each["id"] for each in answer.json["subscriptions"]} == {it.subscription, second}
    assert status_at_stripe(stripe, it) == "active"


def test_the_named_one_of_two_is_cancelled_and_the_row_decided_anew(client, admin, billed, subscribe, sandbox, stripe):
    it = billed("starter")
    sandbox.advance(60)
    second = subscribe(it.customer, "business")
    answer = cancel(client, admin, it.org_id, stripeSubscriptionId=it.subscription)
    assert (answer.status_code, answer.json["stripeStatus"]) == (200, "canceled")
    assert (it.row.stripe_subscription_id, it.row.plan, it.plan) == (second, "business", "business")
    assert status_at_stripe(stripe, it) == "canceled"
    assert stripe.subscriptions.retrieve(second).status == "active"


def test_one_that_is_not_the_rows_can_be_cancelled(client, admin, billed, subscribe, sandbox, stripe):
    it = billed("starter")
    sandbox.advance(60)
    second = subscribe(it.customer, "business")
    answer = cancel(client, admin, it.org_id, stripeSubscriptionId=second)
    assert answer.status_code == 200
    assert stripe.subscriptions.retrieve(second).status == "canceled"
    assert (it.row.stripe_subscription_id, it.row.plan, it.row.candidates) == (it.subscription, "starter", [])


def test_a_lagging_list_does_not_bring_the_cancelled_one_back(client, admin, billed, sandbox):
    it = billed("pro")
    sandbox.arm("lag", seconds=30, times=None, method="GET", path=r"/v1/subscriptions$")
    answer = cancel(client, admin, it.org_id)
    assert answer.status_code == 200
    assert (it.row.status, it.row.plan, it.row.candidates) == ("canceled", "free", [])


def test_a_subscription_of_somebody_else_is_refused(client, admin, billed, stripe, frozen):
    it, other = billed(), billed()
    with frozen:
        answer = cancel(client, admin, it.org_id, stripeSubscriptionId=other.subscription)
    assert (answer.status_code, answer.json["code"]) == (409, "customer_shared")
    assert status_at_stripe(stripe, other) == "active"


def test_one_that_nothing_ties_to_the_organization_is_refused(client, admin, billed, stripe, subscribe, frozen):
    it = billed()
    loose = subscribe(stripe.customers.create({}).id)
    with frozen:
        answer = cancel(client, admin, it.org_id, stripeSubscriptionId=loose)
    assert (answer.status_code, answer.json["code"]) == (409, "organization_conflict")
    assert stripe.subscriptions.retrieve(loose).status == "active"


def test_one_managed_by_a_schedule_is_refused(client, admin, billed, stripe, frozen):
    it = billed()
    stripe.subscription_schedules.create({"from_subscription": it.subscription})
    with frozen:
        answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["code"]) == (409, "managed_by_schedule")
    assert answer.json["schedule"].startswith("sub_sched_")
    assert status_at_stripe(stripe, it) == "active"


def test_an_unpaid_one_is_cancelled_too(client, admin, billed, sandbox, stripe):
    it = billed()
    sandbox.patch(it.subscription, {"status": "unpaid"})
    answer = cancel(client, admin, it.org_id)
    assert (answer.status_code, answer.json["stripeStatus"]) == (200, "canceled")
    assert status_at_stripe(stripe, it) == "canceled"


@pytest.mark.parametrize("mode", ["now", "period_end"])
def test_a_dry_run_changes_nothing_anywhere(client, admin, billed, stripe, frozen, sandbox, mode):
    it = billed("pro")
    sandbox.clear_requests()
    with frozen:
        answer = cancel(client, admin, it.org_id, "?dryRun=true", mode=mode)
    assert (answer.status_code, answer.json["dryRun"], answer.json["verified"]) == (200, True, False)
    assert answer.json["updated"]["plan"] == ("free" if mode == "now" else "pro")
    assert {each["method"] for each in sandbox.call("GET", "/requests")["items"]} == {"GET"}
    assert len(AdminAction.objects) == 0
