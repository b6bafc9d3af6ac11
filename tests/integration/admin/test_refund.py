"""POST /api/admin/billing/refund"""

import pytest

from billing_service.documents import AdminAction, AdminOperation, Candidate, RefundRequest, Subscription

URL = "/api/admin/billing/refund"


@pytest.fixture
def charge(billed, stripe):
    """Makes an organization with a paid charge of 4900; returns both."""

    def make(plan="pro"):
        it = billed(plan)
        return it, stripe.charges.list({"customer": it.customer}).data[0]

    return make


def refund(client, headers, charge_id, number=1, query="", **body):
    body = {"chargeId": charge_id, "refundRequestId": f"request-{number}"} | body
    return client.post(URL + query, headers=headers, json=body)


def refunds_at(stripe, charge):
    return stripe.refunds.list({"charge": charge.id}).data


def sent(sandbox):
    return sandbox.requests(method="POST", path="/v1/refunds$")["items"]


def test_it_works(client, admin, charge, stripe, sandbox):
    it, paid = charge()
    answer = refund(client, admin, paid.id, amountCents=1200, reason="duplicate", note="charged twice")
    assert answer.status_code == 200
    (made,) = refunds_at(stripe, paid)
    assert {name: answer.json[name] for name in ("refundRequestId", "orgId", "state", "chargeId", "amount")} == {
        "refundRequestId": "request-1",
        "orgId": str(it.org_id),
        "state": "succeeded",
        "chargeId": paid.id,
        "amount": 1200,
    }
    assert (answer.json["stripeRefundId"], answer.json["stripeStatus"]) == (made.id, "succeeded")
    assert (made.amount, made.reason, made.metadata["refundRequestId"]) == (1200, "duplicate", "request-1")
    request = RefundRequest.objects.get()
    assert (request.state, request.stripe_refund_id, request.next_check_at) == ("succeeded", made.id, None)
    assert (request.organization, request.actor, request.note) == (it.org_id, "ada@example.com", "charged twice")


def test_who_why_and_how_much_is_in_the_audit(client, admin, charge, stripe):
    it, paid = charge()
    answer = refund(client, admin, paid.id, reason="fraudulent", note="stolen card")
    intent, outcome = AdminAction.objects.order_by("id")
    for row in (intent, outcome):
        assert (row.actor, row.action, row.target, row.note) == (
            "ada@example.com",
            "refund",
            "request-1",
            "stolen card",
        )
        assert row.organization == it.org_id
        assert (row.parameters["charge"], row.parameters["amount"], row.parameters["currency"]) == (
            paid.id,
            4900,
            "usd",
        )
    assert (intent.phase, intent.outcome, outcome.phase, outcome.outcome) == (
        "intent",
        "pending",
        "outcome",
        "succeeded",
    )
    assert outcome.parameters["stripe_refund_id"] == answer.json["stripeRefundId"]
    assert AdminOperation.objects.get().state == "done"


def test_it_is_stored_before_stripe_is_asked(client, admin, charge, sandbox):
    _, paid = charge()
    sandbox.arm("drop", method="POST", path="/v1/refunds$", times=None)
    assert refund(client, admin, paid.id).status_code == 202
    assert RefundRequest.objects.get().state == "unknown"


def test_key_and_metadata_carry_the_id(client, admin, charge, sandbox):
    it, paid = charge()
    refund(client, admin, paid.id, amountCents=100)
    (asked,) = sent(sandbox)
    assert asked["params"] == {
        "charge": paid.id,
        "amount": "100",
        "metadata": {"refundRequestId": "request-1", "organizationId": str(it.org_id)},
    }
    assert sandbox.requests(method="POST", path="/v1/refunds$")["items"][0]["idempotency_key"] == (
        "refund_admin_request-1"
    )


def test_without_an_amount_all_that_is_left_is_refunded(client, admin, charge, stripe):
    _, paid = charge()
    refund(client, admin, paid.id, 1, amountCents=900)
    answer = refund(client, admin, paid.id, 2)
    assert (answer.status_code, answer.json["amount"]) == (200, 4000)
    assert stripe.charges.retrieve(paid.id).refunded is True


def test_a_payment_intent_is_resolved_to_its_charge(client, admin, charge, stripe):
    _, paid = charge()
    answer = refund(client, admin, paid.payment_intent, amountCents=100)
    assert (answer.status_code, answer.json["chargeId"]) == (200, paid.id)
    assert [each.amount for each in refunds_at(stripe, paid)] == [100]


def test_of_several_attempts_at_a_payment_the_paid_one_is_refunded(client, admin, charge, stripe, sandbox):
    it, _ = charge()
    sandbox.payment(it.customer, "decline")
    sandbox.advance(32 * 86_400)
    sandbox.payment(it.customer, "succeed")
    stripe.invoices.pay(stripe.invoices.list({"customer": it.customer, "status": "open"}).data[0].id)
    intent = stripe.charges.list({"customer": it.customer}).data[0].payment_intent
    attempts = stripe.charges.list({"payment_intent": intent}).data
    assert {each.status for each in attempts} == {"failed", "succeeded"}
    answer = refund(client, admin, intent)
    assert (answer.status_code, answer.json["chargeId"]) == (
        200,
        next(each.id for each in attempts if each.status == "succeeded"),
    )


def test_a_payment_intent_without_a_charge_is_unknown(client, admin, app, frozen):
    with frozen:
        answer = refund(client, admin, "pi_without")
    assert (answer.status_code, answer.json["code"]) == (422, "charge_unknown")


def test_a_charge_that_stripe_does_not_know_is_told(client, admin, app, frozen):
    for charge_id in ("ch_nobody", "py_nobody"):
        with frozen:
            answer = refund(client, admin, charge_id)
        assert (answer.status_code, answer.json["code"]) == (422, "stripe_missing")


def test_a_candidates_charge_belongs_to_its_organization(client, admin, billed, subscribe, stripe):
    it = billed()
    customer = stripe.customers.create({}).id
    second = subscribe(customer)
    seen = [Candidate(stripe_subscription_id=second, stripe_customer_id=customer)]
    Subscription.objects(organization=it.org_id).update_one(set__candidates=seen)
    paid = stripe.charges.list({"customer": customer}).data[0]
    answer = refund(client, admin, paid.id)
    assert (answer.status_code, answer.json["orgId"]) == (200, str(it.org_id))


@pytest.mark.parametrize("kind", ["ch", "pi"])
def test_a_charge_of_no_organization_is_unknown(client, admin, stripe, subscribe, app, frozen, kind):
    customer = stripe.customers.create({}).id
    subscribe(customer)
    paid = stripe.charges.list({"customer": customer}).data[0]
    with frozen:
        answer = refund(client, admin, paid.id if kind == "ch" else paid.payment_intent)
    assert (answer.status_code, answer.json["code"]) == (422, "charge_unknown")
    assert customer in answer.json["detail"]
    assert refunds_at(stripe, paid) == []
    assert [row.outcome for row in AdminAction.objects.order_by("id")] == ["pending", "failed"]


def test_a_charge_without_a_customer_is_unknown(client, admin, charge, sandbox, stripe):
    _, paid = charge()
    sandbox.patch(paid.id, {"customer": None})
    answer = refund(client, admin, paid.id)
    assert (answer.status_code, answer.json["code"]) == (422, "charge_unknown")


def test_a_customer_of_two_candidates_is_not_guessed(client, admin, billed, subscribe, stripe):
    customer = stripe.customers.create({}).id
    seen = [Candidate(stripe_subscription_id=subscribe(customer), stripe_customer_id=customer)]
    for _ in range(2):
        Subscription.objects(organization=billed().org_id).update_one(set__candidates=seen)
    paid = stripe.charges.list({"customer": customer}).data[0]
    answer = refund(client, admin, paid.id)
    assert (answer.status_code, answer.json["code"]) == (409, "customer_shared")
    assert refunds_at(stripe, paid) == []


def test_more_than_is_left_is_refused_with_stripes_reason(client, admin, charge, stripe):
    _, paid = charge()
    refund(client, admin, paid.id, 1, amountCents=4000)
    answer = refund(client, admin, paid.id, 2, amountCents=901)
    assert (answer.status_code, answer.json["code"]) == (422, "stripe_rejected")
    assert "$9.01" in answer.json["detail"]
    assert answer.json["param"] == "amount"
    assert RefundRequest.objects.get(refund_request_id="request-2").state == "rejected"
    assert [each.amount for each in refunds_at(stripe, paid)] == [4000]


@pytest.mark.parametrize("amount", [{}, {"amountCents": 1}])
def test_what_is_refunded_already_is_refused_with_stripes_reason(client, admin, charge, stripe, amount):
    _, paid = charge()
    refund(client, admin, paid.id)
    answer = refund(client, admin, paid.id, 2, **amount)
    assert (answer.status_code, answer.json["code"]) == (422, "stripe_rejected")
    assert answer.json["stripeCode"] == "charge_already_refunded"
    assert "has already been refunded" in answer.json["detail"]
    assert len(refunds_at(stripe, paid)) == 1


def test_a_charge_under_dispute_is_refused_with_stripes_reason(client, admin, charge, sandbox):
    _, paid = charge()
    sandbox.dispute(paid.id)
    answer = refund(client, admin, paid.id)
    assert (answer.status_code, answer.json["stripeCode"]) == (422, "charge_disputed")


def test_twice_is_once(client, admin, charge, stripe, sandbox):
    _, paid = charge()
    first = refund(client, admin, paid.id, amountCents=500, note="one")
    again = refund(client, admin, paid.id, amountCents=500, note="another note is the same refund")
    assert (again.status_code, again.json["changed"]) == (200, [])
    assert again.json["stripeRefundId"] == first.json["stripeRefundId"]
    assert len(sent(sandbox)) == len(refunds_at(stripe, paid)) == 1
    assert [row.outcome for row in AdminAction.objects(phase="outcome")] == ["succeeded", "succeeded"]


def test_the_same_idempotency_key_is_the_same_answer(client, admin, charge, stripe):
    _, paid = charge()
    headers = admin | {"Idempotency-Key": "refund-1"}
    first, again = (refund(client, headers, paid.id, amountCents=500) for _ in range(2))
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json == again.json
    assert len(refunds_at(stripe, paid)) == len(AdminOperation.objects) == 1


@pytest.mark.parametrize(
    "other", [{"amountCents": 501}, {"reason": "duplicate"}, {"amountCents": None}, {"chargeId": 0}]
)
def test_the_same_id_with_another_body_is_a_conflict(client, admin, charge, stripe, other):
    _, paid = charge()
    refund(client, admin, paid.id, amountCents=500)
    body = {"amountCents": 500} | other
    if other == {"amountCents": None}:
        body = {}
    if other == {"chargeId": 0}:
        body = {"amountCents": 500, "chargeId": paid.payment_intent}
    answer = refund(client, admin, body.pop("chargeId", paid.id), **body)
    assert (answer.status_code, answer.json["code"]) == (409, "refund_request_mismatch")
    assert [each.amount for each in refunds_at(stripe, paid)] == [500]


def test_another_actor_with_the_same_id_gets_the_same_refund(client, token, charge, stripe):
    _, paid = charge()
    first = refund(client, token("admin", actor="ada"), paid.id)
    again = refund(client, token("billing-ops", actor="bob"), paid.id)
    assert again.json["stripeRefundId"] == first.json["stripeRefundId"]
    assert again.json["actor"] == "ada"
    assert len(refunds_at(stripe, paid)) == 1


def test_two_equal_partials_with_two_ids_are_two_refunds(client, admin, charge, stripe):
    _, paid = charge()
    answers = [refund(client, admin, paid.id, number, amountCents=700) for number in (1, 2)]
    assert [each.status_code for each in answers] == [200, 200]
    assert len({each.json["stripeRefundId"] for each in answers}) == 2
    assert [each.amount for each in refunds_at(stripe, paid)] == [700, 700]


def test_it_needs_a_token(client, charge, frozen):
    _, paid = charge()
    with frozen:
        assert refund(client, {}, paid.id).status_code == 401


def test_it_needs_the_permission(client, token, charge, stripe, frozen):
    _, paid = charge()
    for role in ("support", "auditor", "service"):
        with frozen:
            answer = refund(client, token(role), paid.id)
        assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert refunds_at(stripe, paid) == []


@pytest.mark.parametrize(
    "body",
    [
        {"chargeId": "re_1"},
        {"chargeId": "ch_"},
        {"chargeId": {"$gt": ""}},
        {"chargeId": None},
        {"amountCents": 0},
        {"amountCents": -1},
        {"amountCents": 1.5},
        {"amountCents": True},
        {"amountCents": 10**13},
        {"amountCents": {"$gt": 0}},
        {"reason": "regret"},
        {"refundRequestId": "short"},
        {"refundRequestId": "x" * 129},
        {"refundRequestId": "with a space"},
        {"refundRequestId": "newline-at-the-end\n"},
        {"refundRequestId": "ümläute-"},
        {"refundRequestId": None},
        {"refundRequestId": ["request-1"]},
        {"dryRun": True},
        {"note": ""},
    ],
)
def test_it_rejects_bad_input(client, admin, charge, stripe, frozen, sandbox, body):
    _, paid = charge()
    sandbox.clear_requests()
    with frozen:
        answer = client.post(URL, headers=admin, json={"chargeId": paid.id, "refundRequestId": "request-1"} | body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert sandbox.requests()["items"] == []


def test_charge_and_id_are_required(client, admin, app):
    answer = client.post(URL, headers=admin, json={})
    assert set(answer.json["errors"]) == {"chargeId", "refundRequestId"}


def test_it_reports_stripe_down(client, admin, charge, sandbox, frozen):
    _, paid = charge()
    sandbox.arm("error", status=500, times=None)
    with frozen:
        answer = refund(client, admin, paid.id)
    assert (answer.status_code, answer.json["code"]) == (502, "stripe_unavailable")


def test_a_dry_run_tells_what_is_left_and_does_nothing(client, admin, charge, stripe, sandbox, frozen):
    it, paid = charge()
    sandbox.clear_requests()
    for asked, amount in (({"amountCents": 900}, 900), ({}, 4900)):
        with frozen:
            answer = refund(client, admin, paid.id, query="?dryRun=true", **asked)
        assert (answer.status_code, answer.json["dryRun"], answer.json["state"]) == (200, True, None)
        assert (answer.json["amount"], answer.json["amountLeft"]) == (amount, 4900 - amount)
        assert (answer.json["orgId"], answer.json["currency"], answer.json["disputed"]) == (
            str(it.org_id),
            "usd",
            False,
        )
    assert {each["method"] for each in sandbox.requests()["items"]} == {"GET"}
    assert refunds_at(stripe, paid) == []
    assert len(AdminAction.objects) == len(AdminOperation.objects) == 0


def test_a_dry_run_refuses_what_would_be_refused(client, admin, charge, stripe, frozen):
    _, paid = charge()
    refund(client, admin, paid.id, 1, amountCents=4000)
    for number, body, status, code in (
        (2, {"amountCents": 901}, 422, "stripe_rejected"),
        (1, {"amountCents": 1}, 409, "refund_request_mismatch"),
    ):
        with frozen:
            answer = refund(client, admin, paid.id, number, "?dryRun=true", **body)
        assert (answer.status_code, answer.json["code"]) == (status, code)
    refund(client, admin, paid.id, 3)
    assert refund(client, admin, paid.id, 4, "?dryRun=true").status_code == 422
    assert refund(client, admin, paid.id, 3, "?dryRun=true").json["state"] == "succeeded"


def test_a_note_can_be_required(client, admin, charge, app, stripe):
    from dataclasses import replace

    _, paid = charge()
    before = app.extensions["billing"]
    app.extensions["billing"] = replace(before, settings=replace(before.settings, require_note=True))
    try:
        assert refund(client, admin, paid.id).status_code == 422
        assert refund(client, admin, paid.id, note="why").status_code == 200
    finally:
        app.extensions["billing"] = before
    assert len(refunds_at(stripe, paid)) == 1


def test_the_customer_page_offers_a_refund_while_there_is_something_left(client, admin, token, charge):
    it, paid = charge()

    def offered(headers):
        seen = client.get(f"/api/admin/billing/customer/{it.org_id}", headers=headers).json["actions"]
        return next(each for each in seen if each["name"] == "refund")

    assert (offered(admin)["allowed"], offered(admin)["permission"]) == (True, "refund:create")
    assert "refund:create" in offered(token("support"))["reason"]
    refund(client, admin, paid.id)
    assert offered(admin) == {
        "name": "refund",
        "permission": "refund:create",
        "allowed": False,
        "reason": "nothing of the last payments is left to refund",
    }
