"""The budget of one process under a clock that only sleeping moves; Redis is in the integration tests."""

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from billing_service.errors import StripeRateLimited
from billing_service.stripe_gateway.bucket import Bucket
from billing_service.stripe_gateway.budget import SHARES, Budget


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def budget_of(clock, rate=10.0, redis=None, **kwargs):
    return Budget(rate, redis, monotonic=clock, sleep=clock.sleep, **kwargs)


def take_all(bucket, now, background):
    taken = 0
    while bucket.take(now, background) == 0:
        taken += 1
    return taken


def demand(bucket, seconds, *, interactive, background, step=0.01):
    """Who gets how much when both ask all the time, or one does not ask at all."""
    got = {False: 0, True: 0}
    now = bucket.filled_at
    for _ in range(round(seconds / step)):
        now += step
        for kind, asks in ((False, interactive), (True, background)):
            got[kind] += take_all(bucket, now, kind) if asks else 0
    return got[False] / seconds, got[True] / seconds


RATES = pytest.mark.parametrize("rate", [5.0, 10.0, 25.0, 100.0])


@RATES
def test_interactive_alone_gets_the_rate(rate):
    interactive, _ = demand(Bucket(rate, 0.0), 60, interactive=True, background=False)
    assert rate * 0.98 <= interactive <= rate * 1.1


@RATES
def test_the_background_alone_gets_half(rate):
    _, background = demand(Bucket(rate, 0.0), 60, interactive=False, background=True)
    assert rate * 0.48 <= background <= rate * 0.55


@RATES
def test_both_together_keep_the_rate_and_the_background_has_its_fifth(rate):
    interactive, background = demand(Bucket(rate, 0.0), 60, interactive=True, background=True)
    assert interactive + background <= rate * 1.1
    assert background >= rate * 0.19
    assert interactive >= rate * 0.75


@RATES
def test_the_background_leaves_tokens_for_the_next_interactive_call(rate):
    bucket = Bucket(rate, 0.0)
    for tenth in range(600):
        take_all(bucket, tenth / 10, background=True)
        assert bucket.shared >= 1


@RATES
def test_a_429_halves_the_background_for_a_minute(rate):
    bucket = Bucket(rate, 0.0)
    bucket.slow_down(0.0, 0.0)
    assert demand(bucket, 59, interactive=False, background=True)[1] <= rate * 0.28
    assert demand(bucket, 60, interactive=False, background=True)[1] >= rate * 0.45


def test_retry_after_holds_both():
    bucket = Bucket(10.0, 0.0)
    bucket.slow_down(0.0, 7.0)
    assert bucket.take(1.0, background=False) == bucket.take(1.0, background=True) == 6.0
    assert bucket.take(7.0, background=False) == bucket.take(7.0, background=True) == 0.0


def test_a_shorter_hold_does_not_end_a_longer_one():
    bucket = Bucket(10.0, 0.0)
    bucket.slow_down(0.0, 7.0)
    bucket.slow_down(1.0, 0.0)
    assert bucket.take(2.0, background=False) == 5.0


def test_no_hold_is_longer_than_a_minute():
    bucket = Bucket(10.0, 0.0)
    bucket.slow_down(0.0, 1e9)
    assert bucket.take(60.0, background=False) == 0.0


@given(
    st.floats(0.1, 200),
    st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200),
)
def test_no_schedule_gets_more_than_the_rate_and_the_burst(rate, steps):
    bucket, now, taken = Bucket(rate, 0.0), 0.0, 0
    for seconds, background in steps:
        now += seconds
        taken += take_all(bucket, now, background)
        assert taken <= rate * now + bucket.shared_size + bucket.reserved_size + 1e-6
        assert bucket.ceiling >= -1e-9
        assert bucket.shared >= -1e-9
        assert bucket.reserved >= -1e-9


def test_an_interactive_call_waits_at_most_two_seconds(clock):
    budget = budget_of(clock, rate=0.4)
    refusals = []
    for _ in range(20):
        began = clock.now
        try:
            budget.take(background=False)
        except StripeRateLimited as refusal:
            refusals.append(refusal)
        assert clock.now - began <= 2.0
    assert {refusal.facts["budget"] for refusal in refusals} == {"ours"}
    assert all(0 < refusal.retry_after < 10 for refusal in refusals)
    assert "our own budget" in refusals[0].detail.lower()


def test_the_background_waits_longer_but_not_for_ever(clock):
    budget = budget_of(clock, rate=1.0)
    for _ in range(10):
        budget.take(background=True)
    assert clock.now - 1000 > 10
    budget.slow_down(59.0)
    began = clock.now
    with pytest.raises(StripeRateLimited) as refused:
        budget.take(background=True)
    assert clock.now - began <= 30
    assert refused.value.retry_after > 25


def test_waiting_is_in_slices(clock):
    slept = []
    budget = Budget(
        1.0,
        monotonic=clock,
        sleep=lambda seconds: (slept.append(seconds), clock.sleep(seconds)),
        background_wait=60,
    )
    for _ in range(5):
        budget.take(background=True)
    assert slept
    assert max(slept) <= 0.3


class Away:
    """Stands for what gives a client of a Redis that cannot be reached."""

    asked = 0

    def __call__(self):
        self.asked += 1
        raise redis.ConnectionError("away")


def test_without_redis_a_process_has_its_share_and_asks_again_after_five_seconds(clock):
    away = Away()
    budget = budget_of(clock, rate=80.0, redis=away)
    taken = 0
    while clock.now < 1004.9:
        budget.take(background=False)
        taken += 1
    assert away.asked == 1
    assert budget.state == "share"
    assert taken / 4.9 <= 80 / SHARES * 1.7
    clock.now = 1005.1
    assert budget.state == "shared"
    budget.take(background=False)
    assert away.asked == 2
