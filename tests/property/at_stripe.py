"""What people and time do at Stripe, and Stripe's clock, by which everybody lives here. Nothing of ours is called."""

import contextlib
import json
import math
import time
from datetime import UTC, datetime

import stripe as sdk

from billing_service.sandbox.stripe.control import ControlError

OURS = "sk_test_sandbox"
PLANS = ("starter", "pro", "business")
ENDED = ("canceled", "incomplete_expired")
OLD_VERSION = "2024-06-20"
TYPES = (
    "checkout.session.completed",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.updated",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_succeeded",
)
DAY = 86_400
SUBSCRIPTIONS = 5


class Time:
    """The clock of Stripe and of the service. Seconds begin when they are told to: what happens between two
    `pass_by` happens in the same one, unless the machine is very slow."""

    def __init__(self, control):
        self.control = control
        self.offset = 0.0
        self.skipped = 0.0

    def now(self):
        exact = datetime.fromtimestamp(time.time() + self.offset, UTC)
        return exact.replace(microsecond=exact.microsecond // 1000 * 1000)

    def pass_by(self, seconds):
        # The request takes time as well, on a busy machine more than a second, and this clock never goes back.
        for _ in range(5):
            target = math.floor(time.time() + self.offset + 0.05) + seconds
            with contextlib.suppress(ControlError):
                self.offset = self.control.set_clock(target)["offset"]
                return
        raise AssertionError("the clock cannot be set in time")

    def monotonic(self):
        return time.monotonic() + self.offset + self.skipped

    def skip(self, seconds):
        """What a pause between two requests is here: it takes no time."""
        self.skipped += seconds


class AtStripe:
    """One organization's side of a Stripe account, changed with a key that the service's faults do not meet."""

    def __init__(self, control, base, org_id):
        self.control, self.org_id = control, str(org_id)
        key = control.add_key(key="sk_test_somebody_at_stripe")
        self.client = sdk.StripeClient(key, base_addresses={"api": base}, max_network_retries=0)
        self.time = Time(control)
        self.time.pass_by(1)
        self.events: dict[str, dict] = {}
        self.newest_created = 0
        self.quantity = 1
        self.endpoint = self.ask(
            "post",
            "/v1/webhook_endpoints",
            url="http://127.0.0.1:9/held",
            enabled_events=list(TYPES),
            api_version=OLD_VERSION,
        )
        product = self.ask("post", "/v1/products", name="Plans")["id"]
        self.prices = {plan: self._price(product, plan) for plan in PLANS}
        self.customers = [self.ask("post", "/v1/customers", metadata={"organizationId": self.org_id})["id"]]
        self.deleted: set[str] = set()

    def ask(self, method, path, **params):
        return self.client.raw_request(method, path, **params).data

    def _price(self, product, plan):
        monthly = {"interval": "month"}
        wish = {"product": product, "currency": "usd", "unit_amount": 100, "recurring": monthly}
        return self.ask("post", "/v1/prices", **wish, metadata={"planId": plan})["id"]

    # What there is.

    def subscription(self, subscription):
        return self.ask("get", f"/v1/subscriptions/{subscription}")

    def subscriptions(self):
        """All of them, of all customers, as Stripe's JSON."""
        found = [
            self.ask("get", "/v1/subscriptions", customer=each, status="all", limit=100) for each in self.customers
        ]
        return [each for page in found for each in page["data"]]

    def open(self):
        return [each for each in self.subscriptions() if each["status"] not in ENDED]

    def one_of(self, which):
        """The which-th of those that have not ended, the oldest first; None if there is none."""
        found = sorted(self.open(), key=lambda each: (each["created"], each["id"]))
        return found[which % len(found)] if found else None

    def has_room(self):
        return len(self.subscriptions()) < SUBSCRIPTIONS

    def collect(self):
        """Take note of the events since the last time; returns all, the oldest first."""
        found, after = [], {}
        while True:
            query = {"limit": 100, "types": list(TYPES), "created": {"gte": self.newest_created}}
            page = self.ask("get", "/v1/events", **query, **after)
            found += page["data"]
            if not page["has_more"]:
                break
            after = {"starting_after": page["data"][-1]["id"]}
        for each in reversed(found):
            self.events.setdefault(each["id"], each)
            self.newest_created = max(self.newest_created, each["created"])
        return list(self.events)

    def letter(self, event_id, *, old=False):
        """The event as JSON, in the current shape or that of an endpoint of an old version."""
        if not old:
            return self.events[event_id]
        [sent] = self.control.deliveries(event=event_id)
        return json.loads(sent["body"])

    # What happens.

    def subscribe(self, plan, **more):
        if self.customers[0] in self.deleted or not self.has_room():
            return None
        items = [{"price": self.prices[plan]}]
        return self.ask("post", "/v1/subscriptions", customer=self.customers[0], items=items, **more)["id"]

    def check_out(self, plan, marker):
        """Checkout makes another customer; the organization is named by the session, the subscription or both."""
        if len(self.customers) > 2 or not self.has_room():
            return None
        named = {"organizationId": self.org_id}
        session = self.ask(
            "post",
            "/v1/checkout/sessions",
            mode="subscription",
            success_url="https://example.com/thanks",
            line_items=[{"price": self.prices[plan], "quantity": 1}],
            metadata=named if marker != "subscription" else {},
            subscription_data={"metadata": named if marker != "session" else {}},
        )
        done = self.control.complete_checkout(session["id"])
        self.customers.append(done["customer"])
        return done["subscription"]

    def try_out(self, plan, ending):
        """A trial of a week; `ending` is what Stripe does when nobody left a payment method."""
        behavior = {"end_behavior": {"missing_payment_method": ending}}
        return self.subscribe(plan, trial_period_days=7, trial_settings=behavior)

    def begin_unpaid(self, plan):
        self.pay_with("decline")
        made = self.subscribe(plan)
        self.pay_with("succeed")
        return made

    def pay_with(self, outcome):
        """What all cards do from now on: succeed, decline, or none is there."""
        for each in self.customers:
            if each not in self.deleted:
                self.control.payment(each, outcome)

    def change(self, which, plan=None):
        """Another plan perhaps, and a quantity larger than any before: it tells an older picture from a newer one."""
        if it := self.one_of(which):
            self.quantity += 1
            item = {"id": it["items"]["data"][0]["id"], "quantity": self.quantity}
            item |= {"price": self.prices[plan]} if plan else {}
            self.update(it["id"], items=[item], proration_behavior="none")

    def update(self, subscription, **params):
        self.ask("post", f"/v1/subscriptions/{subscription}", **params)

    def remark(self, which, words):
        if it := self.one_of(which):
            self.update(it["id"], metadata={"remark": words})

    def cancel(self, which):
        if it := self.one_of(which):
            self.end(it["id"])

    def end(self, subscription):
        self.ask("delete", f"/v1/subscriptions/{subscription}")

    def cancel_later(self, which, wanted):
        if it := self.one_of(which):
            self.update(it["id"], cancel_at_period_end=wanted)

    def pay(self, which):
        """The customer pays the latest invoice by hand, if it is open."""
        it = self.one_of(which)
        invoice = self.ask("get", f"/v1/invoices/{it['latest_invoice']}") if it and it["latest_invoice"] else None
        if invoice and invoice["status"] == "open":
            with contextlib.suppress(sdk.CardError):
                self.ask("post", f"/v1/invoices/{invoice['id']}/pay")

    def delete_customer(self, which):
        alive = [each for each in self.customers if each not in self.deleted]
        if alive:
            gone = alive[which % len(alive)]
            self.ask("delete", f"/v1/customers/{gone}")
            self.deleted.add(gone)
