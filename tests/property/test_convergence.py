"""Whatever happens at Stripe, in whatever order it is told, twice or not at all: the row ends as Stripe has it.

A schedule is a list of steps: changes at Stripe, deliveries of any event so far, repairs, faults. When it is over
every event is delivered (again) and all that waits is handled; then the two truths are compared.
"""

import contextlib
import hashlib
import hmac
import json
import os
import time
from datetime import timedelta

import pytest
import stripe as sdk
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_service import subscriptions
from billing_service.documents import Organization, OutboxSignal, Subscription, WebhookEvent
from billing_service.errors import BillingError
from billing_service.subscriptions.selection import choose
from billing_service.subscriptions.statuses import LIVE, PAID_UP
from billing_service.webhooks import Desk, handle_due

LONG = os.environ.get("BILLING_TESTS") == "long"
SCHEDULES = 2_000 if LONG else 50
PLANS = ("starter", "pro", "business")

CHANGES = st.one_of(
    st.tuples(st.just("subscribe"), st.sampled_from(PLANS)),
    st.tuples(st.just("change"), st.integers(0, 3), st.sampled_from(PLANS)),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("cancel_later"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("fail_payment")),
    st.tuples(st.just("pass_time"), st.sampled_from([1, 5, 15, 40 * 86_400])),
)
STEPS = st.one_of(
    CHANGES,
    CHANGES,
    st.tuples(st.just("deliver"), st.integers(0, 30)),
    st.tuples(st.just("deliver"), st.integers(0, 30)),
    st.tuples(st.just("handle")),
    st.tuples(st.just("sync")),
    st.tuples(st.just("told_early"), st.integers(0, 3), st.sampled_from(PLANS)),
    st.tuples(st.just("fault"), st.sampled_from(["error", "drop", "rate_limited", "lock_timeout"])),
)


class World:
    """One organization at Stripe and here."""

    def __init__(self, app, sandbox, base):
        self.app, self.sandbox, self.base = app, sandbox, base
        self.runtime = app.extensions["billing"]
        # Faults meet the service's key; what happens at Stripe meanwhile is done with another one.
        key = sandbox.add_key(key="sk_test_somebody_at_stripe")
        self.stripe = sdk.StripeClient(key, base_addresses={"api": base}, max_network_retries=0).v1
        self.sent: dict[str, str] = {}
        self.org_id = ObjectId()
        Organization(id=self.org_id, name="Org", slug="org", plan="free").save(force_insert=True)
        self.customer = self.stripe.customers.create({"metadata": {"organizationId": str(self.org_id)}}).id
        product = self.stripe.products.create({"name": "p"}).id
        self.prices = {
            plan: self.stripe.prices.create(
                {
                    "product": product,
                    "currency": "usd",
                    "unit_amount": 100,
                    "recurring": {"interval": "month"},
                    "metadata": {"planId": plan},
                }
            ).id
            for plan in PLANS
        }

    def all(self):
        return self.stripe.subscriptions.list({"customer": self.customer, "status": "all", "limit": 100}).data

    def open(self):
        return [each for each in self.all() if each.status not in ("canceled", "incomplete_expired")]

    def step(self, name, *arguments):
        getattr(self, name)(*arguments)

    def subscribe(self, plan):
        if len(self.all()) < 4:
            self.stripe.subscriptions.create({"customer": self.customer, "items": [{"price": self.prices[plan]}]})

    def change(self, which, plan):
        found = self.open()
        if found:
            it = found[which % len(found)]
            item = {"id": it["items"].data[0].id, "price": self.prices[plan]}
            self.stripe.subscriptions.update(it.id, {"items": [item], "proration_behavior": "none"})

    def cancel(self, which):
        found = self.open()
        if found:
            self.stripe.subscriptions.cancel(found[which % len(found)].id)

    def cancel_later(self, which, wanted):
        found = self.open()
        if found:
            self.stripe.subscriptions.update(found[which % len(found)].id, {"cancel_at_period_end": wanted})

    def fail_payment(self):
        self.sandbox.payment(self.customer, "decline")
        self.pass_time(32 * 86_400)
        self.sandbox.payment(self.customer, "succeed")

    def pass_time(self, seconds):
        while seconds > 0:  # Stripe forgets its events after 30 days; its deliveries have them
            self.sandbox.advance(min(seconds, 16 * 86_400))
            self.collect()
            seconds -= 16 * 86_400

    def collect(self):
        for each in self.stripe.events.list({"limit": 100}).auto_paging_iter():
            if each.type.startswith("customer.subscription."):
                self.sent.setdefault(each.id, json.dumps(each.to_dict(), default=str))

    def deliver(self, which):
        self.collect()
        if self.sent:
            self.post(list(self.sent)[which % len(self.sent)])

    def post(self, event_id):
        body = self.sent[event_id].encode()
        secret = self.runtime.settings.stripe_webhook_secrets[0].encode()
        stamp = int(time.time())
        mac = hmac.new(secret, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        answer = self.app.test_client().post(
            "/api/billing/webhook",
            data=body,
            headers={"Stripe-Signature": f"t={stamp},v1={mac}"},
            content_type="application/json",
        )
        assert answer.status_code == 200, answer.text

    def handle(self):
        desk = Desk(self.runtime.stripe, self.runtime.plans, (0, 0, 0, 0), self.runtime.clock)
        deadline = time.monotonic() + 20
        handle_due(desk, stop=lambda: time.monotonic() > deadline)

    def sync(self):
        with contextlib.suppress(BillingError):  # refused by name; nothing was written
            subscriptions.sync(
                self.org_id, stripe=self.runtime.stripe, plans=self.runtime.plans, now=self.runtime.clock()
            )

    def fault(self, kind):
        self.sandbox.arm(kind, method="GET", path=r"/v1/subscriptions", key="sk_test_sandbox", times=1)

    def told_early(self, which, plan):
        """A change whose event is handled while Stripe's reads still lag behind it."""
        self.collect()
        for event_id in self.sent:
            self.post(event_id)
        self.handle()
        time.sleep(0.3)
        self.change(which, plan)
        armed = self.sandbox.arm("lag", path=r"/v1/subscriptions", key="sk_test_sandbox", seconds=0.3, times=None)
        self.deliver(-1)
        self.handle()
        self.sandbox.disarm(armed["id"])

    def settle(self):
        """Stripe is well again, everything is delivered, everything that waits is due."""
        self.sandbox.disarm()
        self.runtime.stripe.circuit.succeeded()
        self.runtime.redis.client().flushall()
        self.collect()
        for event_id in self.sent:
            self.post(event_id)
        for _ in range(20):
            WebhookEvent.objects(state="failed").update(set__next_attempt_at=self.runtime.clock())
            self.handle()
            if not WebhookEvent.objects(state__nin=("succeeded", "dead", "closed")).count():
                break
        later = max([self.runtime.clock(), *(row.verify_at for row in Subscription.objects(verify_at__ne=None))])
        subscriptions.verify_due(stripe=self.runtime.stripe, plans=self.runtime.plans, now=later + timedelta(seconds=1))

    def check(self):
        states = {each.event_id: (each.state, each.reason, each.outcome) for each in WebhookEvent.objects}
        assert set(states.values()) <= {("succeeded", None, "applied")}, states
        live = [self.runtime.stripe.subscription(each.id).value for each in self.all()]
        expected = choose(live)
        row = Subscription.objects(organization=self.org_id).first()
        organization = Organization.objects(id=self.org_id).first()
        if expected is None:
            assert row is None
            return
        plan = self.runtime.plans.resolve(expected.items).plan
        assert (row.stripe_subscription_id, row.status) == (expected.id, expected.status)
        assert row.price_id == expected.items[0].price_id
        assert row.current_period_end == expected.current_period_end
        assert row.cancel_at_period_end == expected.cancel_at_period_end
        assert row.plan == organization.plan == (plan if expected.status in LIVE else "free")
        if expected.status in PAID_UP | {"past_due"}:
            assert bool(row.past_due_since) == (expected.status == "past_due")
        transitions = [(each.version, each.name) for each in OutboxSignal.objects(subscription=row.pk)]
        assert len(transitions) == len(set(transitions))


@pytest.mark.timeout(7200)  # the long run takes a quarter of an hour
@settings(
    max_examples=SCHEDULES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(schedule=st.lists(STEPS, min_size=1, max_size=14))
def test_any_schedule_ends_where_stripe_ends(wired, servers, sandbox, schedule):
    with wired.app_context():
        empty_everything(wired, sandbox)
        world = World(wired, sandbox, servers.stripe.url)
        world.step("subscribe", "pro")
        for step in schedule:
            world.step(*step)
        world.settle()
        world.check()


def empty_everything(wired, sandbox):
    from mongoengine.connection import get_db

    database = get_db()
    for name in database.list_collection_names():
        database[name].delete_many({})
    sandbox.reset()
    sandbox.hold()
    wired.extensions["billing"].stripe.circuit.succeeded()
    wired.extensions["billing"].redis.client().flushall()
