"""GET /api/admin/billing/charges"""

import base64
import json

import pytest
from bson import ObjectId

from billing_service.documents import Candidate, Subscription

URL = "/api/admin/billing/charges"


def listed(client, headers, org_id, query=""):
    answer = client.get(f"{URL}?orgId={org_id}{query}", headers=headers)
    assert answer.status_code == 200, answer.json
    return answer.json


@pytest.fixture
def paying(billed, subscribe):
    """An organization with five paid charges, by as many subscriptions."""

    def make(count=5):
        it = billed("pro")
        for _ in range(count - 1):
            subscribe(it.customer)
        return it

    return make


def test_it_works(client, admin, paying, stripe, sandbox):
    it = paying(1)
    (paid,) = stripe.charges.list({"customer": it.customer}).data
    body = {"chargeId": paid.id, "amountCents": 900, "refundRequestId": "request-1"}
    refund = client.post("/api/admin/billing/refund", headers=admin, json=body).json["stripeRefundId"]
    sandbox.clear_requests()
    answer = listed(client, admin, it.org_id)
    assert len(sandbox.requests()["items"]) == 1
    (shown,) = answer["items"]
    assert (shown["id"], shown["amount"], shown["amountRefundable"], shown["currency"]) == (paid.id, 4900, 4000, "usd")
    assert (shown["customer"], shown["paymentIntent"], shown["disputes"]) == (it.customer, paid.payment_intent, [])
    (back,) = shown["refunds"]
    assert (back["id"], back["amount"], back["status"], back["refundRequestId"]) == (
        refund,
        900,
        "succeeded",
        "request-1",
    )
    assert (answer["nextCursor"], answer["total"], answer["limit"]) == (None, None, 20)


def test_disputes_of_the_newest_disputed_charge_cost_a_second_request(client, admin, paying, stripe, sandbox):
    it = paying(3)
    newest, older, _ = stripe.charges.list({"customer": it.customer}).data
    for charge in (older, newest):
        sandbox.dispute(charge.id, reason="fraudulent")
    sandbox.clear_requests()
    items = listed(client, admin, it.org_id)["items"]
    assert len(sandbox.requests()["items"]) == 2
    assert [each["reason"] for each in items[0]["disputes"]] == ["fraudulent"]
    assert (items[1]["disputed"], items[1]["disputes"], items[2]["disputes"]) == (True, None, [])
    alone = listed(client, admin, it.org_id, f"&limit=1&cursor={cursor_of(it, newest.id)}")["items"]
    assert len(alone[0]["disputes"]) == 1


def cursor_of(it, charge_id):
    return base64.urlsafe_b64encode(json.dumps([it.customer, charge_id]).encode()).decode()


def test_the_pages_show_each_charge_once_over_all_customers(client, admin, paying, stripe, subscribe):
    it = paying(5)
    customers = [stripe.customers.create({}).id for _ in range(2)]
    seen = [Candidate(stripe_subscription_id=subscribe(each), stripe_customer_id=each) for each in customers]
    Subscription.objects(organization=it.org_id).update_one(set__candidates=seen)
    found, cursor, pages = [], "", 0
    while True:
        answer = listed(client, admin, it.org_id, f"&limit=2{cursor}")
        found += [item["id"] for item in answer["items"]]
        pages += 1
        if not answer["nextCursor"]:
            break
        cursor = f"&cursor={answer['nextCursor']}"
    wanted = [
        each.id
        for customer in (it.customer, *customers)
        for each in stripe.charges.list({"customer": customer, "limit": 100}).data
    ]
    assert found == wanted
    assert (len(found), pages) == (7, 5)


def test_who_never_paid_has_none(client, admin, organization, sandbox):
    sandbox.clear_requests()
    assert listed(client, admin, organization())["items"] == []
    assert sandbox.requests()["items"] == []


def test_an_unknown_organization_is_404(client, admin, app):
    answer = client.get(f"{URL}?orgId={ObjectId()}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "organization_not_found")


def test_it_needs_a_token(client):
    assert client.get(f"{URL}?orgId={ObjectId()}").status_code == 401


def test_it_needs_the_permission(client, token, paying):
    it = paying(1)
    assert client.get(f"{URL}?orgId={it.org_id}", headers=token("service")).status_code == 403
    assert client.get(f"{URL}?orgId={it.org_id}", headers=token("support")).status_code == 200


@pytest.mark.parametrize("query", ["", "orgId=1", "orgId={}&limit=0", "orgId={}&limit=101", "orgId={}&state=x"])
def test_it_rejects_bad_input(client, admin, paying, query):
    answer = client.get(f"{URL}?{query.format(paying(1).org_id)}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_a_cursor_of_anothers_customer_is_refused(client, admin, paying, sandbox):
    it, other = paying(1), paying(1)
    sandbox.clear_requests()
    forged = [cursor_of(other, None), cursor_of(it, 5), "forged", "W10=", "bnVsbA==", "%00"]
    for cursor in forged:
        answer = client.get(f"{URL}?orgId={it.org_id}&cursor={cursor}", headers=admin)
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert sandbox.requests()["items"] == []


def test_it_reports_stripe_down(client, admin, paying, sandbox):
    it = paying(1)
    sandbox.arm("drop", times=None)
    answer = client.get(f"{URL}?orgId={it.org_id}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (502, "stripe_unavailable")
