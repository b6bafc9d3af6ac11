"""Whatever is bought, used, refunded, disputed, credited, expired and settled, in whatever order it is told, twice,
late or by somebody who dies of it: the books agree with themselves after each step, and with Stripe at the end.
"""

import os
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from billing_service.documents import LedgerEntry
from tests.property.shop import PACKS, Shop

LONG = os.environ.get("BILLING_TESTS") == "long"
EXAMPLES, STEPS = (600, 40) if LONG else (12, 20)

which = st.integers(0, 5)
tenths = st.integers(1, 10)


class Extras(RuleBasedStateMachine):
    """Random sequences of steps of a shop. Each rule does enough for a short sequence to come far."""

    def __init__(self, make):
        super().__init__()
        self.shop = make()

    @initialize(
        packs=st.lists(st.integers(0, len(PACKS) - 1), min_size=1, max_size=2),
        told=st.booleans(),
        ids=st.integers(0, 9),
    )
    def begin_with_packs(self, packs, told, ids):
        self.shop.seed(ids)
        for pack in packs:
            self.shop.buy(pack, "paid", 0)
        if told:
            self.tell_all(backwards=False)

    @rule(pack=st.integers(0, len(PACKS) - 1), discount=st.sampled_from([0, 1, 3]))
    def buy(self, pack, discount):
        self.shop.buy(pack, "paid", discount)

    @rule(pack=st.integers(0, len(PACKS) - 1), outcome=st.sampled_from([None, "succeed", "fail"]), told=st.booleans())
    def buy_and_pay_later(self, pack, outcome, told):
        self.shop.buy(pack, "unpaid", 0)
        if told:
            self.tell_all(backwards=False)
        if outcome:
            self.shop.end_payment(-1, outcome)

    @rule(charge=which, part=tenths, pending=st.booleans())
    def refund(self, charge, part, pending):
        self.shop.refund(charge, part, pending)

    @rule(refund=which, outcome=st.sampled_from(["succeed", "fail", "fail"]), told=st.booleans())
    def end_refund(self, refund, outcome, told):
        if told:
            self.tell_all(backwards=False)
        self.shop.end_refund(refund, outcome)

    @rule(charge=which, part=tenths)
    def dispute(self, charge, part):
        self.shop.dispute(charge, part)

    @rule(dispute=which, outcome=st.sampled_from(["won", "won", "lost"]), part=st.sampled_from([None, 3, 10, 10]))
    def end_dispute(self, dispute, outcome, part):
        self.shop.close(dispute, outcome)
        if part:
            self.tell_all(backwards=True)
            self.shop.credit(dispute, part)

    @rule(backwards=st.booleans())
    def tell_all(self, backwards):
        self.shop.deliver_all(backwards)
        self.shop.handle()

    @rule(event=st.integers(0, 30), new=st.booleans(), handled=st.booleans())
    def deliver(self, event, new, handled):
        (self.shop.deliver if new else self.shop.deliver_again)(event)
        if handled:
            self.shop.handle(later=True)

    @rule(event=st.integers(0, 30))
    def handle_again(self, event):
        self.shop.handle_again(event)

    @rule(told=st.booleans(), calls=st.integers(1, 4))
    def die(self, told, calls):
        if told:
            self.shop.deliver_all(backwards=False)
        self.shop.die(calls)

    @rule(stops_at=st.integers(1, 8), loses_leases=st.booleans())
    def begin(self, stops_at, loses_leases):
        self.shop.deliver_all(backwards=False)
        self.shop.begin(stops_at)
        if loses_leases:
            self.shop.lose_leases()

    @rule()
    def go_on(self):
        self.shop.go_on()

    @rule(key=st.integers(0, 6), units=st.sampled_from([1, 30, 45, 400]))
    def use(self, key, units):
        self.shop.use(key, units)

    @rule(days=st.sampled_from([0, 1, 3, 8]), dies_after=st.integers(0, 2), resets=st.booleans())
    def nights(self, days, dies_after, resets):
        self.shop.pass_by(days)
        if resets:
            self.shop.reset_week()
        self.shop.expire(dies_after)

    @invariant()
    def the_books_agree(self):
        self.shop.check()

    def teardown(self):
        self.shop.settle(backwards=len(self.shop.sessions) % 2 == 0)


@pytest.mark.timeout(7200)  # the long run takes a while
def test_no_sequence_breaks_the_books(wired, sandbox):
    with wired.app_context():
        run_state_machine_as_test(
            lambda: Extras(lambda: Shop(wired.extensions["billing"], sandbox)),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_the_same_steps_come_to_the_same(wired, sandbox):
    """Neither the time nor the ids of what is made are in what comes out: what fails once fails again."""

    def books():
        shop = Shop(wired.extensions["billing"], sandbox)
        shop.seed(3)
        for pack in (0, 0):
            shop.buy(pack, "paid", 0)
        shop.refund(0, 1, pending=False)
        shop.refund(1, 2, pending=True)
        shop.refund(1, 3, pending=False)
        shop.dispute(0, 7)
        shop.deliver_all(backwards=True)
        shop.handle()
        shop.handle(later=True)
        shop.begin(stops_at=6)
        shop.end_refund(0, "fail")
        shop.use(2, 45)
        shop.handle_again(0)
        shop.close(0, "won")
        shop.settle(backwards=True)
        shop.credit(0, 10)
        shop.pass_by(3)
        shop.expire(1)
        shop.check()
        names = ("kind", "units", "remaining", "amount", "charge", "session", "at", "expires_at")
        return [[getattr(each, name) for name in names] for each in LedgerEntry.objects.order_by("id")]

    with wired.app_context():
        told = [books(), time.sleep(1.1), books()]
    assert told[0] == told[2]
    assert {each[0] for each in told[0]} == {"topup", "refund", "refund_reversed", "debit", "adjustment", "expiration"}
