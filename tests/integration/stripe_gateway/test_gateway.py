"""Every call of the gateway against the sandbox: what it gives, and that it is a request Stripe knows."""

from datetime import UTC, datetime, timedelta

import pytest

from billing_service import errors
from tests.sandbox import openapi

PRICE = (
    "/prices",
    "currency=usd&unit_amount=1500&recurring[interval]=month&product_data[name]=Pro&metadata[planId]=pro",
)


@pytest.fixture
def price(sandbox):
    return sandbox.api("POST", *PRICE)["id"]


@pytest.fixture
def customer(sandbox):
    customer = sandbox.api("POST", "/customers", "email=ada@example.org&name=Ada&metadata[organizationId]=" + "a" * 24)
    sandbox.control("POST", f"/customers/{customer['id']}/payment", {"outcome": "succeed"})
    return customer["id"]


@pytest.fixture
def subscription(sandbox, customer, price):
    return sandbox.api("POST", "/subscriptions", f"customer={customer}&items[0][price]={price}")["id"]


@pytest.fixture
def charge(gateway, customer, subscription):
    """A paid charge of 1500 usd."""
    return gateway.charges_of(customer).value[0].id


@pytest.fixture
def checkout(sandbox):
    """A completed Checkout Session over 2 x 500 usd."""

    def make(outcome="paid", more=""):
        form = "currency=usd&unit_amount=500&product_data[name]=Pack"
        line = f"line_items[0][price]={sandbox.api('POST', '/prices', form)['id']}&line_items[0][quantity]=2"
        form = f"mode=payment&success_url=https://example.org/thanks&{line}{more}"
        session = sandbox.api("POST", "/checkout/sessions", form)["id"]
        return sandbox.control("POST", f"/checkout/sessions/{session}/complete", {"outcome": outcome})

    return make


def is_recent(as_of):
    return timedelta(0) <= datetime.now(UTC) - as_of < timedelta(seconds=5)


def test_the_account(gateway):
    read = gateway.account()
    assert read.value == "acct_sandbox"
    assert is_recent(read.as_of)
    assert read.request_id.startswith("req_")


def test_a_customer(gateway, sandbox, customer):
    live = gateway.customer(customer).value
    assert (live.id, live.email, live.name, live.deleted) == (customer, "ada@example.org", "Ada", False)
    assert live.metadata == {"organizationId": "a" * 24}
    sandbox.api("DELETE", f"/customers/{customer}")
    assert gateway.customer(customer).value.deleted is True


def test_a_subscription(gateway, customer, subscription, price):
    live = gateway.subscription(subscription).value
    assert (live.id, live.customer, live.status) == (subscription, customer, "active")
    (item,) = live.items
    assert (item.price_id, item.unit_amount, item.price_metadata) == (price, 1500, {"planId": "pro"})
    assert live.current_period_end > live.current_period_start >= live.created


RETRIEVES = ["customer", "subscription", "invoice", "event", "charge", "dispute", "checkout_session"]


@pytest.mark.parametrize("call", RETRIEVES)
def test_what_stripe_does_not_know_is_missing(gateway, call):
    with pytest.raises(errors.StripeMissing) as refused:
        getattr(gateway, call)("evt_nobody")
    assert refused.value.facts["stripeCode"] == "resource_missing"
    assert refused.value.facts["stripeRequestId"].startswith("req_")


@pytest.mark.parametrize("call", RETRIEVES)
@pytest.mark.parametrize("object_id", ["", "..", "a/b", "sub_1?expand[]=x", "sub_1\n", "ü", "x" * 300])
def test_what_is_no_id_is_not_sent(gateway, sandbox, call, object_id):
    sandbox.forget_requests()
    with pytest.raises(errors.StripeRejected):
        getattr(gateway, call)(object_id)
    assert sandbox.requests() == []


def test_all_subscriptions_of_a_customer(gateway, sandbox, customer, price, subscription):
    form = f"customer={customer}&items[0][price]={price}"
    newest = sandbox.api("POST", "/subscriptions", form)["id"]
    sandbox.api("DELETE", f"/subscriptions/{subscription}")
    found = gateway.subscriptions_of(customer).value
    assert [(live.id, live.status) for live in found] == [(newest, "active"), (subscription, "canceled")]
    with pytest.raises(errors.StripeMissing) as refused:
        gateway.subscriptions_of("cus_nobody")
    assert refused.value.facts["param"] == "customer"


def test_more_subscriptions_than_a_page(gateway, sandbox, customer, price):
    form = f"customer={customer}&items[0][price]={price}"
    made = [sandbox.api("POST", "/subscriptions", form)["id"] for _ in range(103)]
    sandbox.forget_requests()
    read = gateway.subscriptions_of(customer)
    assert sorted(live.id for live in read.value) == sorted(made)
    assert len(sandbox.requests()) == 2
    assert is_recent(read.as_of)


def test_charges_and_invoice(gateway, customer, subscription):
    (charge,) = gateway.charges_of(customer).value
    assert (charge.amount, charge.amount_refundable, charge.customer) == (1500, 1500, customer)
    invoice = gateway.invoice(gateway.subscription(subscription).value.latest_invoice).value
    assert invoice["status"] == "paid"


def test_a_charge(gateway, sandbox, customer, charge):
    live = gateway.charge(charge).value
    assert live == gateway.charges_of(customer).value[0]
    assert (live.id, live.customer, live.amount, live.currency, live.status) == (
        charge,
        customer,
        1500,
        "usd",
        "succeeded",
    )
    sandbox.api("POST", "/refunds", f"charge={charge}&amount=400")
    sandbox.control("POST", f"/charges/{charge}/dispute", {"amount": 1000})
    live = gateway.charge(charge).value
    assert (live.amount_refunded, live.amount_refundable, live.refunded, live.disputed) == (400, 1100, False, True)


def test_refunds_of_a_charge(gateway, sandbox, charge):
    assert gateway.refunds_of(charge).value == ()
    first = sandbox.api("POST", "/refunds", f"charge={charge}&amount=400&reason=duplicate&metadata[ticket]=7")
    sandbox.control("POST", "/refunds/next", {})
    second = sandbox.api("POST", "/refunds", f"charge={charge}&amount=100")
    sandbox.control("POST", f"/refunds/{first['id']}/settle", {"outcome": "fail"})
    read = gateway.refunds_of(charge)
    newer, older = read.value
    assert (newer.id, newer.status, newer.reason, newer.metadata) == (second["id"], "pending", None, {})
    assert (older.id, older.status, older.amount, older.currency) == (first["id"], "failed", 400, "usd")
    assert (older.charge, older.payment_intent) == (charge, first["payment_intent"])
    assert (older.reason, older.metadata) == ("duplicate", {"ticket": "7"})
    assert older.created == datetime.fromtimestamp(first["created"], UTC)
    assert is_recent(read.as_of)
    with pytest.raises(errors.StripeMissing):
        gateway.refunds_of("ch_nobody")


def test_more_refunds_than_a_page(gateway, sandbox, charge):
    made = [sandbox.api("POST", "/refunds", f"charge={charge}&amount=1")["id"] for _ in range(103)]
    sandbox.forget_requests()
    assert sorted(live.id for live in gateway.refunds_of(charge).value) == sorted(made)
    assert len(sandbox.requests()) == 2


def test_more_refunds_than_anybody_makes(gateway, sandbox, charge):
    for _ in range(1001):
        sandbox.api("POST", "/refunds", f"charge={charge}&amount=1")
    with pytest.raises(errors.StripeRejected) as refused:
        gateway.refunds_of(charge)
    assert f"{charge} has more than 1000 refunds" in refused.value.detail


def test_a_page_of_charges_with_their_refunds(gateway, sandbox, customer, price, charge):
    for _ in range(2):
        sandbox.api("POST", "/subscriptions", f"customer={customer}&items[0][price]={price}")
    refund = sandbox.api("POST", "/refunds", f"charge={charge}&amount=400")["id"]
    sandbox.forget_requests()
    first = gateway.charges_page(customer, limit=2, starting_after=None).value
    assert (len(first["data"]), first["has_more"]) == (2, True)
    second = gateway.charges_page(customer, limit=2, starting_after=first["data"][-1].id).value
    (oldest,) = second["data"]
    assert (oldest.id, second["has_more"]) == (charge, False)
    assert [each.id for each in oldest.refunds] == [refund]
    assert len(sandbox.requests()) == 2
    assert gateway.charge(charge).value.refunds is None


def test_charges_of_a_payment(gateway, charge):
    intent = gateway.charge(charge).value.payment_intent
    assert [each.id for each in gateway.charges_of_payment(intent).value] == [charge]
    assert gateway.charges_of_payment("pi_nobody").value == ()


def test_a_refund_is_made_once_for_its_key(gateway, sandbox, charge):
    asked = {"charge": charge, "amount": 400, "reason": "duplicate", "metadata": {"refundRequestId": "r-1"}}
    sandbox.forget_requests()
    first = gateway.create_refund(asked, idempotency_key="refund_1")
    again = gateway.create_refund(asked, idempotency_key="refund_1")
    assert first.value == again.value
    assert (first.value.amount, first.value.status, first.value.charge) == (400, "succeeded", charge)
    assert first.value.metadata == {"refundRequestId": "r-1"}
    sent = sandbox.requests()
    assert [(each["idempotency_key"], each["replayed"]) for each in sent] == [("refund_1", False), ("refund_1", True)]
    assert sent[0]["body"] == sent[1]["body"]
    assert len(gateway.refunds_of(charge).value) == 1
    with pytest.raises(errors.StripeRejected) as refused:
        gateway.create_refund(asked | {"amount": 1101}, idempotency_key="refund_2")
    assert refused.value.effect_possible is False


def test_a_refund_whose_answer_is_lost_is_asked_for_again_with_its_key(gateway, sandbox, charge):
    sandbox.arm("drop_after", "/v1/refunds$", method="POST")
    made = gateway.create_refund({"charge": charge}, idempotency_key="refund_1").value
    assert [each.id for each in gateway.refunds_of(charge).value] == [made.id]


def test_disputes_of_a_charge(gateway, sandbox, charge):
    assert gateway.disputes_of(charge).value == ()
    made = sandbox.control("POST", f"/charges/{charge}/dispute", {"reason": "duplicate", "amount": 1200})
    (live,) = gateway.disputes_of(charge).value
    assert live == gateway.dispute(made["id"]).value
    assert (live.id, live.charge, live.payment_intent) == (made["id"], charge, made["payment_intent"])
    assert (live.amount, live.currency, live.status, live.reason) == (1200, "usd", "needs_response", "duplicate")
    assert live.created == datetime.fromtimestamp(made["created"], UTC)
    sandbox.control("POST", f"/disputes/{live.id}/close", {"outcome": "lost"})
    assert gateway.dispute(live.id).value.status == "lost"
    with pytest.raises(errors.StripeMissing):
        gateway.disputes_of("ch_nobody")


def test_a_checkout_session(gateway, checkout):
    made = checkout(more="&client_reference_id=order-1&metadata[pack]=3&customer_creation=always")
    live = gateway.checkout_session(made["id"]).value
    assert (live.id, live.mode, live.status, live.payment_status) == (made["id"], "payment", "complete", "paid")
    assert (live.customer, live.payment_intent) == (made["customer"], made["payment_intent"])
    assert (live.subscription, live.client_reference_id, live.metadata) == (None, "order-1", {"pack": "3"})
    assert (live.amount_total, live.currency) == (1000, "usd")
    assert live.created == datetime.fromtimestamp(made["created"], UTC)
    assert gateway.checkout_sessions_of(made["payment_intent"]).value == (live,)


def test_a_guests_checkout_session_has_no_customer(gateway, checkout):
    made = checkout("unpaid")
    (live,) = gateway.checkout_sessions_of(made["payment_intent"]).value
    assert (live.status, live.payment_status, live.customer, live.metadata) == ("complete", "unpaid", None, {})


def test_a_payment_intent_without_checkout_session(gateway, charge):
    assert gateway.checkout_sessions_of(gateway.charge(charge).value.payment_intent).value == ()
    with pytest.raises(errors.StripeMissing):
        gateway.checkout_sessions_of("pi_nobody")


def test_a_subscriptions_checkout_session(gateway, sandbox, price):
    line = f"line_items[0][price]={price}&line_items[0][quantity]=1"
    form = f"mode=subscription&success_url=https://example.org/&{line}"
    session = sandbox.api("POST", "/checkout/sessions", form)["id"]
    before = gateway.checkout_session(session).value
    assert (before.status, before.customer, before.subscription) == ("open", None, None)
    made = sandbox.control("POST", f"/checkout/sessions/{session}/complete", {})
    live = gateway.checkout_session(session).value
    assert (live.mode, live.subscription, live.payment_intent) == ("subscription", made["subscription"], None)
    assert gateway.subscription(live.subscription).value.customer == live.customer


def test_customers_by_email(gateway, customer):
    assert [live.id for live in gateway.customers_by_email("ada@example.org").value] == [customer]
    assert gateway.customers_by_email("nobody@example.org").value == ()


def test_events(gateway, subscription):
    page = gateway.events(created_gte=0).value
    assert page["has_more"] is False
    assert len(page["data"]) > 2
    event = page["data"][-1]
    assert gateway.event(event["id"]).value == event
    types = ["customer.subscription.created", "invoice.paid"]
    some = gateway.events(created_gte=event["created"], created_lte=event["created"] + 60, types=types, limit=1).value
    rest = gateway.events(created_gte=None, types=types, starting_after=some["data"][0]["id"]).value
    assert some["has_more"] is True
    assert rest["has_more"] is False
    assert {each["type"] for each in some["data"] + rest["data"]} == set(types)


def test_webhook_endpoints(gateway, sandbox):
    form = "url=https://example.org/hook&enabled_events[0]=invoice.paid"
    sandbox.api("POST", "/webhook_endpoints", form)
    (endpoint,) = gateway.webhook_endpoints().value
    assert endpoint["enabled_events"] == ["invoice.paid"]


def test_cancel_now(gateway, sandbox, subscription):
    sandbox.forget_requests()
    live = gateway.cancel_now(subscription, prorate=False, invoice_now=False).value
    assert live.status == "canceled"
    (sent,) = sandbox.requests()
    assert (sent["method"], sent["query"]) == ("DELETE", "prorate=false&invoice_now=false")
    with pytest.raises(errors.StripeMissing):
        gateway.cancel_now(subscription, prorate=False, invoice_now=False)


def test_cancel_at_period_end(gateway, sandbox, subscription):
    sandbox.forget_requests()
    first = gateway.cancel_at_period_end(subscription, idempotency_key="cancel_1")
    again = gateway.cancel_at_period_end(subscription, idempotency_key="cancel_1")
    assert first.value == again.value
    assert first.value.cancel_at_period_end is True
    assert first.value.status == "active"
    sent = sandbox.requests()
    assert [(each["idempotency_key"], each["replayed"]) for each in sent] == [
        ("cancel_1", False),
        ("cancel_1", True),
    ]
    assert is_recent(first.as_of)
    assert again.as_of.year == 1970


def test_a_key_with_other_parameters_is_a_conflict(gateway, sandbox, customer, price, subscription):
    other = sandbox.api("POST", "/subscriptions", f"customer={customer}&items[0][price]={price}")["id"]
    gateway.cancel_at_period_end(subscription, idempotency_key="cancel_1")
    with pytest.raises(errors.StripeIdempotencyConflict) as refused:
        gateway.cancel_at_period_end(other, idempotency_key="cancel_1")
    assert refused.value.effect_possible is True


def test_every_request_is_one_that_stripe_knows(gateway, sandbox, customer, subscription, checkout):
    session = checkout()
    sandbox.forget_requests()
    gateway.account()
    gateway.customer(customer)
    gateway.subscription(subscription)
    gateway.subscriptions_of(customer)
    charge = gateway.charges_of(customer).value[0].id
    gateway.charge(charge)
    gateway.charges_page(customer, limit=5, starting_after=charge)
    gateway.charges_of_payment(gateway.charge(charge).value.payment_intent)
    asked = {"charge": charge, "amount": 1, "reason": "duplicate", "metadata": {"refundRequestId": "r-1"}}
    gateway.create_refund(asked, idempotency_key="r")
    gateway.refunds_of(charge)
    gateway.disputes_of(charge)
    gateway.checkout_session(session["id"])
    gateway.checkout_sessions_of(session["payment_intent"])
    gateway.invoice(gateway.subscription(subscription).value.latest_invoice)
    gateway.open_invoices_of(subscription)
    gateway.customers_by_email("ada@example.org")
    event = gateway.events(created_gte=1, created_lte=2**31, types=["invoice.paid"]).value["data"][0]
    gateway.event(event["id"])
    gateway.events(created_gte=None, starting_after=event["id"], limit=5)
    gateway.webhook_endpoints()
    gateway.cancel_at_period_end(subscription, idempotency_key="k")
    gateway.cancel_now(subscription, prorate=True, invoice_now=True)
    sent = sandbox.requests()
    assert len(sent) == 24
    assert [(each["path"], openapi.logged_request_problems(each)) for each in sent] == [
        (each["path"], []) for each in sent
    ]
    assert {each["version"] for each in sent} == {"2026-10-28.endive"}


def test_a_key_that_may_not_read_is_named(open_gateway, sandbox, customer):
    key = sandbox.control("POST", "/keys", {"permissions": {"customer": "none", "subscription": "read"}})["key"]
    with pytest.raises(errors.StripeMisconfigured) as refused:
        open_gateway(sandbox.url, api_key=key).customer(customer)
    assert "customer" in refused.value.detail
    assert key not in str(refused.value.problem())


def test_a_wrong_key_is_named_and_not_shown(open_gateway, sandbox):
    with pytest.raises(errors.StripeMisconfigured) as refused:
        open_gateway(sandbox.url, api_key="sk_test_wrongwrongwrong").account()
    assert "STRIPE_SECRET_KEY" in refused.value.detail
    assert "wrong" not in str(refused.value.problem()).replace("it is wrong", "")
