"""Events: listed, retrieved, forgotten after thirty days."""

import json

import pytest
import stripe as sdk

from tests.sandbox.conftest import connect

DAY = 86400


def test_it_works(stripe, events):
    stripe.customers.create({"name": "Ada"})
    event = events("customer.created")[0]
    found = stripe.events.retrieve(event.id)
    assert found.data.object.name == "Ada"
    assert found.api_version == "2026-10-28.endive"
    assert found.request.id.startswith("req_")
    assert found.request.idempotency_key
    assert isinstance(found.created, int)
    assert "previous_attributes" not in found.data.to_dict()


def test_lists_by_type(stripe):
    customer = stripe.customers.create({})
    stripe.products.create({"name": "Pro"})
    stripe.customers.delete(customer.id)

    def types(**params):
        return [event.type for event in stripe.events.list(params).data]

    assert types(type="customer.deleted") == ["customer.deleted"]
    assert types(type="customer.*") == ["customer.deleted", "customer.created"]
    assert types(types=["product.created", "customer.created"]) == ["product.created", "customer.created"]
    with pytest.raises(sdk.InvalidRequestError):
        types(type="a.b", types=["a.b"])
    with pytest.raises(sdk.InvalidRequestError):
        types(types=["a.b"] * 21)


def test_lists_by_created_and_pages(stripe, control):
    stripe.customers.create({})
    control.advance(100)
    second = stripe.customers.create({})
    newer = stripe.events.list({"created": {"gte": second.created}}).data
    assert [event.data.object.id for event in newer] == [second.id]
    page = stripe.events.list({"limit": 1})
    assert page.has_more
    assert not stripe.events.list({"limit": 1, "starting_after": page.data[0].id}).has_more


def test_gone_after_thirty_days(stripe, control, events):
    stripe.customers.create({})
    event = events("customer.created")[0]
    control.advance(30 * DAY - 60)
    assert stripe.events.retrieve(event.id).id == event.id
    control.advance(120)
    with pytest.raises(sdk.InvalidRequestError) as caught:
        stripe.events.retrieve(event.id)
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    assert stripe.events.list({"type": "customer.created"}).data == []


def test_delivery_success(stripe, control, receiver, endpoint):
    receiver.answers = [500]
    stripe.customers.create({"name": "first"})
    receiver.wait(1)
    control.hold()
    stripe.customers.create({"name": "second"})
    control.release()

    def names(success):
        return [event.data.object.name for event in stripe.events.list({"delivery_success": success}).data]

    assert names(True) == ["second"]
    assert names(False) == ["first"]


def test_the_old_shape(process, stripe, subscribe, control, events):
    """Before 2025-03-31 the period stands on the subscription, and an invoice names its subscription."""
    subscription = subscribe()
    old = connect(process.url, stripe_version="2024-06-20").v1
    found = old.subscriptions.retrieve(subscription.id).to_dict()
    item = subscription["items"].data[0]
    assert found["current_period_end"] == item.current_period_end
    assert "current_period_end" not in found["items"]["data"][0]
    assert found["plan"]["id"] == item.price.id
    invoice = old.invoices.retrieve(subscription.latest_invoice, {"expand": ["charge", "payment_intent"]}).to_dict()
    assert invoice["subscription"] == subscription.id
    assert invoice["charge"]["invoice"] == invoice["id"]
    assert invoice["payment_intent"]["status"] == "succeeded"
    assert "parent" not in invoice
    assert "refunds" not in old.charges.list().data[0].to_dict()
    assert old.subscriptions.list().data[0].to_dict()["current_period_end"] == item.current_period_end


@pytest.mark.parametrize(
    ("outcome", "types"),
    [("succeed", {"invoice.paid", "invoice.payment_succeeded"}), ("decline", {"invoice.payment_failed"})],
)
def test_invoice_events_come_in_the_shape_of_their_endpoint(stripe, subscribe, control, outcome, types):
    control.hold()
    for version in ("2024-06-20", "2025-03-30", "2025-03-31.basil", "2026-10-28.endive"):
        url = f"http://127.0.0.1:9/{version}"
        stripe.webhook_endpoints.create({"url": url, "enabled_events": ["*"], "api_version": version})
    subscription = subscribe(control, outcome)
    seen = [one for one in control.deliveries() if one["type"] in types]
    assert len(seen) == 4 * len(types)
    for delivery in seen:
        invoice = json.loads(delivery["body"])["data"]["object"]
        if "/2024-" in delivery["url"] or "/2025-03-30" in delivery["url"]:
            assert invoice["subscription"] == subscription.id
            assert None not in (invoice["charge"], invoice["payment_intent"])
            assert "parent" not in invoice
        else:
            assert invoice["parent"]["subscription_details"]["subscription"] == subscription.id
            assert not {"subscription", "charge", "payment_intent"} & set(invoice)


def test_an_event_keeps_the_version_it_was_made_in(process, control):
    key = control.add_account(api_version="2024-06-20")["key"]
    stripe = connect(process.url, key).v1
    product = stripe.products.create({"name": "Pro"})
    price = stripe.prices.create(
        {"product": product.id, "currency": "usd", "unit_amount": 1, "recurring": {"interval": "month"}}
    )
    customer = stripe.customers.create({})
    subscription = stripe.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    control.set_clock(subscription["items"].data[0].current_period_end + 5)
    event = stripe.events.list({"type": "customer.subscription.updated"}).data[0]
    assert event.api_version == "2024-06-20"
    assert {"current_period_end", "current_period_start"} <= set(event.data.previous_attributes.to_dict())
    assert event.data.object.current_period_end


def test_an_event_out_of_thin_air(stripe, control):
    made = control.emit("charge.dispute.created", {"id": "dp_1", "object": "dispute", "amount": 1})
    assert stripe.events.retrieve(made["id"]).data.object.amount == 1
