"""One organization at Stripe and here, step by step: what happens there, what reaches us, what of ours fails."""

import contextlib
import json
import random
import time

from bson import ObjectId

from billing_service import subscriptions
from billing_service.documents import Organization, Subscription, WebhookEvent, database_now
from billing_service.documents.webhook_event import FINAL_STATES
from billing_service.errors import BillingError
from billing_service.stripe_gateway import StripeGateway, VerifiedEvent
from billing_service.webhooks import Desk, handle_due, ledger, missed, receive
from tests.property.at_stripe import DAY, OURS, AtStripe
from tests.property.halting import Attempt

# Lag is of the machine's time; of Stripe's time it is never more than the doubt, ten seconds.
LAG = 0.4
LONGEST_LAG = 8
STRIPE_FORGETS = 25 * DAY
VERIFIED_AFTER = 21
READS = r"^/v1/(subscriptions|customers|invoices|checkout)"
LISTS = r"^/v1/subscriptions$"


class World:
    """Steps are methods; the arguments are small numbers and words, so that schedules can be generated."""

    def __init__(self, runtime, control):
        settings = runtime.settings
        self.control, self.plans = control, runtime.plans
        self.org_id = ObjectId()
        Organization(id=self.org_id, name="Org", slug="org", plan="free").save(force_insert=True)
        self.there = AtStripe(control, settings.stripe_api_base, self.org_id)
        self.time = self.there.time
        self.stripe = StripeGateway(
            api_key=OURS,
            api_base=settings.stripe_api_base,
            requests_per_second=1000,
            connect_timeout=1.0,
            read_timeout=5.0,
            monotonic=self.time.monotonic,
            sleep=self.time.skip,
        )
        self.delays = settings.webhook_retry_delays
        self.posted: set[str] = set()
        self.lost: set[str] = set()
        self.attempts: list[Attempt] = []
        self.passed: list[tuple[float, int]] = []
        self.lag_fault: int | None = None
        self.lag_since = 0.0
        self.has_lagged = False
        self.newest_seen: dict[str, int] = {}
        self.missed()  # the first start: from here on nothing is missed

    def step(self, name, *arguments):
        """A step here, or one at Stripe."""
        (getattr(self, name, None) or getattr(self.there, name))(*arguments)

    def asked(self):
        """How many requests the service has sent to Stripe since the last call."""
        found = self.control.requests(key=OURS, limit=1000)["items"]
        self.control.clear_requests()
        return len(found)

    # What is stored.

    @property
    def row(self):
        return Subscription.objects(organization=self.org_id).first()

    @property
    def plan(self):
        return Organization.objects(id=self.org_id).first().plan

    # Time.

    def pass_by(self, seconds):
        """Time passes for everybody: at Stripe, for leases, for events that wait."""
        while seconds > 0:  # Stripe forgets its events after 30 days; the hourly job finds them before
            step = min(seconds, 16 * DAY)
            self._lag_no_longer(step)
            self.time.pass_by(step)
            self.passed.append((time.monotonic(), step))
            self._bring_nearer(step)
            self.there.collect()
            if step > DAY:
                self.missed()
            seconds -= step

    def _bring_nearer(self, seconds):
        for state, name in (("failed", "next_attempt_at"), ("failed", "deferred_since"), ("processing", "lease_until")):
            sooner = {"$subtract": [f"${name}", seconds * 1000]}
            waiting = {"state": state, name: {"$type": "date"}}
            WebhookEvent._get_collection().update_many(waiting, [{"$set": {name: sooner}}])

    def lose_leases(self):
        """Who holds an event has been away for longer than a lease."""
        gone = {"state": "processing"}
        WebhookEvent._get_collection().update_many(gone, [{"$set": {"lease_until": {"$subtract": ["$$NOW", 1000]}}}])

    # What reaches us.

    def post(self, event_id, *, old=False):
        event = self.there.letter(event_id, old=old)
        self.posted.add(event_id)
        receive(VerifiedEvent(event), json.dumps(event).encode(), livemode=False, now=self.time.now())

    def event(self, event_id):
        return WebhookEvent.objects(event_id=event_id).first()

    def waiting(self):
        return [each for each in self.there.collect() if each not in self.posted | self.lost]

    def deliver(self, which, old=False):
        """Any event so far, for the first time or again."""
        if found := self.there.collect():
            self.post(found[which % len(found)], old=old)

    def deliver_newest(self, how_many=1, old=False):
        """The newest ones that were not delivered, the newest first."""
        for each in self.waiting()[: -how_many - 1 : -1]:
            self.post(each, old=old)

    def deliver_all(self, order=0):
        """All that were not delivered: in order (0), the other way round (-1) or shuffled."""
        for each in arranged(self.waiting(), order):
            self.post(each)

    def lose(self, how_many=1):
        """The newest ones never arrive; the missed-events job finds them."""
        self.lost |= set(self.waiting()[-how_many:])

    def missed(self):
        with contextlib.suppress(BillingError):
            missed.read_on(self.stripe, livemode=False, stop=lambda: False, received=lambda: None)

    # What we do.

    def desk(self, stripe=None, clock=None):
        return Desk(stripe or self.stripe, self.plans, self.delays, clock or self.time.now)

    def handle(self):
        handle_due(self.desk(), stop=lambda: False)

    def tell(self, old=False):
        """The newest event arrives at once and alone."""
        self.deliver_newest(1, old)
        self.handle()

    def tell_all(self, order=0, one_by_one=False):
        for each in arranged(self.waiting(), order):
            self.post(each)
            if one_by_one:
                self.handle()
        self.handle()

    def told_at_once(self, change, old=False):
        """Something happens at Stripe, and its newest event is here in the same moment."""
        self.step(*change)
        self.tell(old)

    def told_while_reads_lag(self, changes, order=0, lists=False):
        """All is told and handled while Stripe's reads do not show it yet."""
        self.lag(lists)
        for each in changes:
            self.step(*each)
        self.tell_all(order)
        self.catch_up()

    def overtaken(self, what, stops_at, before, change, order=0):
        """Something of ours stands still while something happens at Stripe and is told, then goes on."""
        self.step(*before)
        self.deliver_all(order)
        self.begin(what, stops_at)
        self.step(*change)
        self.deliver_all(order)
        self.sync()
        self.let_all_go_on()

    def sync(self):
        with contextlib.suppress(BillingError):  # refused by name; nothing was written
            subscriptions.sync(self.org_id, stripe=self.stripe, plans=self.plans, now=self.time.now())

    def verify(self):
        with contextlib.suppress(BillingError):
            subscriptions.verify_due(stripe=self.stripe, plans=self.plans, now=self.time.now())

    def begin(self, what, stops_at):
        """Something of ours begins and stops after so many of its encounters with Stripe and the clock."""
        if len(self.attempts) < 4:
            self.attempts.append(Attempt(getattr(self, f"_{what}_with"), self.stripe, self.time.now, stops_at))

    def _handle_with(self, stripe, clock):
        handle_due(self.desk(stripe, clock), stop=lambda: False)

    def _sync_with(self, stripe, clock):
        subscriptions.sync(self.org_id, stripe=stripe, plans=self.plans, now=clock())

    def _verify_with(self, stripe, clock):
        subscriptions.verify_due(stripe=stripe, plans=self.plans, now=clock())

    def go_on(self):
        """The attempt that has stood still for longest goes on to its end."""
        if self.attempts:
            self.attempts.pop(0).go_on()

    # What Stripe does to our requests.

    def fail(self, kind, times, after=0, lists=False):
        more = {"seconds": 0.1} if kind == "delay" else {}
        self.control.arm(kind, method="GET", path=LISTS if lists else READS, key=OURS, times=times, after=after, **more)

    def lag(self, lists=False):
        """From now on reads show what was: all of it younger than the doubt."""
        if self.lag_fault is None:
            self.has_lagged = True
            while self._passed_since(time.monotonic() - LAG) > LONGEST_LAG:
                time.sleep(0.01)
            self.lag_since = time.monotonic() - LAG
            path = LISTS if lists else READS
            self.lag_fault = self.control.arm("lag", path=path, key=OURS, seconds=LAG, times=None)["id"]

    def _passed_since(self, moment):
        return sum(step for at, step in self.passed if at > moment)

    def _lag_no_longer(self, step):
        if self.lag_fault is not None and self._passed_since(self.lag_since) + step > LONGEST_LAG:
            self.catch_up()

    def catch_up(self):
        """Reads do not lag any more."""
        if self.lag_fault is not None:
            self.control.disarm(self.lag_fault)
            self.lag_fault = None

    # The end.

    def settle(self, order=0):
        """Stripe is well; what was not delivered comes or is listed, what waits is due, rows are verified."""
        self.control.disarm()
        self.lag_fault = None
        self.stripe.circuit.succeeded()
        self.time.skip(60)
        self.lose_leases()
        while True:
            self.pass_by(2)
            self._bring_all_to_an_end(order)
            self.pass_by(VERIFIED_AFTER)
            self.verify()
            if set(self.there.collect()) <= set(WebhookEvent.objects.scalar("event_id")):
                break  # else billing went on meanwhile

    def _bring_all_to_an_end(self, order):
        forgotten = self.there.newest_created - STRIPE_FORGETS
        for each in arranged(self.there.collect(), order):
            if each not in self.posted and (each not in self.lost or self.there.events[each]["created"] < forgotten):
                self.post(each)
        self.missed()
        for _ in range(len(self.delays) + 2):
            WebhookEvent.objects(state="failed").update(set__next_attempt_at=database_now())
            # Stripe was away for more than three days as the events have it: an admin replays what died of that.
            for each in WebhookEvent.objects(state="dead", reason="outage"):
                ledger.ask_replay(each, actor="ada", states=("dead",))
            self.handle()
            if not WebhookEvent.objects(state__nin=FINAL_STATES).count():
                break

    def let_all_go_on(self):
        """Whoever stood still believes that nothing has happened meanwhile."""
        while self.attempts:
            self.go_on()

    def abandon(self):
        """Nothing of this world may go on in the next one."""
        while self.attempts:
            self.attempts.pop().die()


def arranged(events, order):
    """The events in order (0), the other way round (-1), or shuffled in one of many ways."""
    found = list(events)
    if order > 0:
        random.Random(order).shuffle(found)
    return found[::-1] if order == -1 else found
