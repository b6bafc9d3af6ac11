"""The smallest schedules that have a name: deliveries in any order, late, at once, in one second."""

import itertools
import os
from datetime import timedelta

import pytest

from billing_service.documents import Organization, OutboxSignal, Subscription, WebhookEvent
from tests.property.at_stripe import PLANS
from tests.property.truth import check
from tests.property.world import arranged

LONG = os.environ.get("BILLING_TESTS") == "long"
HOURS = timedelta(hours=2)


@pytest.fixture
def change(world, known):
    """Changes the plan of the known subscription; returns the id of the event that tells of it."""

    def make(plan):
        item = world.there.subscription(known)["items"]["data"][0]["id"]
        items = [{"id": item, "price": world.there.prices[plan]}]
        world.there.update(known, items=items, proration_behavior="none")
        return world.there.collect()[-1]

    return make


def told(name="plan_changed"):
    return [(each.facts["from"], each.facts["to"]) for each in OutboxSignal.objects(name=name).order_by("version")]


def arrives(world, event_id, *, old=False):
    world.post(event_id, old=old)
    world.handle()
    return world.event(event_id).outcome, world.row.stripe_plan


@pytest.mark.parametrize("order", [0, -1])
def test_a_new_subscription_and_the_end_of_the_old_one_in_both_orders(world, known, order):
    """The plan goes from one to the other: never to free in between."""
    new = world.there.subscribe("business")
    world.there.end(known)
    world.tell_all(order, one_by_one=True)
    assert (world.row.stripe_subscription_id, world.row.status, world.plan) == (new, "active", "business")
    assert told() == [("free", "pro"), ("pro", "business")]
    assert told("subscription_expired") == []
    world.settle()
    check(world)


def test_the_end_of_the_old_one_that_is_told_before_there_is_a_new_one(world, known):
    world.there.end(known)
    world.tell_all()
    assert (world.row.status, world.plan) == ("canceled", "free")
    world.pass_by(1)
    new = world.there.subscribe("business")
    world.tell_all(-1, one_by_one=True)
    assert (world.row.stripe_subscription_id, world.plan) == (new, "business")
    assert told() == [("free", "pro"), ("pro", "free"), ("free", "business")]
    world.settle()
    check(world)


@pytest.mark.parametrize(("late", "outcome", "requests"), [(5, "applied", 1), (20, "superseded", 0)])
def test_a_late_event_after_a_sync(world, change, late, outcome, requests):
    older = change("business")
    world.pass_by(2)
    change("starter")
    world.pass_by(late)
    world.sync()
    assert world.plan == "starter"
    world.asked()
    assert arrives(world, older) == (outcome, "starter")
    assert world.asked() == requests
    assert told() == [("free", "pro"), ("pro", "starter")]


def test_two_hours_of_downtime_redelivered_in_any_order(world, known, change):
    """All orders of a handful of events: the row ends right, in one transition."""
    for plan in ("business", "starter", "business"):
        change(plan)
        world.pass_by(1_800)
    world.there.cancel_later(0, True)
    world.pass_by(1_800)
    events, row = world.waiting(), world.row
    assert len(events) == 4
    for order in itertools.permutations(events):
        as_it_was(world, row)
        for each in order:
            world.post(each)
        world.handle()
        assert (world.plan, world.row.cancel_at_period_end, told()) == ("business", True, [("pro", "business")])
        assert {each.state for each in WebhookEvent.objects} == {"succeeded"}


def as_it_was(world, row):
    WebhookEvent.objects.delete()
    OutboxSignal.objects.delete()
    Subscription.objects.delete()
    row.save(force_insert=True)
    Organization.objects(id=world.org_id).update(set__plan=row.plan)


@pytest.mark.parametrize("order", range(1, 41 if LONG else 4))
@pytest.mark.parametrize("one_by_one", [False, True])
def test_two_hours_of_downtime_redelivered_shuffled(world, known, order, one_by_one):
    new = world.there.subscribe("starter")
    for number in range(8):
        world.pass_by(700)
        world.there.change(number, PLANS[number % 3])
    world.there.end(known)
    world.tell_all(order, one_by_one)
    for each in arranged(world.there.events, order):
        world.post(each)  # and once more, for Stripe did not hear our answers
    world.handle()
    assert (world.row.stripe_subscription_id, world.plan) == (new, world.plans.resolve(live(world, new)).plan)
    world.settle()
    check(world)


def live(world, subscription):
    return world.stripe.subscription(subscription).value.items


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("order", [0, -1])
def test_a_pair_of_one_second_in_both_orders(world, change, order, old):
    """The first to arrive is taken as it is, the other one is looked up."""
    change_of = {change("business"): "business", change("starter"): "starter"}
    first, second = arranged(change_of, order)
    assert world.there.events[first]["created"] == world.there.events[second]["created"]
    world.asked()
    assert arrives(world, first, old=old) == ("applied", change_of[first])
    assert world.asked() == 0
    assert arrives(world, second, old=old) == ("applied", "starter")
    assert world.asked() == 1
    world.settle()
    check(world)


@pytest.mark.parametrize("order", [0, -1])
def test_a_pair_of_one_second_that_waits_together_is_looked_up_once(world, change, order):
    for each in arranged([change("business"), change("starter")], order):
        world.post(each)
    world.asked()
    world.handle()
    assert (world.asked(), world.plan) == (1, "starter")
    assert told() == [("free", "pro"), ("pro", "starter")]


def test_an_event_after_a_look_that_saw_a_later_change_of_the_same_second(world, change):
    """Nothing but the second itself tells that the row is ahead of the event: whoever looked has seen both."""
    first, second = change("business"), change("starter")
    world.sync()
    world.asked()
    assert arrives(world, first) == ("applied", "starter")
    assert (world.asked(), told()) == (1, [("free", "pro"), ("pro", "starter")])
    assert arrives(world, second) == ("applied", "starter")


def test_an_event_of_the_second_after_the_look_is_taken_as_it_is(world, change):
    world.sync()
    world.pass_by(1)
    event = change("business")
    world.asked()
    assert arrives(world, event) == ("applied", "business")
    assert world.asked() == 0


def test_an_event_while_an_older_one_waits_is_looked_up(world, change):
    older = change("business")
    world.post(older)
    WebhookEvent.objects(event_id=older).update(set__state="failed", set__next_attempt_at=world.time.now() + HOURS)
    world.pass_by(3)
    newer = change("starter")
    world.asked()
    assert arrives(world, newer) == ("applied", "starter")
    assert (world.asked(), world.event(older).state) == (1, "failed")
    world.settle()
    check(world)


@pytest.mark.parametrize("apart", [0, 3])
def test_an_event_beside_a_dead_one_as_new_is_looked_up(world, change, apart):
    """What the dead one would have brought is in nobody's row; the older one must not be believed in its place."""
    older = change("business")
    if apart:
        world.pass_by(apart)
    dead = change("starter")
    world.post(dead)
    WebhookEvent.objects(event_id=dead).update(set__state="dead", set__dead_at=world.time.now())
    world.asked()
    assert arrives(world, older) == ("applied", "starter")
    assert world.asked() == 1


def test_an_older_event_does_not_turn_the_row_back(world, change):
    older = change("business")
    world.pass_by(2)
    newer = change("starter")
    world.asked()
    assert arrives(world, newer) == ("applied", "starter")
    assert world.asked() == 0
    assert arrives(world, older) == ("applied", "starter")
    assert (world.asked(), told()) == (1, [("free", "pro"), ("pro", "starter")])


@pytest.mark.parametrize("begun", ["handle", "sync", "verify"])
@pytest.mark.parametrize("stops_at", range(1, 5))
def test_a_look_that_was_overtaken_is_thrown_away(world, known, change, begun, stops_at):
    """Somebody looked, stood still, and writes after the newer change was written: at every place one by one."""
    first, second = change("business"), change("pro")
    for each in (first, second):
        world.post(each)
    if begun == "verify":
        world.handle()
        world.pass_by(21)
    world.begin(begun, stops_at)
    world.pass_by(15)
    world.there.cancel_later(0, True)
    change("starter")
    world.sync()
    assert (world.plan, world.row.cancel_at_period_end) == ("starter", True)
    version = world.row.version
    world.let_all_go_on()
    assert (world.plan, world.row.cancel_at_period_end) == ("starter", True)
    assert world.row.version >= version
    assert told()[-1] == ("pro", "starter")
    world.settle()
    check(world)


@pytest.mark.parametrize("stops_at", range(1, 5))
def test_a_payload_that_was_overtaken_is_thrown_away(world, change, stops_at):
    """Decided, not yet written: then the row moves on."""
    event = change("business")
    world.post(event)
    world.begin("handle", stops_at)
    world.pass_by(3)
    change("starter")
    world.sync()
    world.let_all_go_on()
    assert world.plan == "starter"
    assert world.event(event).state == "succeeded"
    world.settle()
    check(world)


@pytest.mark.parametrize("stops_at", range(1, 7))
def test_a_process_that_dies_while_it_handles(world, known, stops_at):
    """Its leases run out, another one does the work; should it wake up later it changes nothing."""
    new = world.there.subscribe("business")
    world.there.end(known)
    world.deliver_all()
    world.begin("handle", stops_at)
    world.pass_by(31)
    world.handle()
    assert (world.row.stripe_subscription_id, world.plan) == (new, "business")
    assert told() == [("free", "pro"), ("pro", "business")]
    world.settle()
    check(world)
    version = world.row.version
    world.let_all_go_on()
    assert world.row.version == version
    check(world)
