"""The runbook of a customer who says they paid, its commands run against the running product."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import requests
import stripe as sdk
from bson import ObjectId

from billing_service.sandbox.stripe.control import Control

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "customer-says-they-paid.md"
SCRIPTS = re.findall(r"```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL)
SEARCH, CUSTOMER, TIMELINE, SYNC, LINK, VERIFY, OVERVIEW = range(7)


@pytest.fixture(scope="module")
def running(start):
    with start("--no-demo") as it:
        control = Control(it.told["stripeApiBase"])
        # The webhooks are lost: that is why the customer writes.
        control.hold()
        it.stripe = sdk.StripeClient("sk_test_sandbox", base_addresses={"api": it.told["stripeApiBase"]}).v1
        product = it.stripe.products.create({"name": "Pro"}).id
        monthly = {"product": product, "currency": "usd", "unit_amount": 4900, "recurring": {"interval": "month"}}
        it.price = it.stripe.prices.create(monthly | {"metadata": {"planId": "pro"}}).id
        yield it


def organization(running, name):
    org_id = str(ObjectId())
    url = f"{running.url}/api/billing/organizations/{org_id}"
    told = requests.put(url, headers=running.headers, json={"name": name, "slug": f"org-{org_id}"}, timeout=30)
    assert told.status_code == 200
    return org_id


def subscription_of(running, email, **metadata):
    customer = running.stripe.customers.create({"email": email, "metadata": metadata}).id
    return running.stripe.subscriptions.create({"customer": customer, "items": [{"price": running.price}]}).id


def run(running, number, **given):
    """Carry out the runbook's script; what each of its commands answered."""
    variables = {"BASE": f"{running.url}/api/admin/billing", "TOKEN": running.told["adminToken"], **given}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SCRIPTS[number]],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (SCRIPTS[number], done.stdout, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line]


def test_the_runbook_has_these_scripts():
    assert len(SCRIPTS) == OVERVIEW + 1
    assert "/sync/" in SCRIPTS[SYNC]
    assert "/link/" in SCRIPTS[LINK]


def test_a_payment_whose_webhook_was_lost(running):
    org_id = organization(running, "Lost Webhook Ltd")
    first = subscription_of(running, "paid@example.com", organizationId=org_id)
    assert running.post(f"link/{org_id}", {"stripeSubscriptionId": first}).status_code == 200
    running.stripe.subscriptions.cancel(first)
    assert running.sync(org_id).json()["plan"] == "free"
    customer = running.customer(org_id)["live"]["customer"]["id"]
    running.stripe.subscriptions.create({"customer": customer, "items": [{"price": running.price}]})

    [found] = run(running, SEARCH, Q="Paid@example.com")
    assert ([hit["orgId"] for hit in found["items"]], found["strangers"]) == ([org_id], [])
    [shown] = run(running, CUSTOMER, ORG=org_id)
    assert (shown["verdict"], "/sync/" in shown["explanation"]) == ("diverged", True)
    [happened] = run(running, TIMELINE, ORG=org_id)
    assert {item["kind"] for item in happened["items"]} == {"action", "signal"}
    would, did = run(running, SYNC, ORG=org_id)
    assert (would["dryRun"], "dryRun" in did, did["plan"]) == (True, False, "pro")
    verify(running, org_id, "sync", "the customer says they paid")


def test_a_payment_as_a_customer_that_nobody_knows(running):
    org_id = organization(running, "Other Address Inc")
    subscription = subscription_of(running, "private@example.com")

    [found] = run(running, SEARCH, Q="private@example.com")
    assert (found["items"], len(found["strangers"])) == ([], 1)
    [hit] = run(running, SEARCH, Q="other addr")[0]["items"]
    assert hit["orgId"] == org_id
    [shown] = run(running, CUSTOMER, ORG=org_id)
    assert shown["verdict"] == "not_billed"
    would, did = run(running, LINK, ORG=org_id, SUBSCRIPTION=subscription)
    assert (would["dryRun"], "dryRun" in did, did["plan"]) == (True, False, "pro")
    assert run(running, SEARCH, Q="private@example.com")[0]["strangers"] == []
    verify(running, org_id, "link", "paid as another customer")


def verify(running, org_id, action, note):
    shown, happened = run(running, VERIFY, ORG=org_id)
    assert (shown["verdict"], shown["stored"]["plan"]) == ("in_sync", "pro")
    newest = happened["items"][0]["action"]
    assert (newest["action"], newest["note"], newest["outcome"]) == (action, note, "succeeded")


def test_whether_it_happens_to_many(running):
    [figures] = run(running, OVERVIEW)
    assert (figures["events"]["lastDeliveryAt"], figures["redis"]["workers"]) == (None, 1)
