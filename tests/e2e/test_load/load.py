"""Load as Stripe makes it: changes at the sandbox, and their events delivered until they are answered 2xx."""

import hashlib
import heapq
import hmac
import itertools
import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

import requests
import stripe as sdk

PLANS = ("starter", "pro", "business")
# Not the service's own: what is done here must not meet what is done to it.
KEY = "sk_test_customers_at_stripe"
SENDERS = 12
ENDED = ("canceled", "incomplete_expired")


def everything(url: str, **wanted) -> list[dict]:
    """All objects of a list at Stripe, newest first."""
    found: list[dict] = []
    while True:
        after = {"starting_after": found[-1]["id"]} if found else {}
        query = {"limit": 100, **wanted, **after}
        answer = requests.get(url, query, headers={"Authorization": f"Bearer {KEY}"}, timeout=10)
        answer.raise_for_status()
        page = answer.json()
        found += page["data"]
        if not page["has_more"]:
            return found


class Customers:
    """What customers and admins do at Stripe: one subscription at a time each, changed at random."""

    def __init__(self, base: str, organizations: list[str], dice: random.Random):
        self.dice = dice
        self.control = f"{base}/_control"
        self.stripe = sdk.StripeClient(KEY, base_addresses={"api": base}, max_network_retries=0).v1
        product = self.stripe.products.create({"name": "Plans"}).id
        self.prices = {plan: self._price(product, plan) for plan in PLANS}
        # Half are named by the customer's metadata, half by each subscription's.
        self.metadata, self.organizations = {}, {}
        for org_id in organizations:
            named, nothing = {"organizationId": org_id}, {}
            of_customer, of_subscription = dice.choice([(named, nothing), (nothing, named)])
            customer = self.stripe.customers.create({"metadata": of_customer}).id
            self.metadata[customer], self.organizations[customer] = of_subscription, org_id
        self.held = {}
        # Those that nobody changes.
        self.settled: dict[str, str] = {}

    def _price(self, product: str, plan: str) -> str:
        terms = {"currency": "usd", "unit_amount": 4900, "recurring": {"interval": "month"}}
        return self.stripe.prices.create({"product": product, "metadata": {"planId": plan}, **terms}).id

    def change_one(self) -> None:
        """One change of one customer; some do nothing at Stripe."""
        customer = self.dice.choice(list(self.organizations))
        held = self.held.get(customer)
        if held is None or held.status in ENDED:
            self.held[customer] = self.subscribe(customer)
        elif held.status == "incomplete":
            self.held[customer] = self.stripe.subscriptions.cancel(held.id)
        else:
            acts = [self.switch] * 6 + [self.toggle] * 3 + [self.bill_anew] + [self.cancel]
            self.held[customer] = self.dice.choice(acts)(customer, held)

    def subscribe(self, customer: str):
        self.pays(customer, self.dice.random() < 0.85)
        items = [{"price": self.prices[self.dice.choice(PLANS)]}]
        wanted = {"customer": customer, "items": items, "metadata": self.metadata[customer]}
        return self.stripe.subscriptions.create(wanted)

    def switch(self, customer: str, held):
        item = {"id": held["items"].data[0].id, "price": self.prices[self.dice.choice(PLANS)]}
        return self.stripe.subscriptions.update(held.id, {"items": [item], "proration_behavior": "none"})

    def toggle(self, customer: str, held):
        return self.stripe.subscriptions.update(held.id, {"cancel_at_period_end": not held.cancel_at_period_end})

    def bill_anew(self, customer: str, held):
        """A new period, paid or not: past_due and out of it again."""
        self.pays(customer, held.status == "past_due" or self.dice.random() < 0.4)
        wanted = {"billing_cycle_anchor": "now", "proration_behavior": "none"}
        return self.stripe.subscriptions.update(held.id, wanted)

    def cancel(self, customer: str, held):
        return self.stripe.subscriptions.cancel(held.id)

    def pays(self, customer: str, succeeds: bool) -> None:
        outcome = {"outcome": "succeed" if succeeds else "decline"}
        requests.post(f"{self.control}/customers/{customer}/payment", json=outcome, timeout=10).raise_for_status()


class Load:
    """Delivers every event of the sandbox, out of order, some twice, at a steady rate; remembers what came back.

    `accepted` are the ids of events that were answered 2xx; from then on they are the service's to keep. With several
    addresses any of them gets a delivery, as behind a balancer that has not noticed yet who is away.
    """

    def __init__(self, urls: list[str], secret: str, base: str, customers: Customers, rate: float, dice: random.Random):
        self.urls, self.secret, self.base = urls, secret.encode(), base
        self.customers, self.rate, self.dice = customers, rate, dice
        self.lock = threading.Lock()
        self.bodies: dict[str, bytes] = {}
        self.accepted: Counter = Counter()
        self.answers: Counter = Counter()
        # When each delivery that was accepted was sent, and when it was answered.
        self.accepted_at: list[tuple[float, float]] = []
        self.letters: list = []
        self.numbers = itertools.count()
        self.in_flight = 0
        self.slot = time.monotonic()
        self.newest: str | None = None
        self.changing, self.sending = threading.Event(), threading.Event()
        self.workers: list[Future] = []

    def __enter__(self) -> "Load":
        self.pool = ThreadPoolExecutor(SENDERS + 1)
        self.workers = [self.pool.submit(self._change), *(self.pool.submit(self._send) for _ in range(SENDERS))]
        return self

    def __exit__(self, *error) -> None:
        self.changing.set()
        self.sending.set()
        self.pool.shutdown()

    def watch(self) -> None:
        """Raise what ended one of the threads."""
        for each in self.workers:
            if each.done():
                each.result()

    def finish(self, seconds: float) -> None:
        """No more changes; returns when everything was answered 2xx, at the latest at the deadline."""
        self.changing.set()
        self.workers.pop(0).result()
        self._collect()
        deadline = time.monotonic() + seconds
        while self._waiting() and time.monotonic() < deadline:
            self.watch()
            time.sleep(0.05)
        assert not self._waiting(), f"{self._waiting()} deliveries were not answered 2xx: {dict(self.answers)}"

    def _waiting(self) -> int:
        with self.lock:
            return len(self.letters) + self.in_flight

    def _change(self) -> None:
        while not self.changing.is_set():
            # A second's worth ahead, so that the order of delivery can be mixed.
            if self.slot > time.monotonic() + 1:
                time.sleep(0.02)
                continue
            self.customers.change_one()
            self._collect()

    def _collect(self) -> None:
        """Take the events that are new at Stripe, and address each once or twice."""
        if self.newest is None:
            self._address(everything(f"{self.base}/v1/events"))
        more = True
        while more:
            query, headers = {"limit": 100, "ending_before": self.newest}, {"Authorization": f"Bearer {KEY}"}
            answer = requests.get(f"{self.base}/v1/events", query, headers=headers, timeout=10)
            answer.raise_for_status()
            self._address(answer.json()["data"])
            more = answer.json()["has_more"]

    def _address(self, newest_first: list[dict]) -> None:
        with self.lock:
            for event in reversed(newest_first):
                self.newest = event["id"]
                assert self.newest not in self.bodies
                self.bodies[self.newest] = json.dumps(event).encode()
                self.slot = max(self.slot, time.monotonic()) + 1 / self.rate
                self._post(self.slot + self.dice.uniform(0, 2), self.newest)
                if self.dice.random() < 0.15:
                    self._post(self.slot + self.dice.choice([0, 0, 1, 6]), self.newest)

    def _post(self, at: float, event_id: str) -> None:
        heapq.heappush(self.letters, (at, next(self.numbers), event_id))

    def _send(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not self.sending.is_set():
                letter = self._next_letter()
                if letter is None:
                    time.sleep(0.01)
                    continue
                sent_at = time.monotonic()
                answered = self._deliver(session, letter)
                with self.lock:
                    self._note(letter, answered, sent_at)

    def _next_letter(self) -> str | None:
        with self.lock:
            if not self.letters or self.letters[0][0] > time.monotonic():
                return None
            self.in_flight += 1
            return heapq.heappop(self.letters)[2]

    def _deliver(self, session: requests.Session, event_id: str) -> str:
        body, stamp = self.bodies[event_id], int(time.time())
        mac = hmac.new(self.secret, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        headers = {"Stripe-Signature": f"t={stamp},v1={mac}", "Content-Type": "application/json; charset=utf-8"}
        try:
            return str(session.post(random.choice(self.urls), data=body, headers=headers, timeout=10).status_code)
        except requests.RequestException as error:
            return type(error).__name__

    def _note(self, event_id: str, answered: str, sent_at: float) -> None:
        self.in_flight -= 1
        self.answers[answered] += 1
        if answered.startswith("2"):
            self.accepted[event_id] += 1
            self.accepted_at.append((sent_at, time.monotonic()))
        else:  # Stripe sends it again, only later than this
            self._post(time.monotonic() + self.dice.uniform(0.5, 4), event_id)
