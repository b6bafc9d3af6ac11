"""Whatever is bought, used, refunded, disputed, credited, expired and settled, in whatever order it is told, twice,
late or by somebody who dies of it: the books agree with themselves after each step, and with Stripe at the end.
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.property.shop import PACKS, Shop

LONG = os.environ.get("BILLING_TESTS") == "long"
EXAMPLES, STEPS = (600, 40) if LONG else (10, 20)

which = st.integers(0, 5)
tenths = st.integers(1, 10)


class Extras(RuleBasedStateMachine):
    """Random sequences of steps of a shop."""

    def __init__(self, make):
        super().__init__()
        self.shop = make()

    @rule(pack=st.integers(0, len(PACKS) - 1), outcome=st.sampled_from(["paid", "paid", "unpaid"]))
    def buy(self, pack, outcome):
        self.shop.buy(pack, outcome, 0)

    @rule(pack=st.integers(0, len(PACKS) - 1), discount=st.sampled_from([1, 3]))
    def buy_for_less(self, pack, discount):
        self.shop.buy(pack, "paid", discount)

    @rule(session=which, outcome=st.sampled_from(["succeed", "fail"]))
    def end_payment(self, session, outcome):
        self.shop.end_payment(session, outcome)

    @rule(charge=which, part=tenths, pending=st.booleans())
    def refund(self, charge, part, pending):
        self.shop.refund(charge, part, pending)

    @rule(refund=which, outcome=st.sampled_from(["succeed", "fail", "fail"]))
    def end_refund(self, refund, outcome):
        self.shop.end_refund(refund, outcome)

    @rule(charge=which, part=tenths)
    def dispute(self, charge, part):
        self.shop.dispute(charge, part)

    @rule(dispute=which, outcome=st.sampled_from(["won", "lost"]))
    def close(self, dispute, outcome):
        self.shop.close(dispute, outcome)

    @rule(dispute=which, part=st.sampled_from([3, 10]))
    def credit(self, dispute, part):
        self.shop.credit(dispute, part)

    @rule(event=st.integers(0, 30))
    def deliver(self, event):
        self.shop.deliver(event)

    @rule(backwards=st.booleans(), handled=st.booleans())
    def deliver_all(self, backwards, handled):
        self.shop.deliver_all(backwards)
        if handled:
            self.shop.handle()

    @rule(event=st.integers(0, 30))
    def deliver_again(self, event):
        self.shop.deliver_again(event)

    @rule(later=st.booleans())
    def handle(self, later):
        self.shop.handle(later=later)

    @rule(event=st.integers(0, 30))
    def handle_again(self, event):
        self.shop.handle_again(event)

    @rule(calls=st.integers(1, 4))
    def die(self, calls):
        self.shop.die(calls)

    @rule(stops_at=st.integers(1, 8))
    def begin(self, stops_at):
        self.shop.begin(stops_at)

    @rule()
    def go_on(self):
        self.shop.go_on()

    @rule()
    def lose_leases(self):
        self.shop.lose_leases()

    @rule(key=st.integers(0, 6), units=st.sampled_from([1, 30, 45, 400]))
    def use(self, key, units):
        self.shop.use(key, units)

    @rule(dies_after=st.integers(0, 2))
    def expire(self, dies_after):
        self.shop.expire(dies_after)

    @rule()
    def reset_week(self):
        self.shop.reset_week()

    @rule(days=st.sampled_from([1, 3, 8]))
    def pass_by(self, days):
        self.shop.pass_by(days)

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
