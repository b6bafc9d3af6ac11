"""The verification of a cancel under each fault of Stripe, against the running product, through its own address."""

import subprocess
import sys
import time

import pytest
import requests
import stripe as sdk
from bson import ObjectId

from billing_service.sandbox.stripe.control import Control

QUICK = {"STRIPE_READ_TIMEOUT": "1.0", "CANCEL_VERIFY_SECONDS": "1.5"}
ASK = {"method": "DELETE", "path": r"/v1/subscriptions/sub_"}
RETRIEVE = {"method": "GET", "path": r"/v1/subscriptions/sub_"}


@pytest.fixture(scope="module")
def running(start):
    with start("--no-demo", **QUICK) as it:
        it.sandbox = Control(it.told["stripeApiBase"])
        it.sandbox.hold()
        # Faults meet the service's key; what happens at Stripe meanwhile is done with another one.
        key = it.sandbox.add_key(key="sk_test_somebody_at_stripe")
        it.stripe = sdk.StripeClient(key, base_addresses={"api": it.told["stripeApiBase"]}, max_network_retries=0).v1
        product = it.stripe.products.create({"name": "Pro"}).id
        it.price = it.stripe.prices.create(
            {
                "product": product,
                "currency": "usd",
                "unit_amount": 4900,
                "recurring": {"interval": "month"},
                "metadata": {"planId": "pro"},
            }
        ).id
        yield it


@pytest.fixture
def customer(running):
    """An organization with a live subscription, linked; faults are over and the circuit is closed when it begins."""
    running.sandbox.disarm()
    time.sleep(1.1)  # an open circuit lets one probe through each second
    org_id = ObjectId()
    url = f"{running.url}/api/billing/organizations/{org_id}"
    told = requests.put(url, headers=running.headers, json={"name": "Org", "slug": f"org-{org_id}"}, timeout=30)
    assert told.status_code == 200
    customer_id = running.stripe.customers.create({"metadata": {"organizationId": str(org_id)}}).id
    subscription = subscribe(running, customer_id)
    linked = running.post(f"link/{org_id}", {"stripeSubscriptionId": subscription})
    assert linked.status_code == 200, linked.text
    return org_id, customer_id, subscription


def subscribe(running, customer_id):
    return running.stripe.subscriptions.create({"customer": customer_id, "items": [{"price": running.price}]}).id


def arm(running, kind, **match):
    return running.sandbox.arm(kind, key="sk_test_sandbox", **match)


def cancel(running, org_id, body=None, **headers):
    answer = running.post(f"cancel/{org_id}", body, **headers)
    return answer.status_code, answer.json().get("code"), answer.json()


def stored(running, org_id):
    row = running.customer(org_id)["stored"]
    return row["status"], row["plan"]


def test_refused_by_stripe(running, customer):
    org_id, _, subscription = customer
    body = {"error": {"type": "invalid_request_error", "message": "No, not this one."}}
    arm(running, "error", status=400, body=body, times=1, **ASK)
    assert cancel(running, org_id)[:2] == (422, "stripe_rejected")
    assert stored(running, org_id) == ("active", "pro")
    assert running.stripe.subscriptions.retrieve(subscription).status == "active"


def test_timed_out_before_the_effect_and_followed_up(running, customer):
    org_id, _, subscription = customer
    arm(running, "timeout_before", seconds=2, times=1, **ASK)
    assert cancel(running, org_id)[:2] == (502, "cancel_unverified")
    assert stored(running, org_id) == ("active", "pro")
    running.stripe.subscriptions.cancel(subscription)  # it comes late: the follow-up of the next minutes sees it
    deadline = time.monotonic() + 150
    while stored(running, org_id) != ("canceled", "free"):
        assert time.monotonic() < deadline
        time.sleep(1)


def test_timed_out_after_the_effect(running, customer):
    org_id, _, _ = customer
    arm(running, "timeout_after", seconds=2, times=1, **ASK)
    status, _, answer = cancel(running, org_id)
    assert (status, answer["verified"], answer["stripeStatus"]) == (200, True, "canceled")
    assert stored(running, org_id) == ("canceled", "free")


def test_a_retrieve_that_fails_once(running, customer):
    org_id, _, _ = customer
    arm(running, "error", status=500, times=1, after=1, **RETRIEVE)
    assert cancel(running, org_id)[0] == 200
    assert stored(running, org_id) == ("canceled", "free")


def test_a_retrieve_that_fails_always_and_the_same_key_afterwards(running, customer):
    org_id, _, _ = customer
    fault = arm(running, "error", status=500, times=None, after=1, **RETRIEVE)
    key = {"Idempotency-Key": f"key-{org_id}"}
    assert cancel(running, org_id, **key)[:2] == (502, "cancel_unverified")
    running.sandbox.disarm(fault["id"])
    time.sleep(1.1)
    assert stored(running, org_id) == ("active", "pro")
    assert cancel(running, org_id, **key)[0] == 200
    assert stored(running, org_id) == ("canceled", "free")


def test_already_canceled(running, customer):
    org_id, _, subscription = customer
    running.stripe.subscriptions.cancel(subscription)
    assert cancel(running, org_id)[0] == 200
    assert stored(running, org_id) == ("canceled", "free")


def test_the_customer_deleted(running, customer):
    org_id, customer_id, _ = customer
    running.stripe.customers.delete(customer_id)
    assert cancel(running, org_id)[0] == 200
    assert stored(running, org_id) == ("canceled", "free")


def test_the_subscription_unknown(running, customer):
    org_id, _, subscription = customer
    running.sandbox.remove(subscription)
    assert cancel(running, org_id)[0] == 200
    assert stored(running, org_id) == ("canceled", "free")


def test_nothing_is_proven_without_the_customer(running, customer):
    org_id, customer_id, subscription = customer
    running.sandbox.remove(subscription)
    running.sandbox.remove(customer_id)
    assert cancel(running, org_id)[:2] == (409, "missing_unproven")
    assert stored(running, org_id) == ("active", "pro")


def test_two_live_subscriptions(running, customer):
    org_id, customer_id, subscription = customer
    second = subscribe(running, customer_id)
    status, code, answer = cancel(running, org_id)
    assert (status, code) == (409, "several_live_subscriptions")
    assert {each["id"] for each in answer["subscriptions"]} == {subscription, second}
    assert cancel(running, org_id, {"stripeSubscriptionId": second})[0] == 200
    assert stored(running, org_id) == ("active", "pro")


def test_stripe_away_altogether(running, customer):
    org_id, _, _ = customer
    arm(running, "drop", times=None)
    status, code, _ = cancel(running, org_id)
    assert (status, code) in {(502, "stripe_unavailable"), (503, "stripe_circuit_open")}
    shown = running.customer(org_id)
    assert (shown["verdict"], shown["live"], shown["stored"]["plan"]) == ("stripe_unavailable", None, "pro")


def test_a_key_of_another_account_is_refused_at_the_start(running, customer):
    other = running.sandbox.add_account(id="acct_stranger", key="sk_test_stranger")
    told = running.told
    done = subprocess.run(
        [sys.executable, "-m", "billing_service.cli", "web", "--port", "1"],
        env={
            "MONGODB_URI": told["mongodbUri"],
            "REDIS_URL": told["redisUrl"],
            "STRIPE_SECRET_KEY": other["key"],
            "STRIPE_API_BASE": told["stripeApiBase"],
            "STRIPE_WEBHOOK_SECRETS": told["webhookSecret"],
            "JWT_SECRET_KEY": "x" * 64,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "acct_stranger" in done.stderr
