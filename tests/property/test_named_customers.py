"""The smallest schedules about customers: a second one made by Checkout, deleted ones, trials that nobody paid for,
payments that fail."""

from datetime import UTC, datetime

import pytest

from billing_service.documents import OutboxSignal, WebhookEvent
from tests.property.truth import check

HOUR = 3_600
DAY = 86_400
MARKERS = ("session", "subscription", "both")


def chain():
    signals = OutboxSignal.objects(name="plan_changed").order_by("version")
    return [(each.facts["from"], each.facts["to"]) for each in signals]


def candidates(world):
    return [(each.stripe_subscription_id, each.stripe_customer_id) for each in world.row.candidates]


@pytest.mark.parametrize("order", [0, -1])
@pytest.mark.parametrize("marker", MARKERS)
def test_a_second_customer_made_by_checkout_is_seen(world, known, marker, order):
    """While the first one pays it is a candidate; when that ends it is the one that counts."""
    other = world.there.check_out("business", marker)
    world.tell_all(order)
    assert (world.row.stripe_subscription_id, world.plan) == (known, "pro")
    assert candidates(world) == [(other, world.there.customers[1])]
    world.pass_by(60)
    world.there.end(known)
    world.tell_all(order)
    assert (world.row.stripe_subscription_id, world.row.stripe_customer_id) == (other, world.there.customers[1])
    assert (world.plan, candidates(world)) == ("business", [])
    assert chain() == [("free", "pro"), ("pro", "business")]
    world.settle(order)
    check(world)


@pytest.mark.parametrize("order", [0, -1, 1, 2])
@pytest.mark.parametrize("marker", MARKERS)
def test_a_second_customer_made_by_checkout_is_attached(world, known, marker, order):
    world.there.end(known)
    world.tell_all()
    world.pass_by(HOUR)
    other = world.there.check_out("business", marker)
    world.tell_all(order, one_by_one=True)
    world.settle(order)
    assert (world.row.stripe_subscription_id, world.row.stripe_customer_id) == (other, world.there.customers[1])
    assert (world.plan, chain()[-1]) == ("business", ("free", "business"))
    check(world)


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("known_first", [False, True])
def test_the_session_that_names_the_organization_comes_last(world, known_first, ended):
    """Only the session says whose it is, and the missed-events job is an hour behind: what has died of that wakes
    up as soon as somebody says it, be the subscription the row's, a candidate, or over by then."""
    if known_first:
        world.there.subscribe("pro")
        world.tell_all()
        world.pass_by(60)
    other = world.there.check_out("business", "session")
    world.lose(1)
    world.tell_all()
    for _ in range(5):
        world.pass_by(HOUR // 2)
        world.handle()
    assert WebhookEvent.objects(state="dead", reason="organization_unknown", stripe_subscription_id=other).count() == 3
    if ended:
        world.there.end(other)
    world.settle()
    assert {each.state for each in WebhookEvent.objects} == {"succeeded"}
    check(world)


def test_the_deletion_of_a_candidates_customer_drops_the_candidate(world, known):
    world.there.check_out("business", "both")
    world.tell_all()
    assert len(candidates(world)) == 1
    before = world.row
    world.pass_by(60)
    world.there.delete_customer(1)
    world.tell_all()
    row = world.row
    assert candidates(world) == []
    assert (row.stripe_subscription_id, row.stripe_customer_id) == (known, before.stripe_customer_id)
    assert (row.status, world.plan, row.customer_deleted_at) == ("active", "pro", None)
    assert chain() == [("free", "pro")]
    world.settle()
    check(world)


@pytest.mark.parametrize("order", [0, -1])
def test_the_deletion_of_the_rows_customer_while_another_one_pays(world, known, order):
    other = world.there.check_out("business", "both")
    world.tell_all()
    world.pass_by(60)
    world.there.delete_customer(0)
    world.tell_all(order, one_by_one=True)
    row = world.row
    assert (row.stripe_subscription_id, row.stripe_customer_id) == (other, world.there.customers[1])
    assert (row.status, world.plan, chain()[-1]) == ("active", "business", ("pro", "business"))
    assert row.customer_deleted_at is None  # this row's customer is not
    world.settle()
    check(world)


@pytest.mark.parametrize("order", [0, -1])
def test_the_deletion_of_the_rows_customer(world, known, order):
    world.there.delete_customer(0)
    world.tell_all(order, one_by_one=True)
    row = world.row
    assert (row.status, world.plan, bool(row.customer_deleted_at)) == ("canceled", "free", True)
    assert (row.stripe_subscription_id, row.stripe_customer_id) == (known, world.there.customers[0])
    world.settle()
    check(world)


def test_a_late_invoice_after_deletion(world):
    """It changes nothing, and the row remembers that the customer is gone."""
    world.there.subscribe("pro")
    late = [each for each in world.there.collect() if world.there.events[each]["type"] == "invoice.paid"]
    world.lost |= set(late)
    world.tell_all()
    world.pass_by(60)
    world.there.delete_customer(0)
    world.tell_all()
    before = world.row
    assert (before.status, world.plan, bool(before.customer_deleted_at)) == ("canceled", "free", True)
    world.pass_by(HOUR)
    world.post(late[0])
    world.handle()
    row = world.row
    assert (row.status, world.plan, world.event(late[0]).outcome) == ("canceled", "free", "applied")
    assert row.customer_deleted_at == before.customer_deleted_at
    assert chain() == [("free", "pro"), ("pro", "free")]
    world.settle()
    check(world)


@pytest.mark.parametrize("order", [0, -1])
@pytest.mark.parametrize("ending", ["cancel", "pause"])
def test_the_end_of_an_abandoned_trial(world, ending, order):
    """The trial is the older one, so it counted; its end must not lock out who pays."""
    trial = world.there.try_out("business", ending)
    world.tell_all()
    assert (world.row.stripe_subscription_id, world.plan) == (trial, "business")
    world.pass_by(2 * DAY)
    paid = world.there.subscribe("starter")
    world.tell_all()
    assert (world.row.stripe_subscription_id, [each for each, _ in candidates(world)]) == (trial, [paid])
    world.there.pay_with("none")
    world.pass_by(6 * DAY)
    world.tell_all(order, one_by_one=True)
    assert (world.row.stripe_subscription_id, world.row.status, world.plan) == (paid, "active", "starter")
    assert ("business", "free") not in chain()
    world.settle(order)
    check(world)


@pytest.mark.parametrize("seen", [False, True])
def test_a_payment_that_fails_again_after_it_was_made_up_for(world, known, seen):
    """Each spell of past due has a beginning of its own, also when nobody looked between the two."""
    world.there.pay_with("decline")
    world.pass_by(31 * DAY)
    world.tell_all()
    first = world.row
    assert (first.status, first.past_due_since) == ("past_due", period_start(world, known))
    world.there.pay_with("succeed")
    world.pass_by(60)
    world.there.pay(0)
    if seen:
        world.tell_all()
        assert (world.row.status, world.row.past_due_since) == ("active", None)
    world.there.pay_with("decline")
    for _ in range(3):
        world.pass_by(11 * DAY)
    world.tell_all()
    second = world.row
    assert (second.status, second.past_due_since) == ("past_due", period_start(world, known))
    assert second.past_due_since > first.past_due_since
    world.settle()
    check(world)


def period_start(world, subscription):
    [item] = world.there.subscription(subscription)["items"]["data"]
    return datetime.fromtimestamp(item["current_period_start"], UTC)


@pytest.mark.parametrize("order", [0, -1, 1, 2])
def test_a_payment_that_failed_is_made(world, known, order):
    world.there.pay_with("decline")
    world.pass_by(31 * DAY)
    world.tell_all(order)
    assert (world.row.status, world.plan) == ("past_due", "pro")
    world.there.pay_with("succeed")
    world.pass_by(60)
    world.there.pay(0)
    world.tell_all(order, one_by_one=True)
    assert (world.row.status, world.row.past_due_since, world.plan) == ("active", None, "pro")
    assert chain() == [("free", "pro")]
    assert OutboxSignal.objects(name="payment_failed").count() == 1
    world.settle(order)
    check(world)


def test_the_end_of_a_candidate_that_only_its_session_named(world, known):
    """A look has dropped it, and it names nobody: the ledger knows whose it was."""
    other = world.there.check_out("business", "session")
    world.tell_all()
    assert [each for each, _ in candidates(world)] == [other]
    world.there.end(other)
    world.there.change(0)
    [ended] = [each for each in world.there.collect() if world.there.events[each]["type"].endswith(".deleted")]
    world.sync()
    assert candidates(world) == []
    world.post(ended)
    world.handle()
    assert WebhookEvent.objects(event_id=ended).first().outcome == "applied"
    world.settle()
    check(world)
