"""With --data everything answered survives kill -9."""

import contextlib
import threading
import time

import pytest
import stripe as sdk

from billing_service.sandbox.stripe.control import Control
from tests.sandbox.conftest import Process, connect


@pytest.fixture
def restarted(tmp_path):
    """Starts on the same file; each further call kills the one before."""
    running = []

    def start():
        if running:
            running.pop().kill()
        running.append(Process("--data", str(tmp_path / "stripe.db")))
        return running[0].url

    yield start
    running.pop().stop()


@contextlib.contextmanager
def opened(url):
    with contextlib.closing(Control(url)) as control:
        yield control, connect(url).v1


def test_it_works(restarted):
    with opened(restarted()) as (control, stripe):
        control.advance(86400)
        control.hold()
        endpoint = stripe.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
        customer = stripe.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
        control.seed(1000, ["price_a"])
        changed = stripe.subscriptions.update("sub_1Seed0100000007", {"metadata": {"a": "1"}})
        control.arm("drop", path="/nowhere", times=None)
        control.payment(customer.id, "decline")
        now, held = control.now(), control.deliveries()
        events = [event.id for event in stripe.events.list().data]
    with opened(restarted()) as (control, stripe):
        assert now <= control.now() < now + 60
        assert control.faults()[0]["match"] == {"path": "/nowhere"}
        assert [one["id"] for one in control.deliveries(state="held")] == [one["id"] for one in held]
        assert [event.id for event in stripe.events.list().data] == events
        assert stripe.webhook_endpoints.retrieve(endpoint.id).status == "enabled"
        assert stripe.customers.create({"name": "Ada"}, {"idempotency_key": "k1"}).id == customer.id
        assert stripe.subscriptions.retrieve(changed.id).metadata.a == "1"
        assert len(list(stripe.subscriptions.list({"limit": 100}).auto_paging_iter())) == 1000
        assert control.state()["seeded"] == 1000
        declined = stripe.subscriptions.create({"customer": customer.id, "items": [{"price": "price_a"}]})
        assert declined.status == "incomplete"


def test_checkout_refunds_and_disputes(restarted):
    """What a session will make is not in its answer, and is kept all the same."""
    with opened(restarted()) as (control, stripe):
        once = stripe.prices.create({"currency": "usd", "unit_amount": 500, "product_data": {"name": "Pack"}})
        wanted = {"mode": "payment", "success_url": "https://a.example/", "line_items": [{"price": once.id}]}
        metadata = {"payment_intent_data": {"metadata": {"pack": "1"}}}
        first, second = (stripe.checkout.sessions.create(wanted | metadata) for _ in range(2))
        paid = control.complete_checkout(first.id)
        charge = stripe.payment_intents.retrieve(paid["payment_intent"]).latest_charge
        refund = stripe.refunds.create({"charge": charge, "amount": 100}, {"idempotency_key": "k1"})
        dispute = control.dispute(charge)["id"]
        control.pend_refunds()
    with opened(restarted()) as (control, stripe):
        assert stripe.refunds.create({"charge": charge, "amount": 100}, {"idempotency_key": "k1"}).id == refund.id
        assert stripe.charges.retrieve(charge).amount_refunded == 100
        assert stripe.checkout.sessions.retrieve(first.id).payment_status == "paid"
        later = control.complete_checkout(second.id)["payment_intent"]
        assert stripe.payment_intents.retrieve(later).metadata.pack == "1"
        control.close_dispute(dispute, "won")
        assert stripe.refunds.create({"charge": charge, "amount": 100}).status == "pending"


def test_in_memory_nothing_stays(process, control, stripe):
    stripe.customers.create({})
    control.reset()
    assert stripe.customers.list().data == []
    assert control.state()["offset"] == 0


def test_what_was_answered_under_load_is_there_after_a_kill(tmp_path):
    """Four writers; the process is killed in the midst of them."""
    running = Process("--data", str(tmp_path / "stripe.db"))
    answered: list[str] = []

    def write():
        stripe = connect(running.url).v1
        with contextlib.suppress(sdk.APIConnectionError):
            while True:
                answered.append(stripe.customers.create({"name": "Ada"}).id)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    time.sleep(1)
    running.kill()
    for writer in writers:
        writer.join()
    again = Process("--data", str(tmp_path / "stripe.db"))
    there = {one.id for one in connect(again.url).v1.customers.list({"limit": 100}).auto_paging_iter()}
    again.stop()
    assert len(answered) > 50
    assert set(answered) <= there
