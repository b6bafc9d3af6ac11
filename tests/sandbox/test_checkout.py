"""Checkout Sessions: opened by the seller, completed by a buyer, settled days later, expired."""

import pytest
import stripe as sdk

from billing_service.sandbox.stripe.control import ControlError

DAY = 86400
ORGANIZATION = "a" * 24


@pytest.fixture
def once(stripe, price):
    """A one-time price."""
    return stripe.prices.create({"product": price.product, "currency": "usd", "unit_amount": 500})


@pytest.fixture
def open_session(stripe, once):
    def make(mode="payment", price=once, quantity=2, **more):
        wanted = {"mode": mode, "success_url": "https://example.org/thanks", **more}
        return stripe.checkout.sessions.create({"line_items": [{"price": price.id, "quantity": quantity}], **wanted})

    return make


def refused(call):
    with pytest.raises(sdk.StripeError) as caught:
        call()
    return caught.value.http_status, caught.value.code, caught.value.user_message


def test_a_session_is_open(stripe, open_session, events):
    session = open_session(client_reference_id="order-1", metadata={"organizationId": ORGANIZATION})
    assert (session.status, session.payment_status, session.mode) == ("open", "unpaid", "payment")
    assert (session.amount_total, session.currency, session.expires_at) == (1000, "usd", session.created + DAY)
    assert (session.customer, session.payment_intent, session.client_reference_id) == (None, None, "order-1")
    assert session.url.startswith("https://checkout.stripe.com/")
    assert "line_items" not in session.to_dict()
    found = stripe.checkout.sessions.retrieve(session.id, {"expand": ["line_items"]})
    assert [(line.quantity, line.amount_total) for line in found.line_items.data] == [(2, 1000)]
    assert [line.description for line in stripe.checkout.sessions.line_items.list(session.id).data] == ["Pro"]
    assert not [one for one in events() if one.startswith("checkout")]


def test_a_guest_pays(stripe, control, open_session, events):
    session = open_session(payment_intent_data={"metadata": {"organizationId": ORGANIZATION}})
    before = len(events())
    done = control.complete_checkout(session.id, email="ada@example.org", name="Ada")
    assert events()[before:] == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]
    assert (done["status"], done["payment_status"], done["customer"], done["url"]) == ("complete", "paid", None, None)
    assert done["customer_details"]["email"] == "ada@example.org"
    intent = stripe.payment_intents.retrieve(done["payment_intent"])
    assert (intent.status, intent.amount_received, intent.customer) == ("succeeded", 1000, None)
    charge = stripe.charges.retrieve(intent.latest_charge)
    assert charge.metadata.to_dict() == intent.metadata.to_dict() == {"organizationId": ORGANIZATION}
    assert (charge.paid, charge.amount, charge.customer, charge.billing_details.name) == (True, 1000, None, "Ada")
    assert [one.id for one in stripe.charges.list({"payment_intent": intent.id}).data] == [charge.id]
    (event,) = events("checkout.session.completed")
    assert event.data.object.to_dict() == stripe.checkout.sessions.retrieve(session.id).to_dict()


def test_a_customer_is_made_when_asked_for(stripe, control, open_session, events):
    session = open_session(customer_creation="always", customer_email="ada@example.org")
    done = control.complete_checkout(session.id)
    assert stripe.customers.retrieve(done["customer"]).email == "ada@example.org"
    assert stripe.charges.list({"customer": done["customer"]}).data[0].amount == 1000
    assert len(events("customer.created")) == 1


def test_a_known_customer_pays(stripe, control, open_session, events):
    customer = stripe.customers.create({"email": "ada@example.org", "name": "Ada"})
    session = open_session(customer=customer.id)
    assert session.customer_details.email == "ada@example.org"
    done = control.complete_checkout(session.id)
    assert done["customer"] == customer.id
    assert stripe.payment_intents.retrieve(done["payment_intent"]).customer == customer.id
    assert len(events("customer.created")) == 1


def test_a_subscription_begins(stripe, control, price, open_session, events):
    told = {"metadata": {"organizationId": ORGANIZATION}, "description": "Pro plan"}
    session = open_session("subscription", price, 3, subscription_data=told)
    done = control.complete_checkout(session.id)
    subscription = stripe.subscriptions.retrieve(done["subscription"])
    assert (subscription.status, subscription.customer, subscription.description) == (
        "active",
        done["customer"],
        "Pro plan",
    )
    assert subscription.metadata.to_dict() == {"organizationId": ORGANIZATION}
    assert subscription["items"].data[0].quantity == 3
    assert (done["invoice"], done["payment_intent"]) == (subscription.latest_invoice, None)
    assert stripe.invoices.retrieve(done["invoice"]).amount_paid == 6000
    made = [one for one in events() if one not in ("product.created", "price.created")]
    assert made[0] == "customer.created"
    assert made[-2:] == ["customer.subscription.created", "checkout.session.completed"]
    assert {"invoice.paid", "invoice.payment_succeeded", "charge.succeeded", "payment_intent.succeeded"} < set(made)
    listed = stripe.checkout.sessions.list({"subscription": subscription.id}).data
    assert [one.id for one in listed] == [session.id]


def test_a_trial_needs_no_payment(stripe, control, price, open_session):
    session = open_session("subscription", price, subscription_data={"trial_period_days": 7})
    assert session.amount_total == 0
    with pytest.raises(ControlError, match="400"):
        control.complete_checkout(session.id, "paid")
    done = control.complete_checkout(session.id)
    assert done["payment_status"] == "no_payment_required"
    assert stripe.subscriptions.retrieve(done["subscription"]).status == "trialing"
    assert stripe.charges.list({"customer": done["customer"]}).data == []


@pytest.mark.parametrize(("outcome", "told"), [("succeed", "succeeded"), ("fail", "failed")])
def test_a_delayed_payment(stripe, control, open_session, events, outcome, told):
    session = open_session()
    done = control.complete_checkout(session.id, "unpaid")
    assert (done["status"], done["payment_status"]) == ("complete", "unpaid")
    intent = stripe.payment_intents.retrieve(done["payment_intent"], {"expand": ["latest_charge"]})
    assert (intent.status, intent.latest_charge.status, intent.latest_charge.paid) == ("processing", "pending", False)
    assert events()[-3:] == ["charge.pending", "payment_intent.processing", "checkout.session.completed"]
    control.advance(3 * DAY)
    ended = control.settle_checkout(session.id, outcome)
    assert ended["payment_status"] == ("paid" if outcome == "succeed" else "unpaid")
    assert ended["status"] == "complete"
    payment = "payment_intent.succeeded" if outcome == "succeed" else "payment_intent.payment_failed"
    assert events()[-3:] == [f"charge.{told}", payment, f"checkout.session.async_payment_{told}"]
    (charge,) = stripe.charges.list({"payment_intent": intent.id}).data
    assert charge.status == told
    assert charge.amount_captured == (1000 if outcome == "succeed" else 0)
    with pytest.raises(ControlError, match="409"):
        control.settle_checkout(session.id, outcome)


@pytest.mark.parametrize(("outcome", "status"), [("succeed", "active"), ("fail", "past_due")])
def test_a_delayed_payment_of_a_subscription(stripe, control, price, open_session, events, outcome, status):
    done = control.complete_checkout(open_session("subscription", price).id, "unpaid")
    assert stripe.subscriptions.retrieve(done["subscription"]).status == "active"
    assert stripe.invoices.retrieve(done["invoice"]).status == "open"
    assert not {"invoice.paid", "invoice.payment_failed"} & set(events())
    control.settle_checkout(done["id"], outcome)
    assert stripe.subscriptions.retrieve(done["subscription"]).status == status
    invoice = stripe.invoices.retrieve(done["invoice"], {"expand": ["payments"]})
    assert invoice.status == ("paid" if outcome == "succeed" else "open")
    assert invoice.payments.data[0].status == ("paid" if outcome == "succeed" else "open")
    assert ("invoice.paid" if outcome == "succeed" else "invoice.payment_failed") in events()


def test_a_declined_card_leaves_it_open(stripe, control, open_session, events):
    session = open_session(customer_creation="always")
    declined = control.complete_checkout(session.id, "declined", code="insufficient_funds")
    assert (declined["status"], declined["customer"]) == ("open", None)
    assert events()[-2:] == ["charge.failed", "payment_intent.payment_failed"]
    done = control.complete_checkout(session.id)
    assert done["payment_intent"] == declined["payment_intent"]
    charges = stripe.charges.list({"payment_intent": done["payment_intent"]}).data
    assert [charge.status for charge in charges] == ["succeeded", "failed"]
    assert stripe.payment_intents.retrieve(done["payment_intent"]).customer == done["customer"]


def test_it_expires(stripe, control, open_session, events):
    by_hand, by_time = open_session(), open_session()
    expired = stripe.checkout.sessions.expire(by_hand.id)
    assert (expired.status, expired.url) == ("expired", None)
    assert refused(lambda: stripe.checkout.sessions.expire(by_hand.id))[0] == 400
    control.advance(DAY + 60)
    assert stripe.checkout.sessions.retrieve(by_time.id).status == "expired"
    assert len(events("checkout.session.expired")) == 2
    with pytest.raises(ControlError, match="409"):
        control.complete_checkout(by_time.id)


def test_completed_only_once_and_never_expired(stripe, control, open_session, events):
    session = open_session()
    control.complete_checkout(session.id)
    with pytest.raises(ControlError, match="409"):
        control.complete_checkout(session.id)
    control.advance(2 * DAY)
    assert stripe.checkout.sessions.retrieve(session.id).status == "complete"
    assert len(events("charge.succeeded")) == 1


def test_lists(stripe, control, open_session):
    customer = stripe.customers.create({}).id
    first, second, third = open_session(), open_session(customer=customer), open_session()
    done = control.complete_checkout(first.id)
    control.advance(100)
    last = open_session()

    def ids(**params):
        return [one.id for one in stripe.checkout.sessions.list(params).data]

    assert sorted(ids()) == sorted([last.id, third.id, second.id, first.id])
    assert ids(customer=customer) == [second.id]
    assert ids(payment_intent=done["payment_intent"]) == [first.id]
    assert ids(status="complete") == [first.id]
    assert ids(created={"gte": last.created}) == [last.id]
    assert len(list(stripe.checkout.sessions.list({"limit": 1}).auto_paging_iter())) == 4
    for wrong in ({"customer": "cus_no"}, {"payment_intent": "pi_no"}, {"subscription": "sub_no"}):
        assert refused(lambda wrong=wrong: stripe.checkout.sessions.list(wrong))[:2] == (400, "resource_missing")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mode": "setup"}, (501, None)),
        ({"mode": None}, (400, "parameter_missing")),
        ({"success_url": None}, (400, "parameter_missing")),
        ({"line_items[0][price]": "price_no"}, (400, "resource_missing")),
        ({"line_items[0][price]": None}, (400, "parameter_missing")),
        ({"line_items[0][quantity]": "0"}, (400, None)),
        ({"line_items[0][price_data][currency]": "usd"}, (501, None)),
        ({"mode": "subscription"}, (400, None)),
        ({"customer": "cus_no"}, (400, "resource_missing")),
        ({"subscription_data[description]": "x"}, (400, None)),
        ({"payment_intent_data[receipt_email]": "a@example.org"}, (501, None)),
        ({"expires_at": "1"}, (400, None)),
        ({"allow_promotion_codes": "true"}, (501, None)),
        ({"colour": "red"}, (400, "parameter_unknown")),
    ],
)
def test_it_rejects_bad_input(http, once, changes, expected):
    params = {
        "mode": "payment",
        "success_url": "https://example.org/",
        "line_items[0][price]": once.id,
        "line_items[0][quantity]": "1",
    } | changes
    answer = http("POST", "/v1/checkout/sessions", {name: value for name, value in params.items() if value is not None})
    assert (answer.status_code, answer.json()["error"].get("code")) == expected


def test_wrong_prices(stripe, price, once, open_session):
    assert "passed a recurring price" in refused(lambda: open_session("payment", price))[2]
    assert "at least one recurring price" in refused(lambda: open_session("subscription", once))[2]
    mixed = [{"price": price.id, "quantity": 1}, {"price": once.id, "quantity": 1}]
    assert refused(lambda: open_session("subscription", line_items=mixed))[0] == 501
    euro = stripe.prices.create({"product": price.product, "currency": "eur", "unit_amount": 500})
    both = [{"price": euro.id, "quantity": 1}, {"price": once.id, "quantity": 1}]
    assert "currency" in refused(lambda: open_session(line_items=both))[2]
    stripe.prices.update(once.id, {"active": False})
    assert "inactive" in refused(open_session)[2]


def test_a_buyer_of_a_deleted_customer_cannot_pay(stripe, control, open_session, events):
    customer = stripe.customers.create({}).id
    session = open_session(customer=customer)
    stripe.customers.delete(customer)
    with pytest.raises(ControlError, match="No such customer"):
        control.complete_checkout(session.id)
    assert "payment_intent.created" not in events()


def test_wrong_orders_of_the_control_plane(control, open_session):
    session = open_session()
    with pytest.raises(ControlError, match="404"):
        control.complete_checkout("cs_no")
    for wrong in ({"outcome": "gone"}, {"outcome": "no_payment_required"}, {"coupon": "x"}):
        with pytest.raises(ControlError, match="400"):
            control.complete_checkout(session.id, **wrong)
    with pytest.raises(ControlError, match="409"):
        control.settle_checkout(session.id, "succeed")
