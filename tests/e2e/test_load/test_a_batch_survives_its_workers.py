"""A batch of replays comes to its end, each item once, however often its worker is killed -9."""

import json
import os
import sys
import time
from collections import Counter
from datetime import UTC, datetime

import pytest
import requests
import stripe as sdk
from bson import ObjectId

from billing_service.sandbox.stripe.control import Control
from tests.e2e.test_load.installation import Installation
from tests.e2e.test_load.load import KEY, everything

LONG = os.environ.get("BILLING_TESTS") == "long"
STRIPE_SECONDS = 0.04
URL = "/api/admin/billing/webhook/replay-batch"


@pytest.mark.timeout(300)
def test_a_batch_survives_its_workers(tmp_path, capsys):
    check_kills(tmp_path, capsys, ["worker"] * 2, count=120, seed=3)


@pytest.mark.skipif(not LONG, reason="takes minutes: BILLING_TESTS=long")
@pytest.mark.timeout(1200)
def test_a_batch_survives_everything(tmp_path, capsys):
    """Also mongod and Redis, which once comes back with nothing."""
    kinds = ["worker"] * 5 + ["mongod", "redis:emptied", "worker", "redis", "mongod", "worker"]
    check_kills(tmp_path, capsys, kinds, count=800, seed=4)


def check_kills(folder, capsys, kinds, count, seed):
    with Installation(folder, seed=seed) as installation:
        events = dead_letters(installation, count)
        batch = begin(installation, count)
        killed = carry_out(installation, batch, kinds)
        told = finish(installation, batch, seconds=600 if LONG else 150)
        with capsys.disabled():
            sys.stdout.write(
                f"\n  {count} items, killed: {killed}, attempts at the batch: {stored(installation)['attempt']}\n"
            )
        check(installation, told, events)


def dead_letters(installation, count):
    """Organizations at Stripe whose first event is a dead letter here; the ids of the events, in their order."""
    control = Control(installation.stripe.url)
    control.add_key(key=KEY)
    stripe = sdk.StripeClient(KEY, base_addresses={"api": installation.stripe.url}, max_network_retries=0).v1
    product = stripe.products.create({"name": "Pro"}).id
    terms = {"product": product, "currency": "usd", "unit_amount": 4900, "recurring": {"interval": "month"}}
    price = stripe.prices.create({**terms, "metadata": {"planId": "pro"}}).id
    organizations = [ObjectId() for _ in range(count)]
    for org_id in organizations:
        customer = stripe.customers.create({"metadata": {"organizationId": str(org_id)}}).id
        stripe.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    rows = [{"_id": each, "name": str(each), "slug": str(each), "plan": "free"} for each in organizations]
    installation.database.organizations.insert_many(rows)
    url = f"{installation.stripe.url}/v1/events"
    found = everything(url, type="customer.subscription.created")[::-1]
    installation.database.webhook_events.insert_many([letter(each) for each in found])
    control.arm("delay", method="GET", key="sk_test_sandbox", seconds=STRIPE_SECONDS, times=None)
    return [each["id"] for each in found]


def letter(event):
    now = datetime.now(UTC)
    subject = event["data"]["object"]
    return {
        "event_id": event["id"],
        "type": event["type"],
        "livemode": False,
        "created": datetime.fromtimestamp(event["created"], UTC),
        "received_at": now,
        "dead_at": now,
        "source": "delivery",
        "payload": json.dumps(event),
        "state": "dead",
        "reason": "handler_failed",
        "fingerprint": "ValueError: a bug that was mended",
        "attempts": 5,
        "stripe_customer_id": subject["customer"],
        "stripe_subscription_id": subject["id"],
    }


def begin(installation, count):
    headers = {"Authorization": f"Bearer {installation.run('token', '--role', 'admin')}"}

    def post(query, body):
        answer = requests.post(f"{installation.url}{URL}{query}", json=body, headers=headers, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    chosen = post("?dryRun=true", {})
    assert chosen["count"] == count
    begun = post("", {"selection": chosen["selection"], "confirm": count, "note": "the bug is mended"})
    return lambda: requests.get(f"{installation.url}{begun['statusUrl']}", headers=headers, timeout=10).json()


def carry_out(installation, batch, kinds):
    """Lose a part as soon as the batch has got on since the last time."""
    done = 0
    for kind in kinds:
        wait(installation, lambda least=done: progress(installation) >= least + 10, 120)
        part = installation.kill(kind)
        time.sleep(installation.dice.uniform(0.1, 1.5))
        part.start()
        installation.wait_up()
        done = progress(installation)
    return dict(installation.killed)


def progress(installation):
    return sum(stored(installation)[name] for name in ("succeeded", "failed", "skipped", "refused"))


def stored(installation):
    return installation.database.replay_batches.find_one()


def finish(installation, batch, seconds):
    wait(installation, lambda: batch()["state"] not in ("queued", "running"), seconds)
    return batch()


def wait(installation, question, seconds):
    """Until it holds; the sweep is asked for, which would come by itself within a minute."""
    begun, asked_at = time.monotonic(), 0.0
    while not question():
        installation.assert_up()
        assert time.monotonic() - begun < seconds, stored(installation)
        if time.monotonic() - asked_at > 2:
            installation.enqueue_sweep()
            asked_at = time.monotonic()
        time.sleep(0.1)


def check(installation, told, events):
    database = installation.database
    assert (told["state"], told["succeeded"], told["done"]) == ("succeeded", len(events), len(events)), told
    items = list(database.replay_items.find().sort("position", 1))
    assert [each["event_id"] for each in items] == events
    assert {each["state"] for each in items} == {"succeeded"}
    rows = list(database.webhook_events.find({"event_id": {"$in": events}}, {"history": 1, "replays": 1, "state": 1}))
    assert Counter((each["state"], each["replays"]) for each in rows) == {("succeeded", 1): len(events)}
    # Lines of attempts that died with their worker have no outcome.
    ends = Counter(sum("outcome" in line for line in each["history"]) for each in rows)
    assert ends == {1: len(events)}
    assert {each["plan"] for each in database.organizations.find()} == {"pro"}
    changes = Counter(each["organization"] for each in database.outbox.find({"name": "plan_changed"}))
    assert (len(changes), set(changes.values())) == (len(events), {1})
    assert stored(installation)["attempt"] > len(installation.killed)
