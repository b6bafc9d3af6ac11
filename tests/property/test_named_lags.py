"""Reads that show what was: of one subscription or of another one, in retrievals or in lists only, and nothing that
comes afterwards. What was written then is looked at once more."""

from datetime import UTC, datetime, timedelta

import pytest

from billing_service.subscriptions.decision import DOUBT
from tests.property.truth import check

HOUR = 3_600
DAY = 86_400


def created(world, event_id):
    return datetime.fromtimestamp(world.there.events[event_id]["created"], UTC)


def told_while_reads_lag(world):
    """All that is new arrives and is handled, then reads are well again, then time passes; nothing else comes."""
    world.tell_all()
    world.catch_up()
    world.pass_by(21)
    world.verify()


def test_a_lagging_look_after_which_nothing_comes(world, known):
    """Two events that wait together are looked up, and the look shows neither."""
    world.lag()
    world.there.change(0, "business")
    world.there.change(0)
    world.tell_all()
    world.catch_up()
    assert (world.plan, world.row.quantity) == ("pro", 1)
    assert world.row.verify_at == created(world, world.there.collect()[-1]) + 2 * DOUBT
    world.pass_by(19)
    world.verify()
    assert world.plan == "pro"
    world.pass_by(2)
    world.verify()
    assert (world.plan, world.row.quantity, world.row.verify_at) == ("business", 3, None)
    world.settle()
    check(world)


def test_a_second_look_that_is_not_yet_late_enough_is_repeated(world, known):
    world.lag()
    world.there.change(0, "business")
    world.there.change(0)
    world.tell_all()
    world.sync()
    world.catch_up()
    assert (world.plan, world.row.verify_at is None) == ("pro", False)
    world.pass_by(21)
    world.verify()
    assert (world.plan, world.row.verify_at) == ("business", None)


def test_the_end_of_a_subscription_in_a_lagging_look(world, known):
    world.lag()
    world.there.end(known)
    world.tell_all()
    world.catch_up()
    assert (world.row.status, world.plan) == ("active", "pro")
    world.pass_by(21)
    world.verify()
    assert (world.row.status, world.plan) == ("canceled", "free")
    world.settle()
    check(world)


@pytest.mark.parametrize("lists", [False, True])
def test_a_new_subscription_in_a_lagging_look_at_a_customer_who_had_none(world, known, lists):
    """He pays again, long after the old one ended: the look that his events ask for does not show it yet."""
    world.there.end(known)
    world.tell_all()
    world.pass_by(HOUR)
    world.lag(lists)
    new = world.there.subscribe("business")
    told_while_reads_lag(world)
    assert (world.row.stripe_subscription_id, world.plan) == (new, "business")
    world.settle()
    check(world)


def test_a_new_subscription_in_a_lagging_sync(world, known):
    """Its events were seen; an admin's sync a moment later does not see it yet, but what it replaced."""
    world.there.end(known)
    world.tell_all()
    world.pass_by(HOUR)
    world.lag()
    world.catch_up()
    new = world.there.subscribe("business")
    world.tell_all()
    assert (world.row.stripe_subscription_id, world.plan) == (new, "business")
    world.lag()
    world.sync()
    world.catch_up()
    world.pass_by(21)
    world.verify()
    assert (world.row.stripe_subscription_id, world.plan) == (new, "business")
    world.settle()
    check(world)


def test_the_rows_subscription_that_a_lagging_look_does_not_show(world, known):
    """A late event of the old one, which is past due, is looked up; the new one, which pays, is too new to be shown."""
    world.there.pay_with("decline")
    world.pass_by(33 * DAY)
    world.there.pay_with("succeed")
    world.tell_all()
    assert (world.row.stripe_subscription_id, world.row.status) == (known, "past_due")
    world.there.remark(0, "told late")
    [late] = world.waiting()
    world.lose(1)
    world.pass_by(60)
    world.lag()
    world.catch_up()
    new = world.there.subscribe("business")
    world.tell_all()
    assert (world.row.stripe_subscription_id, world.plan) == (new, "business")
    world.lag()
    world.post(late)
    told_while_reads_lag(world)
    assert (world.row.stripe_subscription_id, world.row.status, world.plan) == (new, "active", "business")
    world.settle()
    check(world)


def test_a_candidate_that_a_lagging_look_does_not_show_is_not_forgotten(world, known):
    """A moment after it was seen a look on behalf of another one does not show it: its customer is still asked."""
    world.lag()
    world.catch_up()
    other = world.there.check_out("business", "both")
    world.tell_all()
    assert [each.stripe_subscription_id for each in world.row.candidates] == [other]
    world.lag()
    world.there.change(0)
    world.there.change(0)
    told_while_reads_lag(world)
    assert [each.stripe_subscription_id for each in world.row.candidates] == [other]
    world.there.end(known)
    world.tell_all()
    assert (world.row.stripe_subscription_id, world.plan) == (other, "business")
    world.settle()
    check(world)


@pytest.mark.parametrize("marker", ["subscription", "both"])
def test_a_checkout_in_a_lagging_look_at_a_customer_who_had_none(world, known, marker):
    world.there.end(known)
    world.tell_all()
    world.pass_by(HOUR)
    world.lag()
    new = world.there.check_out("business", marker)
    told_while_reads_lag(world)
    world.settle()
    assert (world.row.stripe_subscription_id, world.plan) == (new, "business")
    check(world)


def test_a_checkout_in_a_lagging_look_is_not_forgotten(world, known):
    """The other customer's subscription counts when the first one ends: by then nobody tells of it any more."""
    world.lag()
    new = world.there.check_out("business", "both")
    told_while_reads_lag(world)
    world.settle()
    world.pass_by(HOUR)
    world.there.end(known)
    world.tell_all()
    assert (world.row.stripe_subscription_id, world.plan) == (new, "business")
    world.settle()
    check(world)


@pytest.mark.parametrize("lists", [False, True])
def test_another_subscription_that_was_paid_in_a_lagging_look(world, known, lists):
    """The row's is past due, the other one becomes active; the look shows it unpaid, above all a list may."""
    world.there.pay_with("decline")
    world.pass_by(33 * DAY)
    other = world.there.begin_unpaid("business")
    world.tell_all()
    assert (world.row.status, len(world.row.candidates)) == ("past_due", 1)
    world.pass_by(60)
    world.lag(lists)
    world.there.pay(-1)
    told_while_reads_lag(world)
    assert (world.row.stripe_subscription_id, world.row.status, world.plan) == (other, "active", "business")
    world.settle()
    check(world)


@pytest.mark.parametrize("lists", [False, True])
def test_the_end_of_a_candidate_in_a_lagging_look(world, known, lists):
    """It is no candidate any more, once the doubt is over."""
    other = world.there.subscribe("business")
    world.tell_all()
    assert len(world.row.candidates) == 1
    world.pass_by(60)
    world.lag(lists)
    world.there.end(other)
    told_while_reads_lag(world)
    assert world.row.candidates == []
    assert (world.row.stripe_subscription_id, world.plan) == (known, "pro")


def test_a_payload_after_a_lagging_look_ends_the_doubt(world, known):
    """It is Stripe's own picture of a later second: there is nothing more to be looked at."""
    world.lag()
    world.there.change(0, "business")
    world.there.change(0)
    world.tell_all()
    world.catch_up()
    assert world.row.verify_at - world.time.now() > timedelta(seconds=10)
    world.pass_by(3)
    world.there.change(0)
    world.asked()
    world.tell()
    assert (world.asked(), world.plan, world.row.quantity) == (0, "business", 4)
    world.settle()
    check(world)
