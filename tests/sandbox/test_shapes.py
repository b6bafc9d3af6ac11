"""Every object has the keys of the SDK's classes and validates against Stripe's OpenAPI document."""

import pytest
import stripe as sdk

from billing_service.sandbox.stripe.resources import ROUTES
from tests.sandbox import openapi
from tests.sandbox.conftest import connect

CLASSES = {
    "account": sdk.Account,
    "balance_transaction": sdk.BalanceTransaction,
    "charge": sdk.Charge,
    "checkout.session": sdk.checkout.Session,
    "customer": sdk.Customer,
    "dispute": sdk.Dispute,
    "event": sdk.Event,
    "invoice": sdk.Invoice,
    "invoice_payment": sdk.InvoicePayment,
    "item": sdk.LineItem,
    "line_item": sdk.InvoiceLineItem,
    "payment_intent": sdk.PaymentIntent,
    "plan": sdk.Plan,
    "price": sdk.Price,
    "product": sdk.Product,
    "refund": sdk.Refund,
    "subscription": sdk.Subscription,
    "subscription_item": sdk.SubscriptionItem,
    "subscription_schedule": sdk.SubscriptionSchedule,
    "webhook_endpoint": sdk.WebhookEndpoint,
}
# Keys which Stripe leaves out unless they are asked for or apply.
OPTIONAL = {
    "account": {"company", "deleted", "groups", "individual"},
    "charge": {"authorization_code", "level3", "refunds", "presentment_details", "transfer"},
    "checkout.session": {
        "allowed_payment_method_types",
        "branding_settings",
        "excluded_payment_method_types",
        "line_items",
        "name_collection",
        "optional_items",
        "presentment_details",
        "redirect_on_completion",
        "return_url",
        "tax_id_collection",
    },
    "customer": {
        "business_name",
        "individual_name",
        "cash_balance",
        "deleted",
        "invoice_credit_balance",
        "sources",
        "subscriptions",
        "tax",
        "tax_ids",
    },
    "dispute": {"intended_submission_method", "network_reason_code"},
    "event": {"account", "context", "reason"},
    "invoice": {"confirmation_secret", "deleted", "payments", "status_details", "threshold_reason"},
    "item": {"discounts", "taxes"},
    "payment_intent": {"allowed_payment_method_types", "hooks", "payment_record", "presentment_details"},
    "plan": {"deleted", "tiers"},
    "price": {"currency_options", "deleted", "tiers"},
    "product": {"deleted", "tax_details"},
    "refund": {
        "description",
        "failure_balance_transaction",
        "failure_reason",
        "instructions_email",
        "next_action",
        "pending_reason",
        "presentment_details",
    },
    "subscription": {"presentment_details", "status_details"},
    "subscription_item": {"billed_until", "deleted"},
    "webhook_endpoint": {"deleted", "secret"},
}


def objects_in(node):
    if isinstance(node, dict):
        if isinstance(node.get("object"), str) and node["object"] in CLASSES and not node.get("deleted"):
            yield node
        for value in node.values():
            yield from objects_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects_in(value)


@pytest.fixture
def everything(http, stripe, subscribe, control, price):
    """An answer of every GET endpoint, after a life with all kinds of events."""
    stripe.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["charge.failed"]})
    subscription = subscribe(trial_period_days=1)
    stripe.subscription_schedules.create({"from_subscription": subscribe().id})
    declined = subscribe(control, "decline")
    control.advance(40 * 86400)
    stripe.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    stripe.customers.delete(declined.customer)
    buyers_and_banks(stripe, control, price)
    answers = {}
    for route in sorted(ROUTES, key=lambda route: route.template.count("{")):
        if route.method != "GET" or "{" in route.template:
            continue
        params = {"subscription": subscription.id} if route.template == "/v1/subscription_items" else {}
        answers[route.template] = answer = http("GET", route.template, params).json()
        for one in answer.get("data", [])[:5]:
            path = f"{route.template}/{one['id']}"
            answers[path] = http("GET", path).json()
        if route.template == "/v1/checkout/sessions":
            answers[f"{path}/line_items"] = http("GET", f"{path}/line_items").json()
    answers[f"/v1/customers/{declined.customer}"] = http("GET", f"/v1/customers/{declined.customer}").json()
    return answers


def buyers_and_banks(stripe, control, price):
    """Checkout in every status, refunds and disputes with every ending."""
    once = stripe.prices.create({"product": price.product, "currency": "usd", "unit_amount": 500})

    def session(mode, wanted):
        lines = [{"price": wanted.id, "quantity": 1}]
        return stripe.checkout.sessions.create({"mode": mode, "success_url": "https://a.example/", "line_items": lines})

    stripe.checkout.sessions.expire(session("payment", once).id)
    session("payment", once)
    control.complete_checkout(session("payment", once).id, "unpaid")
    control.complete_checkout(session("subscription", price).id)
    intents = [control.complete_checkout(session("payment", once).id)["payment_intent"] for _ in range(4)]
    won, inquired, refunded, failed = (stripe.payment_intents.retrieve(one).latest_charge for one in intents)
    control.close_dispute(control.dispute(won)["id"], "won")
    control.dispute(inquired, inquiry=True)
    stripe.refunds.create({"charge": refunded, "amount": 100})
    control.settle_refund(stripe.refunds.create({"charge": failed}).id, "fail")
    control.pend_refunds()
    stripe.refunds.create({"charge": refunded, "amount": 100})


def test_keys_are_those_of_the_sdk(everything):
    seen = set()
    for one in objects_in(everything):
        kind = one["object"]
        seen.add(kind)
        known = set(CLASSES[kind].__annotations__) - {"OBJECT_NAME"}
        extra, absent = set(one) - known, known - set(one) - OPTIONAL.get(kind, set())
        assert (extra - SERVED_TOO.get(kind, set()), absent) == (set(), set()), f"{kind} {one['id']}"
    assert seen == set(CLASSES)


# Stripe serves these although its SDK has no annotation for them (they are in its sample objects).
SERVED_TOO = {"payment_intent": {"source"}}


def test_answers_validate(everything):
    problems = {}
    for path, answer in everything.items():
        assert "error" not in answer, (path, answer)
        found = openapi.answer_problems("GET", path, 200, answer)
        if found:
            problems[path] = found
    assert problems == {}


def test_answers_of_writes_validate(http, price):
    def checked(method, path, data=None):
        answer = http(method, path, data).json()
        assert openapi.answer_problems(method, path, 200, answer) == []
        return answer

    customer = checked("POST", "/v1/customers", {"email": "a@example.com", "address[city]": "Berlin"})
    wanted = {"customer": customer["id"], "items[0][price]": price.id, "cancel_at_period_end": "true"}
    subscription = checked("POST", "/v1/subscriptions", wanted)
    checked("POST", f"/v1/subscriptions/{subscription['id']}", {"pause_collection[behavior]": "void"})
    checked("DELETE", f"/v1/subscriptions/{subscription['id']}", {"prorate": "false"})
    checked("DELETE", f"/v1/customers/{customer['id']}")
    once = {"currency": "usd", "unit_amount": "500", "product": price.product}
    lines = {"line_items[0][price]": checked("POST", "/v1/prices", once)["id"], "line_items[0][quantity]": "1"}
    session = checked("POST", "/v1/checkout/sessions", lines | {"mode": "payment", "success_url": "https://a.example/"})
    checked("POST", f"/v1/checkout/sessions/{session['id']}/expire")
    charge = http("GET", "/v1/charges").json()["data"][0]["id"]
    refund = checked("POST", "/v1/refunds", {"charge": charge, "amount": "5"})
    checked("POST", f"/v1/refunds/{refund['id']}", {"metadata[a]": "1"})
    endpoint = checked("POST", "/v1/webhook_endpoints", {"url": "http://a.example/", "enabled_events[]": "*"})
    assert endpoint["secret"]
    checked("DELETE", f"/v1/webhook_endpoints/{endpoint['id']}")


def test_seeded_objects_validate(http, control):
    control.seed(200, ["price_a"], statuses={"active": 1, "trialing": 1, "canceled": 1})
    for path in ("/v1/subscriptions", "/v1/customers"):
        page = http("GET", path, {"limit": 100, **({"status": "all"} if "sub" in path else {})}).json()
        assert openapi.answer_problems("GET", path, 200, page) == []


def test_lists_with_their_customers_validate(http, control, stripe, subscribe):
    """What an import reads: deleted customers, too."""
    control.seed(20, ["price_a"])
    stripe.customers.delete(subscribe().customer)
    page = http("GET", "/v1/subscriptions", {"limit": 100, "status": "all", "expand[]": "data.customer"}).json()
    assert len(page["data"]) == 21
    assert all(one["customer"]["object"] == "customer" for one in page["data"])
    assert [one["status"] for one in page["data"] if one["customer"].get("deleted")] == ["canceled"]
    assert openapi.answer_problems("GET", "/v1/subscriptions", 200, page) == []


def test_every_request_was_one_that_stripe_knows(everything, control):
    entries = control.requests(limit=1000)["items"]
    assert entries
    assert [problem for entry in entries for problem in openapi.logged_request_problems(entry)] == []


def test_requests_are_checked_for_real():
    assert openapi.request_problems("GET", "/v1/subscriptions", {"limit": 100, "created": {"gte": 1}}) == []
    assert openapi.request_problems("GET", "/v1/subscriptions", {"limits": 100})
    assert openapi.request_problems("GET", "/v1/subscriptions", {"limit": "many"})
    assert openapi.request_problems("POST", "/v1/products", {})
    assert openapi.request_problems("GET", "/v1/nothing", {})


def test_the_shipped_parameters_are_the_documents():
    assert openapi.SHIPPED.read_bytes() == openapi.extract(), "run python -m tests.sandbox.openapi"


def test_it_answers_old_clients(process, http, stripe, control, subscribe, price):
    subscribe()
    buyers_and_banks(stripe, control, price)
    old = connect(process.url, stripe_version="2024-06-20").v1
    for list_of in (old.subscriptions, old.invoices, old.charges, old.payment_intents, old.events):
        assert list_of.list().data
    for list_of in (old.refunds, old.disputes, old.checkout.sessions):
        assert list_of.list().data
    assert {one.ui_mode for one in old.checkout.sessions.list().data} == {"hosted"}
