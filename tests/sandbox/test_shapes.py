"""Every object has the keys of the SDK's classes and validates against Stripe's OpenAPI document."""

import pytest
import stripe as sdk

from billing_service.sandbox.stripe.resources import ROUTES
from tests.sandbox import openapi
from tests.sandbox.conftest import connect

CLASSES = {
    "account": sdk.Account,
    "charge": sdk.Charge,
    "customer": sdk.Customer,
    "event": sdk.Event,
    "invoice": sdk.Invoice,
    "invoice_payment": sdk.InvoicePayment,
    "line_item": sdk.InvoiceLineItem,
    "payment_intent": sdk.PaymentIntent,
    "plan": sdk.Plan,
    "price": sdk.Price,
    "product": sdk.Product,
    "subscription": sdk.Subscription,
    "subscription_item": sdk.SubscriptionItem,
    "subscription_schedule": sdk.SubscriptionSchedule,
    "webhook_endpoint": sdk.WebhookEndpoint,
}
# Keys which Stripe leaves out unless they are asked for or apply.
OPTIONAL = {
    "account": {"company", "deleted", "groups", "individual"},
    "charge": {"authorization_code", "level3", "refunds", "presentment_details", "transfer"},
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
    "event": {"account", "context", "reason"},
    "invoice": {"confirmation_secret", "deleted", "payments", "status_details", "threshold_reason"},
    "payment_intent": {"allowed_payment_method_types", "hooks", "payment_record", "presentment_details"},
    "plan": {"deleted", "tiers"},
    "price": {"currency_options", "deleted", "tiers"},
    "product": {"deleted", "tax_details"},
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
    answers = {}
    for route in sorted(ROUTES, key=lambda route: route.template.count("{")):
        if route.method != "GET" or "{" in route.template:
            continue
        params = {"subscription": subscription.id} if route.template == "/v1/subscription_items" else {}
        answers[route.template] = answer = http("GET", route.template, params).json()
        for one in answer.get("data", [])[:5]:
            path = f"{route.template}/{one['id']}"
            answers[path] = http("GET", path).json()
    answers[f"/v1/customers/{declined.customer}"] = http("GET", f"/v1/customers/{declined.customer}").json()
    return answers


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
    endpoint = checked("POST", "/v1/webhook_endpoints", {"url": "http://a.example/", "enabled_events[]": "*"})
    assert endpoint["secret"]
    checked("DELETE", f"/v1/webhook_endpoints/{endpoint['id']}")


def test_seeded_objects_validate(http, control):
    control.seed(200, ["price_a"], statuses={"active": 1, "trialing": 1, "canceled": 1})
    for path in ("/v1/subscriptions", "/v1/customers"):
        page = http("GET", path, {"limit": 100, **({"status": "all"} if "sub" in path else {})}).json()
        assert openapi.answer_problems("GET", path, 200, page) == []


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


def test_it_answers_old_clients(process, http, subscribe):
    subscribe()
    old = connect(process.url, stripe_version="2024-06-20").v1
    for list_of in (old.subscriptions, old.invoices, old.charges, old.payment_intents, old.events):
        assert list_of.list().data
