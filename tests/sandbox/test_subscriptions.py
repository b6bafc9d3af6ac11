"""Subscriptions: created, listed, changed, cancelled."""

import pytest
import stripe as sdk


def refused(call, **expected):
    with pytest.raises(sdk.StripeError) as caught:
        call()
    told = {"status": caught.value.http_status, "code": caught.value.code, "message": caught.value.user_message}
    assert {name: told[name] for name in expected} == expected


def ids(page):
    return [one.id for one in page.data]


def test_it_works(subscribe, stripe, events):
    subscription = subscribe(metadata={"organizationId": "a" * 24})
    item = subscription["items"].data[0]
    assert subscription.status == "active"
    assert item.current_period_end > item.current_period_start == subscription.created
    assert "current_period_end" not in subscription.to_dict()
    invoice = stripe.invoices.retrieve(subscription.latest_invoice)
    assert (invoice.status, invoice.amount_paid, invoice.billing_reason) == ("paid", 2000, "subscription_create")
    assert invoice.parent.subscription_details.subscription == subscription.id
    charge = stripe.charges.list({"customer": subscription.customer}).data[0]
    assert (charge.paid, charge.amount, charge.failure_code) == (True, 2000, None)
    assert stripe.payment_intents.retrieve(charge.payment_intent).status == "succeeded"
    assert {
        "customer.subscription.created",
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
        "charge.succeeded",
        "payment_intent.succeeded",
    } <= set(events())


def test_lists_by_status(subscribe, control, stripe):
    active, canceled = subscribe(), subscribe()
    trialing = subscribe(trial_period_days=7)
    incomplete = subscribe(control, "decline")
    stripe.subscriptions.cancel(canceled.id)
    control.patch(expired := subscribe().id, {"status": "incomplete_expired"})

    def of(**params):
        return set(ids(stripe.subscriptions.list(params)))

    everything = {active.id, canceled.id, trialing.id, incomplete.id, expired}
    assert of() == everything - {canceled.id}
    assert of(status="all") == everything
    assert of(status="ended") == {canceled.id, expired}
    assert of(status="active") == {active.id}
    assert of(status="trialing") == {trialing.id}
    assert of(status="incomplete") == {incomplete.id}
    assert of(customer=active.customer) == {active.id}
    assert of(collection_method="send_invoice") == set()
    assert len(of(collection_method="charge_automatically", status="all")) == 5


def test_lists_by_created_and_price(subscribe, control, stripe, price):
    first = subscribe()
    control.advance(100)
    second = subscribe()
    middle = first.created + 50
    assert ids(stripe.subscriptions.list({"created": {"lt": middle}})) == [first.id]
    assert ids(stripe.subscriptions.list({"created": {"gte": second.created}})) == [second.id]
    assert ids(stripe.subscriptions.list({"created": {"gt": first.created - 1, "lte": first.created}})) == [first.id]
    assert ids(stripe.subscriptions.list({"price": price.id})) == [second.id, first.id]
    refused(lambda: stripe.subscriptions.list({"price": "price_none"}), status=400, code="resource_missing")


def test_lists_of_unknown_and_deleted_customers(subscribe, stripe):
    subscription = subscribe()
    refused(lambda: stripe.subscriptions.list({"customer": "cus_none"}), status=400, code="resource_missing")
    stripe.customers.delete(subscription.customer)
    assert stripe.subscriptions.list({"customer": subscription.customer}).data == []
    assert ids(stripe.subscriptions.list({"customer": subscription.customer, "status": "all"})) == [subscription.id]


def test_cancel_now(subscribe, stripe, events):
    subscription = subscribe()
    canceled = stripe.subscriptions.cancel(
        subscription.id, {"prorate": False, "invoice_now": False, "cancellation_details": {"comment": "asked by mail"}}
    )
    assert canceled.status == "canceled"
    assert canceled.ended_at == canceled.canceled_at
    assert canceled.cancellation_details.comment == "asked by mail"
    assert events()[-1] == "customer.subscription.deleted"
    refused(
        lambda: stripe.subscriptions.cancel(subscription.id),
        status=404,
        code="resource_missing",
        message=f"No such subscription: '{subscription.id}'",
    )
    refused(lambda: stripe.subscriptions.cancel("sub_none"), status=404, code="resource_missing")
    refused(
        lambda: stripe.subscriptions.update(subscription.id, {"cancel_at_period_end": True}),
        status=400,
        message="A canceled subscription can only update its cancellation_details and metadata.",
    )
    assert stripe.subscriptions.update(subscription.id, {"metadata": {"a": "1"}}).metadata.a == "1"


def test_cancel_at_period_end_and_back(subscribe, stripe, events):
    subscription = subscribe()
    end = subscription["items"].data[0].current_period_end
    wanted = stripe.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert (wanted.cancel_at, wanted.cancel_at_period_end, wanted.status) == (end, True, "active")
    assert wanted.canceled_at
    back = stripe.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert (back.cancel_at, back.cancel_at_period_end, back.canceled_at) == (None, False, None)
    changes = [event.data.previous_attributes.to_dict() for event in events("customer.subscription.updated")]
    assert set(changes[0]) == {"cancel_at", "cancel_at_period_end", "canceled_at", "cancellation_details"}
    assert changes[1]["cancel_at_period_end"] is True


def test_cancel_at(subscribe, stripe, control):
    subscription = subscribe()
    later = control.now() + 5 * 86400
    assert stripe.subscriptions.update(subscription.id, {"cancel_at": later}).cancel_at == later
    assert stripe.subscriptions.update(subscription.id, {"cancel_at": ""}).cancel_at is None
    refused(lambda: stripe.subscriptions.update(subscription.id, {"cancel_at": 5}), status=400)
    refused(
        lambda: stripe.subscriptions.update(subscription.id, {"cancel_at": later, "cancel_at_period_end": True}),
        status=400,
        code="parameters_exclusive",
    )


def test_items_quantity_and_price(subscribe, stripe, price, events):
    subscription = subscribe()
    item = subscription["items"].data[0]
    changed = stripe.subscriptions.update(subscription.id, {"items": [{"id": item.id, "quantity": 3}]})
    assert changed["items"].data[0].quantity == 3
    dearer = stripe.prices.create(
        {"product": price.product, "currency": "usd", "unit_amount": 5000, "recurring": {"interval": "month"}}
    )
    changed = stripe.subscriptions.update(subscription.id, {"items": [{"id": item.id, "price": dearer.id}]})
    assert changed["items"].data[0].price.id == dearer.id
    assert changed["items"].data[0].current_period_end == item.current_period_end
    assert "items" in events("customer.subscription.updated")[-1].data.previous_attributes.to_dict()
    both = stripe.subscriptions.update(subscription.id, {"items": [{"price": price.id}]})
    assert len(both["items"].data) == 2
    one = stripe.subscriptions.update(subscription.id, {"items": [{"id": item.id, "deleted": True}]})
    assert [item.price.id for item in one["items"].data] == [price.id]
    refused(lambda: stripe.subscriptions.update(subscription.id, {"items": [{"id": "si_none"}]}), status=400)


def test_another_interval_bills_now(subscribe, stripe, price):
    subscription = subscribe()
    yearly = stripe.prices.create(
        {"product": price.product, "currency": "usd", "unit_amount": 20000, "recurring": {"interval": "year"}}
    )
    item = subscription["items"].data[0]
    changed = stripe.subscriptions.update(subscription.id, {"items": [{"id": item.id, "price": yearly.id}]})
    period = changed["items"].data[0]
    assert period.current_period_end - period.current_period_start > 360 * 86400
    assert changed.latest_invoice != subscription.latest_invoice


def test_pause_collection(subscribe, stripe):
    subscription = subscribe()
    paused = stripe.subscriptions.update(subscription.id, {"pause_collection": {"behavior": "void"}})
    assert (paused.pause_collection.behavior, paused.status) == ("void", "active")
    assert stripe.subscriptions.update(subscription.id, {"pause_collection": ""}).pause_collection is None


def test_a_schedule_owns_the_end(subscribe, stripe, events):
    subscription = subscribe()
    schedule = stripe.subscription_schedules.create({"from_subscription": subscription.id})
    assert stripe.subscriptions.retrieve(subscription.id).schedule == schedule.id
    for change in ({"cancel_at_period_end": True}, {"cancel_at": ""}):
        with pytest.raises(sdk.InvalidRequestError, match=f"managed by the subscription schedule `{schedule.id}`"):
            stripe.subscriptions.update(subscription.id, change)
    released = stripe.subscription_schedules.release(schedule.id)
    assert (released.status, released.released_subscription) == ("released", subscription.id)
    assert stripe.subscriptions.update(subscription.id, {"cancel_at_period_end": True}).cancel_at_period_end
    assert "subscription_schedule.released" in events()


def test_wrong_prices(subscribe, stripe, price):
    once = stripe.prices.create({"product": price.product, "currency": "usd", "unit_amount": 1})
    refused(lambda: subscribe(items=[{"price": once.id}]), status=400)
    refused(lambda: subscribe(items=[{"price": "price_none"}]), status=400, code="resource_missing")
    refused(lambda: subscribe(items=[]), status=400, code="parameter_missing")
    stripe.prices.update(price.id, {"active": False})
    refused(lambda: subscribe(), status=400)


def test_a_declined_first_payment(subscribe, control, stripe):
    subscription = subscribe(control, "decline")
    assert subscription.status == "incomplete"
    charge = stripe.charges.list({"customer": subscription.customer}).data[0]
    assert (charge.status, charge.failure_code, charge.paid) == ("failed", "card_declined", False)
    assert charge.outcome.type == "issuer_declined"
    with pytest.raises(sdk.CardError) as caught:
        stripe.invoices.pay(subscription.latest_invoice)
    assert caught.value.code == "card_declined"
    assert len(stripe.charges.list({"customer": subscription.customer}).data) == 2
    control.payment(subscription.customer, "succeed")
    assert stripe.invoices.pay(subscription.latest_invoice).status == "paid"
    assert stripe.subscriptions.retrieve(subscription.id).status == "active"
    refused(lambda: stripe.invoices.pay(subscription.latest_invoice), status=400)


def test_error_if_incomplete_leaves_nothing(subscribe, control, stripe):
    with pytest.raises(sdk.CardError):
        subscribe(control, "decline", payment_behavior="error_if_incomplete")
    assert stripe.subscriptions.list({"status": "all"}).data == []


def test_default_incomplete_waits_for_payment(subscribe, stripe):
    subscription = subscribe(payment_behavior="default_incomplete")
    assert subscription.status == "incomplete"
    assert stripe.invoices.retrieve(subscription.latest_invoice).status == "open"
    stripe.invoices.pay(subscription.latest_invoice)
    assert stripe.subscriptions.retrieve(subscription.id).status == "active"


def test_cancelling_an_incomplete_one_expires_it(subscribe, control, stripe, events):
    subscription = subscribe(control, "decline")
    ended = stripe.subscriptions.cancel(subscription.id)
    assert (ended.status, ended.canceled_at, ended.ended_at) == (
        "incomplete_expired",
        ended.ended_at,
        ended.canceled_at,
    )
    assert ended.ended_at
    assert stripe.invoices.retrieve(subscription.latest_invoice).status == "void"
    assert events()[-1] == "customer.subscription.updated"
    refused(lambda: stripe.subscriptions.cancel(subscription.id), status=404, code="resource_missing")
