"""Who may call, and how often."""

import pytest
import stripe as sdk

from tests.sandbox import openapi
from tests.sandbox.conftest import connect


def test_it_works_with_bearer_and_basic(process, stripe):
    import requests

    assert stripe.accounts.retrieve_current().id == "acct_sandbox"
    answer = requests.get(process.url + "/v1/account", auth=("sk_test_sandbox", ""), timeout=5)
    assert answer.json()["id"] == "acct_sandbox"


def test_it_needs_a_key(process, http):
    answer = http("GET", "/v1/customers", key="sk_test_wrong_key")
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "Invalid API Key provided: sk_test_" in answer.json()["error"]["message"]
    assert "wrong" not in answer.text
    with pytest.raises(sdk.AuthenticationError):
        connect(process.url, "sk_test_nobody").v1.customers.list()


def test_a_restricted_key_needs_the_permission(process, control, stripe):
    key = control.add_key(permissions={"customers": "read"})
    assert key.startswith("rk_test_")
    restricted = connect(process.url, key).v1
    assert restricted.customers.list().data == []
    with pytest.raises(sdk.PermissionError, match="rak_customer_write"):
        restricted.customers.create({"name": "x"})
    with pytest.raises(sdk.PermissionError, match="rak_subscription_read"):
        restricted.subscriptions.list()


def test_what_is_expanded_needs_its_own_permission(process, control, subscribe):
    subscribe()
    one = connect(process.url, control.add_key(permissions={"subscriptions": "read"})).v1
    assert len(one.subscriptions.list().data) == 1
    with pytest.raises(sdk.PermissionError, match="rak_customer_read"):
        one.subscriptions.list({"expand": ["data.customer"]})
    both = connect(process.url, control.add_key(permissions={"subscriptions": "read", "customers": "read"})).v1
    assert both.subscriptions.list({"expand": ["data.customer"]}).data[0].customer.object == "customer"


def test_the_permissions_of_checkout_refunds_and_disputes(process, control, stripe):
    def calls(**permissions):
        restricted = connect(process.url, control.add_key(permissions=permissions)).v1
        return restricted.checkout.sessions.list, restricted.refunds.list, restricted.disputes.list

    for call, name in zip(calls(), ("checkout_session", "charge", "dispute"), strict=True):
        with pytest.raises(sdk.PermissionError, match=f"rak_{name}_read"):
            call()
    for call in calls(checkout_sessions="read", charges="read", disputes="write"):
        assert call().data == []
    with pytest.raises(sdk.PermissionError, match="rak_charge_read"):
        calls(charges="read", refunds="none")[1]()


def test_another_account_sees_nothing_of_the_first(process, control, stripe, subscribe):
    subscription = subscribe()
    other = control.add_account()
    theirs = connect(process.url, other["key"]).v1
    assert theirs.accounts.retrieve_current().id == other["id"] != "acct_sandbox"
    assert theirs.subscriptions.list().data == []
    for read in (
        lambda: theirs.subscriptions.retrieve(subscription.id),
        lambda: theirs.customers.retrieve(subscription.customer),
    ):
        with pytest.raises(sdk.InvalidRequestError) as caught:
            read()
        assert caught.value.http_status == 404
        assert caught.value.code == "resource_missing"
    with pytest.raises(sdk.PermissionError):
        stripe.accounts.retrieve(other["id"])


def test_payments_of_another_account_are_not_there(process, control, stripe, subscribe):
    charge = stripe.charges.list({"customer": subscribe().customer}).data[0].id
    refund = stripe.refunds.create({"charge": charge, "amount": 1}).id
    dispute = control.dispute(charge)["id"]
    other = control.add_account()
    theirs = connect(process.url, other["key"]).v1
    assert theirs.refunds.list().data == theirs.disputes.list().data == []
    for read in (
        lambda: theirs.charges.retrieve(charge),
        lambda: theirs.refunds.retrieve(refund),
        lambda: theirs.disputes.retrieve(dispute),
        lambda: theirs.refunds.create({"charge": charge}),
    ):
        with pytest.raises(sdk.InvalidRequestError) as caught:
            read()
        assert caught.value.code == "resource_missing"
    control.pend_refunds(account=other["id"])
    assert stripe.refunds.list().data[0].status == "succeeded"


def test_rate_limit(control, stripe, http):
    control.settings(rate_limit_reads=3)
    answers = [http("GET", "/v1/customers") for _ in range(10)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused[0].headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    assert refused[0].json()["error"]["code"] == "rate_limit"
    stripe.customers.create({})


def test_date_and_request_id_are_of_the_sandbox(control, http):
    control.advance(10 * 86400)
    answer = http("GET", "/v1/account")
    from email.utils import parsedate_to_datetime

    assert abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - control.now()) <= 2
    assert answer.headers["Request-Id"].startswith("req_")
    assert answer.headers["Stripe-Version"] == "2026-10-28.endive"


def test_a_price_of_live_mode_is_out_of_a_test_keys_reach(control, stripe, http, price):
    control.patch(price.id, {"livemode": True})
    with pytest.raises(sdk.InvalidRequestError) as caught:
        stripe.prices.retrieve(price.id)
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (404, "resource_missing", "price")
    assert "a similar object exists in live mode, but a test mode key was used" in str(caught.value)
    assert openapi.object_problems(http("GET", f"/v1/prices/{price.id}").json(), "error") == []
