"""Events as Stripe signs and delivers them, and a subscription at Stripe to make them of."""

import hashlib
import hmac
import itertools
import json
import time

import pytest
import requests

from billing_service.documents import WebhookEvent
from billing_service.jobs import wakeups
from billing_service.webhooks import Desk, handle_due

LIFE = tuple(f"customer.subscription.{word}" for word in ("created", "updated", "deleted"))
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def redis_may_be_asked():
    """What an earlier test taught this process about Redis is over."""
    wakeups.silence.end()


@pytest.fixture
def signed(runtime):
    """Makes the Stripe-Signature header of a body."""

    def make(body, *, at=None, secret=None):
        stamp = int(at or time.time())
        key = (secret or runtime.settings.stripe_webhook_secrets[0]).encode()
        return f"t={stamp},v1={hmac.new(key, f'{stamp}.'.encode() + body, hashlib.sha256).hexdigest()}"

    return make


@pytest.fixture
def deliver(app, signed):
    """Posts an event, signed unless a header is given; returns the answer."""

    def post(event, *, header=None, content_type="application/json; charset=utf-8"):
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        headers = {"Stripe-Signature": header if header is not None else signed(body)}
        return app.test_client().post("/api/billing/webhook", data=body, headers=headers, content_type=content_type)

    return post


@pytest.fixture
def event_of():
    """Makes an event around an object, as thin as the endpoint accepts it."""

    def make(kind="customer.subscription.updated", subject=None, **members):
        number = next(_numbers)
        subject = subject or {"object": "subscription", "id": f"sub_T{number}", "customer": f"cus_T{number}"}
        return {
            "id": f"evt_T{number:08d}",
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": int(time.time()) - 1,
            "livemode": False,
            "type": kind,
            "data": {"object": subject},
        } | members

    return make


@pytest.fixture
def desk(runtime):
    return Desk(
        stripe=runtime.stripe,
        plans=runtime.plans,
        retry_delays=runtime.settings.webhook_retry_delays,
        clock=runtime.clock,
    )


@pytest.fixture
def subscribed(stripe, runtime):
    """Makes a subscription at Stripe, of a new customer unless one is given."""

    def make(organization=None, *, customer=None, price="price_pro_monthly", customer_organization=None, **params):
        if price not in {each.id for each in stripe.prices.list({"limit": 100}).data}:
            product = stripe.products.create({"name": price})
            requests.post(
                f"{runtime.settings.stripe_api_base}/_control/seed", json={"count": 1, "prices": [price]}, timeout=10
            ).raise_for_status()
            assert product.id
        metadata = {"organizationId": str(customer_organization)} if customer_organization else {}
        customer = customer or stripe.customers.create({"metadata": metadata}).id
        metadata = {"organizationId": str(organization)} if organization else {}
        return stripe.subscriptions.create(
            {"customer": customer, "items": [{"price": price}], "metadata": metadata, **params}
        )

    return make


@pytest.fixture
def events_at_stripe(runtime):
    """All events that Stripe has, as JSON, oldest first."""

    def read(*types):
        answer = requests.get(
            f"{runtime.settings.stripe_api_base}/v1/events?limit=100",
            headers={"Authorization": f"Bearer {runtime.settings.stripe_secret_key}"},
            timeout=10,
        )
        found = answer.json()["data"][::-1]
        return [each for each in found if not types or each["type"] in types]

    return read


@pytest.fixture
def arrive(deliver, events_at_stripe):
    """Delivers the events that Stripe has of these types (by default those of a subscription's life); returns their
    ids, oldest first.
    """

    def send(*types):
        events = events_at_stripe(*(types or LIFE))
        assert events, f"Stripe has no event of {types}"
        assert all(deliver(each).status_code == 200 for each in events)
        return [each["id"] for each in events]

    return send


@pytest.fixture
def run(app, desk):
    """Handles what is due now, and what waits for a later time as well."""

    def handled(*, later=False):
        if later:
            WebhookEvent.objects(state="failed").update(unset__next_attempt_at=True)
        return handle_due(desk, stop=lambda: False)

    return handled


@pytest.fixture
def row():
    """The ledger's row of an event, by its id."""
    return lambda event_id: WebhookEvent.objects(event_id=event_id).first()


@pytest.fixture
def pack(stripe, sandbox):
    """A finished Checkout Session for a pack of extras, of the sample plan file unless told otherwise."""

    def make(org_id, *, outcome=None, customer=None, amount=4_900, quantity=1, pack_id="pack_100k", **more):
        metadata = {"organizationId": str(org_id) if org_id else None, "kind": "extras", "packId": pack_id}
        metadata = {name: value for name, value in metadata.items() if value}
        price = stripe.prices.create(
            {
                "product": stripe.products.create({"name": "Pack"}).id,
                "currency": more.pop("currency", "usd"),
                "unit_amount": amount,
            }
        ).id
        wanted = {
            "mode": "payment",
            "line_items": [{"price": price, "quantity": quantity}],
            "success_url": "https://example.org/thanks",
            "metadata": metadata,
            "payment_intent_data": {"metadata": metadata},
        }
        paid = more.pop("paid", None)
        session = stripe.checkout.sessions.create(wanted | more | ({"customer": customer} if customer else {}))
        if paid is not None:  # a discount
            sandbox.patch(session.id, {"amount_total": paid})
        sandbox.complete_checkout(session.id, outcome)
        return stripe.checkout.sessions.retrieve(session.id)

    return make


@pytest.fixture
def charge_of(stripe):
    """The charge that a session's payment made."""
    return lambda session: stripe.charges.list({"payment_intent": session.payment_intent}).data[0]


@pytest.fixture
def ends(row):
    """State, outcome and reason of events, each once."""
    return lambda ids: {(row(each).state, row(each).outcome, row(each).reason) for each in ids}
