"""GET /api/admin/billing/search"""

from datetime import UTC, datetime

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.documents import Candidate, Organization, Subscription
from billing_service.search import find_prefixed

URL = "/api/admin/billing/search"


def find(client, headers, q):
    answer = client.get(URL, query_string={"q": q}, headers=headers)
    assert answer.status_code == 200, answer.json
    return answer.json


def ids(answer):
    return [item["orgId"] for item in answer["items"]]


def test_it_works(client, admin, billed):
    it = billed("pro")
    Organization.objects(id=it.org_id).update_one(set__name="Acme Tools", set__slug="acme-tools")
    answer = find(client, admin, "acme")
    assert (answer["isCapped"], answer["trouble"], answer["eventId"], answer["strangers"]) == (False, None, None, [])
    [hit] = answer["items"]
    assert hit == {
        "orgId": str(it.org_id),
        "name": "Acme Tools",
        "slug": "acme-tools",
        "plan": "pro",
        "status": "active",
        "stripeCustomerId": it.customer,
        "stripeSubscriptionId": it.subscription,
        "matched": "slug",
        "value": "acme-tools",
    }


def test_every_id_finds_its_organization(client, admin, billed, recorded, sandbox, stripe):
    it, _ = billed("pro"), billed("pro")
    [charge] = stripe.charges.list({"customer": it.customer}).data
    [invoice] = stripe.invoices.list({"customer": it.customer}).data
    refund = stripe.refunds.create({"charge": charge.id, "amount": 100})
    dispute = sandbox.dispute(charge.id)
    recorded(event_id="evt_searched", organization=it.org_id)
    wanted = {
        str(it.org_id).upper(): "organization",
        it.customer: "customer",
        it.subscription: "subscription",
        charge.id: "charge",
        charge.payment_intent: "payment",
        invoice.id: "invoice",
        refund.id: "refund",
        dispute["id"]: "dispute",
        "evt_searched": "event",
        f"{it.org_id}@example.com": "e-mail",
    }
    for q, matched in wanted.items():
        answer = find(client, admin, q)
        assert (ids(answer), answer["items"][0]["matched"]) == ([str(it.org_id)], matched), q


def test_a_candidate_is_found_too(client, admin, billed):
    it = billed("pro")
    Subscription.objects(organization=it.org_id).update_one(
        set__candidates=[Candidate(stripe_subscription_id="sub_other", stripe_customer_id="cus_other")]
    )
    assert ids(find(client, admin, "sub_other")) == ids(find(client, admin, "cus_other")) == [str(it.org_id)]


def test_an_address_of_several_customers_finds_them_all(client, admin, billed, stripe):
    its = [billed("pro") for _ in range(3)]
    for it in its:
        stripe.customers.update(it.customer, {"email": "shared@example.com"})
    answer = find(client, admin, "shared@example.com")
    assert sorted(ids(answer)) == sorted(str(it.org_id) for it in its)
    assert {item["value"] for item in answer["items"]} == {it.customer for it in its}
    assert "shared@example.com" not in str(answer)


def test_a_customer_of_nobody_is_named_all_the_same(client, admin, billed, stripe):
    it = billed("pro")
    known = stripe.customers.update(it.customer, {"email": "jenny@example.com"}).id
    stranger = stripe.customers.create({"email": "jenny@example.com"}).id
    answer = find(client, admin, "jenny@example.com")
    assert (ids(answer), answer["items"][0]["value"], answer["strangers"]) == ([str(it.org_id)], known, [stranger])
    Subscription.objects(organization=it.org_id).update_one(
        set__candidates=[Candidate(stripe_subscription_id="sub_other", stripe_customer_id=stranger)]
    )
    answer = find(client, admin, "jenny@example.com")
    assert (ids(answer), answer["strangers"]) == ([str(it.org_id)], [])
    paid = billed("pro", stored=False)
    Subscription.objects(organization=paid.org_id).delete()
    [charge] = stripe.charges.list({"customer": paid.customer}).data
    answer = find(client, admin, charge.id)
    assert (answer["items"], answer["strangers"]) == ([], [paid.customer])


def test_an_address_is_found_however_it_is_typed(client, admin, billed, stripe):
    it, other = billed("pro"), billed("pro")
    stripe.customers.update(it.customer, {"email": "jenny@example.com"})
    stripe.customers.update(other.customer, {"email": "Jenny@Example.com"})
    assert sorted(ids(find(client, admin, "Jenny@Example.com"))) == sorted([str(it.org_id), str(other.org_id)])
    assert ids(find(client, admin, "JENNY@example.com")) == [str(it.org_id)]


def test_it_costs_two_requests_at_most(client, admin, billed, sandbox, stripe):
    it = billed("pro")
    [charge] = stripe.charges.list({"customer": it.customer}).data
    refund = stripe.refunds.create({"charge": charge.id, "amount": 100}).id
    costs = {
        it.customer: 0,
        it.subscription: 0,
        "acme": 0,
        charge.id: 1,
        charge.payment_intent: 1,
        "a@example.com": 1,
        "A@example.com": 2,
        refund: 2,
        sandbox.dispute(charge.id)["id"]: 2,
    }
    for q, requests in costs.items():
        sandbox.clear_requests()
        find(client, admin, q)
        assert sandbox.requests()["count"] == requests, q


def test_a_refund_of_ours_is_known_without_stripe(client, admin, billed, sandbox, stripe):
    it = billed("pro")
    [charge] = stripe.charges.list({"customer": it.customer}).data
    body = {"chargeId": charge.id, "amountCents": 100, "refundRequestId": "searched-1"}
    refund = client.post("/api/admin/billing/refund", headers=admin, json=body).json["stripeRefundId"]
    sandbox.clear_requests()
    assert ids(find(client, admin, refund)) == [str(it.org_id)]
    assert sandbox.requests()["count"] == 0


def test_names_are_searched_by_how_they_begin(client, admin, organization):
    names = ["Ärger GmbH", "acme", "ACME Two", "Acme_Three", "The Acme"]
    made = {name: str(organization(name=name, slug=name.lower().replace(" ", "-"))) for name in names}
    found = find(client, admin, "aCmE")
    assert sorted(ids(found)) == sorted(made[name] for name in ("acme", "ACME Two", "Acme_Three"))
    assert ids(find(client, admin, "ärg")) == [made["Ärger GmbH"]]
    assert ids(find(client, admin, "arg")) == [made["Ärger GmbH"]]
    assert ids(find(client, admin, "acme t")) == [made["ACME Two"]]


@pytest.mark.parametrize("q", [".*", "^acme", "acme|b", '{"$ne": null}', "$where", "a\\", "acme%", "(acme", "[a-z]+"])
def test_it_takes_no_pattern_and_no_operator(client, admin, organization, q):
    organization(name="acme", slug="acme")
    assert ids(find(client, admin, q)) == []


def test_more_than_twenty_are_said_to_be_more(client, admin, organization):
    for number in range(23):
        organization(name=f"Same {number:02}", slug=f"same-{number:02}")
    answer = find(client, admin, "same")
    assert (len(answer["items"]), answer["isCapped"]) == (20, True)
    assert [item["slug"] for item in answer["items"]] == [f"same-{number:02}" for number in range(20)]


def test_an_organization_with_a_slug_and_a_name_alike_counts_once(client, admin, organization):
    for number in range(12):
        organization(name=f"same-{number:02}", slug=f"same-{number:02}")
    answer = find(client, admin, "same")
    assert (len(answer["items"]), answer["isCapped"]) == (12, False)


@pytest.mark.parametrize(
    "q",
    [
        "5" * 24,
        "cus_nobody",
        "sub_nobody",
        "ch_nobody",
        "pi_nobody",
        "evt_nobody",
        "in_nobody",
        "re_nobody",
        "dp_nobody",
        "zz",
        "x@y",
    ],
)
def test_nothing_is_an_answer(client, admin, q):
    answer = find(client, admin, q)
    assert (answer["items"], answer["trouble"]) == ([], None)


def test_an_event_of_nobody_is_named_all_the_same(client, admin, recorded):
    recorded(event_id="evt_orphan")
    answer = find(client, admin, "evt_orphan")
    assert (answer["items"], answer["eventId"]) == ([], "evt_orphan")


@pytest.mark.parametrize("name", ["sub-zero", "sub_zero", "in_house", "ab" * 12, "jenny@example.com"])
def test_a_name_may_look_like_an_id_or_an_address(client, admin, organization, name):
    org_id = organization(name=name, slug="another")
    assert ids(find(client, admin, name)) == [str(org_id)]


def test_it_reports_stripe_down(client, admin, billed, sandbox):
    it = billed("pro")
    sandbox.arm("drop", times=None)
    assert ids(find(client, admin, it.customer)) == [str(it.org_id)]
    Organization.objects(id=it.org_id).update_one(set__name="a@example.com")
    for q, known in {"a@example.com": [str(it.org_id)], "ch_1": [], "pi_1": [], "re_1": [], "in_1": []}.items():
        answer = find(client, admin, q)
        assert ids(answer) == known
        assert answer["trouble"]["code"] in ("stripe_unavailable", "stripe_circuit_open")


def test_the_address_is_in_no_log(client, admin, caplog):
    find(client, admin, "jenny.secret@example.com")
    assert "jenny" not in caplog.text


def test_it_needs_a_token(client):
    assert client.get(f"{URL}?q=acme").status_code == 401


def test_it_needs_the_permission(client, token):
    assert client.get(f"{URL}?q=acme", headers=token("service")).status_code == 403
    assert client.get(f"{URL}?q=acme", headers=token("auditor")).status_code == 200


@pytest.mark.parametrize(
    "query",
    ["", "q=", "q=a", "q=%20%20%20", "q=%20a%20", f"q={'a' * 201}", "q=a%00b", "q=acme&q=other", "q=acme&limit=3"],
)
def test_it_rejects_bad_input(client, admin, query):
    answer = client.get(f"{URL}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"]


def test_it_reads_by_index(app):
    made = [
        {"_id": ObjectId(), "name": f"Name {n % 97:02} {n}", "slug": f"s{n:05}", "created_at": datetime.now(UTC)}
        for n in range(6_000)
    ]
    Organization._get_collection().insert_many(made)
    database = get_db()
    for name, text in (("slug", "S0001"), ("name", "name 07")):
        database.command("profile", 2)
        found = list(find_prefixed(name, text).limit(21))
        database.command("profile", 0)
        [seen] = database.system.profile.find({"ns": f"{database.name}.organizations"})
        database.system.profile.drop()
        assert len(found) in (10, 21)
        assert f"IXSCAN {{ {name}: 1 }}" in seen["planSummary"]
        assert seen["docsExamined"] == len(found)
        assert "hasSortStage" not in seen


def test_ids_of_stripe_are_found_by_index(app, client, admin):
    rows = [
        {
            "organization": ObjectId(),
            "stripe_customer_id": f"cus_{n}",
            "stripe_subscription_id": f"sub_{n}",
            "candidates": [{"stripe_subscription_id": f"sub_c{n}", "stripe_customer_id": f"cus_c{n}"}],
            "plan": "pro",
            "version": 1,
        }
        for n in range(5_000)
    ]
    Subscription._get_collection().insert_many(rows)
    database = get_db()
    for q in ("sub_77", "sub_c77", "cus_77", "cus_c77"):
        database.command("profile", 2)
        assert ids(find(client, admin, q)) == [str(rows[77]["organization"])]
        database.command("profile", 0)
        seen = list(database.system.profile.find({"ns": f"{database.name}.subscriptions"}))
        database.system.profile.drop()
        assert [each["docsExamined"] for each in seen] == [1, 1], q
        assert not [each for each in seen if "COLLSCAN" in each["planSummary"]]
