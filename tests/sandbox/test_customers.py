"""Customers, products and prices, and how wrong requests are refused."""

import pytest
import stripe as sdk


def refused(call, **expected):
    with pytest.raises(sdk.StripeError) as caught:
        call()
    error = caught.value
    told = {
        "status": error.http_status,
        "code": error.code,
        "param": getattr(error, "param", None),
        "message": error.user_message,
    }
    assert {name: told[name] for name in expected} == expected


def test_it_works(stripe, events):
    customer = stripe.customers.create({"email": "a@example.com", "metadata": {"organizationId": "1" * 24}})
    assert stripe.customers.retrieve(customer.id).email == "a@example.com"
    changed = stripe.customers.update(customer.id, {"name": "Ada", "metadata": {"extra": "1"}})
    assert changed.metadata.to_dict() == {"organizationId": "1" * 24, "extra": "1"}
    assert [one.id for one in stripe.customers.list({"email": "a@example.com"}).data] == [customer.id]
    assert stripe.customers.list({"email": "b@example.com"}).data == []
    assert events() == ["customer.created", "customer.updated"]
    assert events("customer.updated")[0].data.previous_attributes.to_dict() == {
        "name": None,
        "metadata": {"extra": None},
    }


def test_an_update_that_changes_nothing_makes_no_event(stripe, events):
    customer = stripe.customers.create({"name": "Ada"})
    stripe.customers.update(customer.id, {"name": "Ada"})
    assert events() == ["customer.created"]


def test_metadata_is_merged_and_unset(stripe):
    customer = stripe.customers.create({"metadata": {"a": "1", "b": "2"}})
    assert stripe.customers.update(customer.id, {"metadata": {"a": ""}}).metadata.to_dict() == {"b": "2"}
    assert stripe.customers.update(customer.id, {"metadata": ""}).metadata.to_dict() == {}
    refused(lambda: stripe.customers.update(customer.id, {"metadata": {"k" * 41: "1"}}), status=400)
    refused(lambda: stripe.customers.update(customer.id, {"metadata": {"k": "v" * 501}}), status=400)


def test_a_deleted_customer_is_a_stub_and_its_subscriptions_end(stripe, subscribe, events):
    subscription = subscribe()
    gone = {"id": subscription.customer, "object": "customer", "deleted": True}
    assert stripe.customers.delete(subscription.customer).to_dict() == gone
    assert stripe.customers.retrieve(subscription.customer).to_dict() == gone
    assert stripe.subscriptions.retrieve(subscription.id).status == "canceled"
    assert events()[-2:] == ["customer.subscription.deleted", "customer.deleted"]
    assert stripe.customers.list().data == []
    refused(lambda: stripe.customers.delete(subscription.customer), status=404, code="resource_missing")
    refused(lambda: stripe.customers.update(subscription.customer, {"name": "x"}), status=404)
    refused(
        lambda: stripe.subscriptions.create({"customer": subscription.customer, "items": [{"price": "x"}]}),
        status=400,
        code="resource_missing",
        param="customer",
    )


def test_deleting_a_customer_ends_every_subscription_first(stripe, subscribe, price, events):
    """Running, trialing and canceled ones: an event for each that ends now, none for the others."""
    first = subscribe()
    items = [{"price": price.id}]
    trial = stripe.subscriptions.create({"customer": first.customer, "items": items, "trial_period_days": 9})
    over = stripe.subscriptions.create({"customer": first.customer, "items": items})
    stripe.subscriptions.cancel(over.id)
    before = len(events())
    stripe.customers.delete(first.customer)
    assert events()[before:] == ["customer.subscription.deleted"] * 2 + ["customer.deleted"]
    told = events("customer.subscription.deleted")[-2:]
    assert {one.data.object.id for one in told} == {first.id, trial.id}
    assert {one.data.object.status for one in told} == {"canceled"}
    assert {one.data.object.customer for one in told} == {first.customer}
    (gone,) = events("customer.deleted")
    assert gone.data.object.email == "someone@example.com"
    assert "deleted" not in gone.data.object.to_dict()
    assert {stripe.subscriptions.retrieve(one.id).status for one in (first, trial, over)} == {"canceled"}


def test_unknown_ids(stripe):
    refused(
        lambda: stripe.customers.retrieve("cus_nobody"),
        status=404,
        code="resource_missing",
        param="id",
        message="No such customer: 'cus_nobody'",
    )
    refused(
        lambda: stripe.customers.list({"starting_after": "cus_nobody"}),
        status=400,
        code="resource_missing",
        param="starting_after",
    )


@pytest.mark.parametrize(
    ("method", "path", "params", "expected"),
    [
        ("POST", "/v1/customers", {"foo": "1"}, (400, "parameter_unknown", "foo")),
        ("POST", "/v1/customers", {"address[planet]": "1"}, (400, "parameter_unknown", "address[planet]")),
        ("GET", "/v1/customers", {"limit": "101"}, (400, "parameter_invalid_integer", "limit")),
        ("GET", "/v1/customers", {"limit": "0"}, (400, "parameter_invalid_integer", "limit")),
        ("GET", "/v1/customers", {"limit": "many"}, (400, "parameter_invalid_integer", "limit")),
        ("GET", "/v1/subscriptions", {"status": "alive"}, (400, None, "status")),
        ("GET", "/v1/subscriptions", {"created[after]": "1"}, (400, "parameter_unknown", "created[after]")),
        ("POST", "/v1/products", {}, (400, "parameter_missing", "name")),
        ("POST", "/v1/subscriptions", {}, (400, "parameter_missing", "customer")),
        ("GET", "/v1/account", {"expand[]": "nothing"}, (400, None, "expand")),
        ("GET", "/v1/foo", {}, (404, None, None)),
        ("GET", "/v1/customers/", {}, (404, None, None)),
        ("PUT", "/v1/customers", {}, (405, None, None)),
    ],
)
def test_it_rejects_bad_input(http, method, path, params, expected):
    answer = http(method, path, params)
    error = answer.json().get("error", {})
    assert (answer.status_code, error.get("code"), error.get("param")) == expected
    if error:
        assert error["type"] == "invalid_request_error"


def test_the_words_of_refusals(http):
    assert http("POST", "/v1/customers", {"foo": 1}).json()["error"]["message"] == "Received unknown parameter: foo"
    assert http("GET", "/v1/foo").json()["error"]["message"].startswith("Unrecognized request URL (GET: /v1/foo).")


def test_json_bodies_are_refused(process, control):
    import requests

    answer = requests.post(
        process.url + "/v1/customers", json={}, timeout=5, headers={"Authorization": "Bearer sk_test_sandbox"}
    )
    assert answer.status_code == 400


def test_what_is_not_imitated_says_so(http):
    answer = http("POST", "/v1/customers", {"source": "tok_visa"})
    assert answer.status_code == 501
    assert "does not imitate" in answer.json()["error"]["message"]


def test_paging(stripe):
    made = [stripe.customers.create({"name": str(number)}).id for number in range(7)][::-1]
    first = stripe.customers.list({"limit": 3})
    assert ([one.id for one in first.data], first.has_more) == (made[:3], True)
    second = stripe.customers.list({"limit": 3, "starting_after": made[2]})
    assert [one.id for one in second.data] == made[3:6]
    back = stripe.customers.list({"limit": 3, "ending_before": made[5]})
    assert ([one.id for one in back.data], back.has_more) == (made[2:5], True)
    assert [one.id for one in stripe.customers.list({"limit": 2}).auto_paging_iter()] == made


def test_products_and_prices(stripe, price, events):
    assert stripe.prices.retrieve(price.id).unit_amount == 2000
    assert stripe.prices.list({"product": price.product, "active": True}).data[0].id == price.id
    stripe.prices.update(price.id, {"active": False, "lookup_key": "pro"})
    assert stripe.prices.list({"active": True}).data == []
    assert [one.id for one in stripe.prices.list({"lookup_keys": ["pro"]}).data] == [price.id]
    assert stripe.products.update(price.product, {"name": "Better"}).name == "Better"
    assert events() == ["product.created", "price.created", "price.updated", "product.updated"]


def test_expand(stripe, subscribe):
    subscription = subscribe()
    found = stripe.subscriptions.retrieve(
        subscription.id, {"expand": ["customer", "latest_invoice.payments", "items.data.price.product"]}
    )
    assert found.customer.email == "someone@example.com"
    assert found.latest_invoice.payments.data[0].status == "paid"
    assert found["items"].data[0].price.product.name == "Pro"
    listed = stripe.subscriptions.list({"expand": ["data.customer"]}).data[0]
    assert listed.customer.id == subscription.customer
    customer = stripe.customers.retrieve(subscription.customer, {"expand": ["subscriptions"]})
    assert [one.id for one in customer.subscriptions.data] == [subscription.id]
    refused(lambda: stripe.subscriptions.list({"expand": ["customer"]}), status=400, param="expand")
    refused(lambda: stripe.subscriptions.retrieve(subscription.id, {"expand": ["status"]}), status=400)
    refused(lambda: stripe.subscriptions.list({"expand": ["data.latest_invoice.customer.a.b"]}), status=400)
