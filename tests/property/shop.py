"""One organization that buys packs of extras, uses them, and gets its money back; Stripe's side and ours."""

import contextlib
import hashlib
import json
from datetime import UTC, datetime, timedelta

import requests
import stripe as sdk
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service import extras, usage
from billing_service.documents import (
    EPOCH,
    LedgerEntry,
    Organization,
    Subscription,
    WebhookEvent,
    week_start,
)
from billing_service.errors import BillingError, UsageMismatch
from billing_service.plans import Pack, Plan, Plans
from billing_service.sandbox.stripe.control import ControlError
from billing_service.stripe_gateway import StripeGateway, VerifiedEvent
from billing_service.webhooks import Desk, handle_due, receive
from tests.property.extras_books import check_books
from tests.property.halting import Attempt

# Units and prices that do not divide, and a pack of which a cent is less than a unit.
PACKS = (
    Pack("tiny", 7, "price_tiny", 300, "usd", 2),
    Pack("odd", 1_000, "price_odd", 999, "usd", 10),
    Pack("big", 50, "price_big", 4_900, "usd", 300),
)
PLANS = Plans((Plan("free", "Free", 40, (), 0),), PACKS, hashlib.sha256(b"").hexdigest())
OF_MONEY = ("checkout.session.", "refund.", "charge.refunded", "charge.dispute.")
USED = ("ledger_entries", "extra_balances", "usage_weeks", "usage_records", "webhook_events", "outbox")
OWN = "sk_test_sandbox"
# Longer than any test: what fails is only tried again when a step says so.
LATER = (10**6,) * 4


class Died(BaseException):
    """The end of whoever was at work."""


class Shop:
    """Steps are methods with small numbers as arguments: which one, how much."""

    def __init__(self, runtime, control):
        for name in (*USED, "organizations", "subscriptions", "findings", "refund_requests"):
            get_db()[name].delete_many({})
        control.reset()
        control.hold()
        self.control, self.base = control, runtime.settings.stripe_api_base
        self.sdk = sdk.StripeClient(OWN, base_addresses={"api": self.base}, max_network_retries=0).v1
        # Neither time nor chance is in it, so the same steps always come to the same: each shop opens on a Monday.
        self.begun_at = week_start(datetime.now(UTC)) + timedelta(days=7)
        control.stop_clock(self.begun_at.timestamp() + 0.5)
        self.stripe = StripeGateway(
            api_key=OWN, api_base=self.base, requests_per_second=1000, connect_timeout=1.0, read_timeout=5.0
        )
        self.org_id = ObjectId()
        Organization(id=self.org_id, name="Org", slug="org", plan="free").save(force_insert=True)
        Subscription(organization=self.org_id, plan="free", version=1).save(force_insert=True)
        self.days = 0
        self.prices, self.sessions = {}, []
        self.posted, self.letters, self.listed = set(), {}, set()
        self.attempts = []
        self.recorded = {}

    def clock(self):
        return self.begun_at + timedelta(days=self.days)

    def seed(self, ids):
        """What is made at Stripe gets ids in an order of its own for each seed."""
        self.control.seed_ids(ids)

    # At Stripe

    def buy(self, which, outcome, discount):
        """A session that is paid at once, for nothing, or later."""
        pack = PACKS[which]
        metadata = {"organizationId": str(self.org_id), "kind": "extras", "packId": pack.id}
        wanted = {"mode": "payment", "success_url": "https://example.org/thanks", "metadata": metadata}
        wanted |= {"line_items": [{"price": self._price(pack), "quantity": 1}]}
        session = self.sdk.checkout.sessions.create(wanted | {"payment_intent_data": {"metadata": metadata}}).id
        if discount:
            self.control.patch(session, {"amount_total": pack.amount - pack.amount // discount})
        free = discount == 1
        self.control.complete_checkout(session, "no_payment_required" if free else outcome)
        self.sessions.append((session, pack))

    def _price(self, pack):
        if pack.id not in self.prices:
            product = self.sdk.products.create({"name": pack.id}).id
            wanted = {"product": product, "currency": pack.currency, "unit_amount": pack.amount}
            self.prices[pack.id] = self.sdk.prices.create(wanted).id
        return self.prices[pack.id]

    def end_payment(self, which, outcome):
        if self.sessions:
            with contextlib.suppress(ControlError):
                self.control.settle_checkout(self.sessions[which % len(self.sessions)][0], outcome)

    def charges(self):
        return self.sdk.charges.list({"limit": 100}).data[::-1]

    def refund(self, which, part, pending):
        """A part (in tenths, ten: what is left) of a charge, unless Stripe refuses."""
        if charges := self.charges():
            charge = charges[which % len(charges)]
            if pending:
                self.control.pend_refunds()
            amount = {} if part == 10 else {"amount": max(1, charge.amount * part // 10)}
            with contextlib.suppress(sdk.StripeError):
                self.sdk.refunds.create({"charge": charge.id, **amount})

    def end_refund(self, which, outcome):
        if found := self.sdk.refunds.list({"limit": 100}).data:
            with contextlib.suppress(ControlError):
                self.control.settle_refund(found[which % len(found)].id, outcome)

    def dispute(self, which, part):
        if charges := self.charges():
            charge = charges[which % len(charges)]
            with contextlib.suppress(ControlError):
                self.control.dispute(charge.id, amount=max(1, charge.amount * part // 10))

    def close(self, which, outcome):
        if found := self.sdk.disputes.list({"limit": 100}).data:
            with contextlib.suppress(ControlError):
                self.control.close_dispute(found[which % len(found)].id, outcome)

    # What reaches us

    def collect(self):
        """What was not posted yet, the oldest first."""
        found = []
        for page in self._pages():
            found += page
            if self.listed & {each["id"] for each in page}:
                break
        self.listed |= {each["id"] for each in found}
        self.letters |= {each["id"]: each for each in found[::-1] if each["type"].startswith(OF_MONEY)}
        return [each for each in self.letters if each not in self.posted]

    def _pages(self):
        """Stripe's events, the newest first."""
        wanted, page = {"limit": 100}, {"has_more": True}
        while page["has_more"]:
            page = requests.get(f"{self.base}/v1/events", wanted, auth=(OWN, ""), timeout=10).json()
            yield page["data"]
            wanted["starting_after"] = page["data"][-1]["id"] if page["data"] else None

    def deliver(self, which):
        if waiting := self.collect():
            self._post(waiting[which % len(waiting)])

    def deliver_all(self, backwards):
        for each in self.collect()[:: -1 if backwards else 1]:
            self._post(each)

    def deliver_again(self, which):
        if self.posted:
            self._post(self._in_order(self.posted)[which % len(self.posted)])

    def _in_order(self, event_ids):
        return [each for each in self.letters if each in event_ids]

    def _post(self, event_id):
        event = self.letters[event_id]
        self.posted.add(event_id)
        receive(VerifiedEvent(event), json.dumps(event).encode(), livemode=False, now=datetime.now(UTC))

    # Ours

    def desk(self, stripe=None, clock=None):
        return Desk(stripe or self.stripe, PLANS, LATER, clock or self.clock, metered=True)

    def handle(self, *, later=False):
        if later:
            waiting = WebhookEvent.objects(state="failed")
            waiting.update(unset__next_attempt_at=True)
        handle_due(self.desk(), stop=lambda: False)

    def handle_again(self, which):
        """A replay by force of an event that was handled."""
        done = self._in_order(set(WebhookEvent.objects(state="succeeded").scalar("event_id")))
        if done:
            WebhookEvent.objects(event_id=done[which % len(done)]).update_one(set__state="received")
            self.handle()

    def die(self, calls):
        """A worker that dies at its n-th look at the clock, which is while it books."""
        left = [calls]

        def clock():
            left[0] -= 1
            if left[0] == 0:
                raise Died
            return self.clock()

        with contextlib.suppress(Died):
            handle_due(self.desk(clock=clock), stop=lambda: False)
        self.lose_leases()

    def begin(self, stops_at):
        """A worker that stops at its n-th request to Stripe, until it goes on with what it has seen."""
        if len(self.attempts) < 2:

            def work(stripe, _):
                handle_due(self.desk(stripe=stripe), stop=lambda: False)

            self.attempts.append(Attempt(work, self.stripe, self.clock, stops_at))

    def go_on(self):
        if self.attempts:
            self.attempts.pop(0).go_on()

    def lose_leases(self):
        gone = {"state": "processing"}
        WebhookEvent._get_collection().update_many(gone, [{"$set": {"lease_until": {"$subtract": ["$$NOW", 1000]}}}])

    def use(self, key, units):
        key, before = f"key-{key}", LedgerEntry.objects.filter(kind="debit").count()
        is_new = key not in self.recorded
        told = {"plans": PLANS, "now": self.clock(), "metered": True}
        try:
            usage.record(self.org_id, key, units, **told)
        except UsageMismatch:
            assert self.recorded[key] != units
            assert LedgerEntry.objects.filter(kind="debit").count() == before
        else:
            assert self.recorded.setdefault(key, units) == units
            ended = extras.find_ended([self.org_id], self.clock())
            assert not is_new or not list(ended), "what is over can be used"

    def expire(self, dies_after):
        """The daily job; it may die after so many lots."""
        left = [dies_after]

        def stop():
            left[0] -= 1
            if left[0] == 0:
                raise Died
            return False

        with contextlib.suppress(Died):
            assert extras.expire(extras.Expired(EPOCH), now=self.clock(), stop=stop).counts["failed"] == 0

    def reset_week(self):
        done = usage.reset_due(usage.Reset(), plans=PLANS, now=self.clock(), stop=lambda: False)
        assert done.counts["failed"] == 0

    def pass_by(self, days):
        self.days += days

    def credit(self, which, part):
        """An admin gives a dispute back, if it was won."""
        if found := self.sdk.disputes.list({"limit": 100}).data:
            dispute = found[which % len(found)]
            wanted = extras.Wanted(dispute.charge, max(1, dispute.amount * part // 10), f"credit-{part}-{dispute.id}")
            told = {"actor": "ada", "note": None, "also": lambda outcome: None}
            with contextlib.suppress(BillingError):
                extras.credit_dispute(self.org_id, wanted, stripe=self.stripe, now=self.clock(), **told)

    # What has to hold

    def check(self):
        check_books(self.org_id, self.recorded)

    def settle(self, backwards):
        """All go on, everything is told and handled."""
        while self.attempts:
            self.go_on()
        self.lose_leases()
        self.deliver_all(backwards)
        for _ in range(3):
            self.handle(later=True)
        left = [(each.type, each.state, each.reason) for each in WebhookEvent.objects(state__ne="succeeded")]
        assert left == []
        self.check()
        self.compare()

    def compare(self):
        """The ledger says of each session what Stripe does."""
        entries = {each.ref: each for each in LedgerEntry.objects}
        paid = {}
        for session_id, pack in self.sessions:
            session = self.sdk.checkout.sessions.retrieve(session_id)
            credited = entries.get(f"topup:{session_id}")
            assert (session.payment_status != "unpaid") == (credited is not None)
            if credited:
                assert credited.units == pack.units
                paid[session.payment_intent] = credited
        assert len([each for each in entries if each.startswith("topup:")]) == len(paid) or None in paid
        for charge in self.charges():
            if charge.status == "succeeded":
                self._compare_charge(charge, paid[charge.payment_intent], entries)

    def _compare_charge(self, charge, lot, entries):
        gone = credits = 0
        for refund in self.sdk.refunds.list({"charge": charge.id, "limit": 100}).data:
            failed = refund.status in ("failed", "canceled")
            took, gave = f"refund:{refund.id}" in entries, f"refund_reversed:{refund.id}" in entries
            assert took == gave if failed else (took, gave) == (True, False), refund.status
            gone += 0 if failed else refund.amount
        for dispute in self.sdk.disputes.list({"charge": charge.id, "limit": 100}).data:
            credit = entries.get(f"dispute_credit:{dispute.id}")
            if f"dispute:{dispute.id}" in entries or dispute.status != "won":
                gone += dispute.amount - (credit.amount if credit else 0)
            credits += credit is not None and credit.amount < dispute.amount
        mine = [each for each in entries.values() if each.payment_intent == lot.payment_intent]
        back = -sum(each.units for each in mine if each.kind not in ("topup", "expiration"))
        over = -sum(each.units for each in mine if each.kind == "expiration")
        wanted = lot.units * min(gone, charge.amount) // charge.amount
        # A credit of a part is rounded down; what expired is not taken again.
        assert min(wanted, lot.units - over) <= back <= wanted + credits
