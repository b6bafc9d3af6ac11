"""Whatever happens at Stripe, in whatever order it is told, twice or not at all, whoever dies: the row ends as
Stripe has it, and each effect happened once."""

import os

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.property.at_stripe import PLANS
from tests.property.truth import check, watch

SCHEDULES = 2_000 if os.environ.get("BILLING_TESTS") == "long" else 50

plans = st.sampled_from(PLANS)
which = st.integers(0, 3)
order = st.integers(-1, 5)
flags = st.booleans()
works = st.sampled_from(["handle", "handle", "sync", "verify"])


def step(name, *arguments):
    return st.tuples(st.just(name), *arguments)


AT_STRIPE = st.one_of(
    step("change", which),
    step("change", which, plans),
    step("remark", which, st.sampled_from("ab")),
    step("cancel_later", which, flags),
    step("cancel", which),
    step("subscribe", plans),
    step("check_out", plans, st.sampled_from(["session", "subscription", "both"])),
    step("try_out", plans, st.sampled_from(["cancel", "pause", "create_invoice"])),
    step("begin_unpaid", plans),
    step("pay_with", st.sampled_from(["succeed", "decline", "none"])),
    step("pay", which),
    step("delete_customer", which),
)
TIME = st.one_of(
    step("pass_by", st.integers(1, 3)),
    step("pass_by", st.integers(4, 15)),
    step("pass_by", st.sampled_from([40, 70, 3_600, 86_400])),
    step("pass_by", st.sampled_from([8 * 86_400, 32 * 86_400])),
)
DELIVERIES = st.one_of(
    step("tell", flags),
    step("tell", flags),
    step("tell_all", order, flags),
    step("deliver", st.integers(0, 40), flags),
    step("deliver_newest", st.integers(1, 3), flags),
    step("deliver_all", order),
    step("lose", st.integers(1, 3)),
    step("missed"),
)
OURS = st.one_of(
    step("handle"),
    step("handle"),
    step("sync"),
    step("verify"),
    step("begin", works, st.integers(1, 9)),
    step("go_on"),
    step("lose_leases"),
)
TOLD = st.one_of(
    step("told_at_once", AT_STRIPE, flags),
    step("told_at_once", AT_STRIPE, flags),
    step("told_while_reads_lag", st.lists(AT_STRIPE, min_size=1, max_size=2), order, flags),
    step("overtaken", works, st.integers(1, 6), AT_STRIPE, AT_STRIPE, order),
)
FAULTS = st.one_of(
    step("lag", flags),
    step("catch_up"),
    step(
        "fail",
        st.sampled_from(["error", "drop", "rate_limited", "lock_timeout", "delay"]),
        st.integers(1, 4),
        st.integers(0, 3),
        flags,
    ),
)
STEPS = st.one_of(AT_STRIPE, TIME, TIME, DELIVERIES, TOLD, TOLD, OURS, FAULTS)


@pytest.mark.timeout(7200)  # the long run takes a while
@settings(
    max_examples=SCHEDULES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(known=flags, schedule=st.lists(STEPS, min_size=1, max_size=24), order=order)
def test_any_schedule_ends_where_stripe_ends(make_world, known, schedule, order):
    note(f"{known=} {schedule=} {order=}")
    run(make_world(), known, schedule, order)


def run(world, known, schedule, order):
    """A schedule from beginning to end; `known`: the subscription that it begins with has long been seen."""
    world.there.subscribe("pro")
    if known:
        world.tell_all()
        world.pass_by(30)
    for name, *arguments in schedule:
        world.step(name, *arguments)
        watch(world)
    world.settle(order)
    check(world)
    world.let_all_go_on()
    check(world)
