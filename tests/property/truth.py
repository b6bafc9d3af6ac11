"""What must hold when a schedule is over: the row is what Stripe shows, and everything happened once."""

from datetime import UTC, datetime

from billing_service.documents import OutboxSignal, Subscription, WebhookEvent
from billing_service.stripe_gateway.shapes import subscription as read_subscription
from billing_service.subscriptions.selection import choose
from billing_service.subscriptions.statuses import ENDED, LIVE, PAID_UP

COPIED = (
    "status",
    "current_period_start",
    "current_period_end",
    "cancel_at_period_end",
    "cancel_at",
)


def check(world):
    """The property. Nothing waits any more, so all of it has to be right at the same time."""
    there = [read_subscription(each) for each in world.there.subscriptions()]
    row = world.row
    check_row(world, row, there)
    check_events(world, row)
    check_signals(world, row)


def watch(world):
    """What must hold at any moment, whatever is still under way."""
    row = world.row
    if row is None:
        assert world.plan == world.plans.free
        return
    assert row.plan == world.plan == (row.stripe_plan if row.status in LIVE else world.plans.free)
    assert (row.past_due_since is None) or row.status not in PAID_UP
    assert row.past_due_since or row.status != "past_due"
    seen = world.newest_seen.get(row.stripe_subscription_id, 0)
    if not world.has_lagged:
        assert row.quantity >= seen, "turned back"
    world.newest_seen[row.stripe_subscription_id] = max(seen, row.quantity)


def check_row(world, row, there):
    expected = choose(there)
    if row is None:
        # Nothing that Stripe shows can be told to be the organization's any more.
        assert world.plan == world.plans.free
        assert expected is None or all_unknown(world), "no row"
        return
    if expected.status in ENDED:
        # Of a customer whose last subscription ended nothing is kept: any that ended will do.
        expected = next(each for each in there if each.id == row.stripe_subscription_id)
        assert expected.status in ENDED
    assert stored_of(row) == live_of(expected)
    plan = world.plans.resolve(expected.items).plan if expected.status in LIVE else world.plans.free
    assert (row.plan, world.plan) == (plan, plan)
    assert row.verify_at is None
    assert row.suspended_at is None
    others = {each.id for each in there if each.status not in ENDED} - {row.stripe_subscription_id}
    assert {each.stripe_subscription_id for each in row.candidates} == others
    check_past_due(world, row, expected)


def stored_of(row):
    ids = (row.stripe_subscription_id, row.stripe_customer_id)
    return ids, (row.price_id, row.quantity), [getattr(row, name) for name in COPIED]


def live_of(live):
    [item] = live.items
    return (live.id, live.customer), (item.price_id, item.quantity), [getattr(live, name) for name in COPIED]


def check_past_due(world, row, live):
    """Set in past_due, to the beginning of the present spell, and gone once it is paid up."""
    if live.status in PAID_UP:
        assert row.past_due_since is None
    if live.status == "past_due":
        began, before = spell_of(world, live.id)
        assert row.past_due_since is not None
        assert before <= row.past_due_since <= began


def spell_of(world, subscription):
    """When the subscription became past due, and when it was last paid up before; by its events."""
    told = [each for each in world.there.events.values() if each["data"]["object"]["id"] == subscription]
    told = [
        (at(each["created"]), each["data"]["object"]["status"]) for each in told if "status" in each["data"]["object"]
    ]
    last = max(place for place, (_, status) in enumerate(told) if status != "past_due")
    began = told[last + 1][0] if last + 1 < len(told) else told[-1][0]
    # The period's beginning is evidence too, and it may be as old as the last payment.
    paid = [moment for moment, status in told[: last + 1] if status in PAID_UP]
    return began, min(paid[-1:], default=began)


def at(seconds):
    return datetime.fromtimestamp(seconds, UTC)


def check_events(world, row):
    """Each is in the ledger once, and at its end; dead are only those that can name nobody."""
    stored = list(WebhookEvent.objects)
    assert sorted(each.event_id for each in stored) == sorted(world.there.events)
    for each in stored:
        end = (each.state, each.outcome, each.reason)
        assert each.state == "succeeded" or is_nobodys(world, row, each), (each.event_id, each.type, end, told(each))
        assert each.attempts <= len(each.history)


def told(event):
    return [line.error_message for line in event.history]


def is_nobodys(world, row, event):
    """Dead for good reason: it came after its customer was deleted, who alone had said whose it is."""
    gone = event.stripe_customer_id in world.there.deleted
    return (event.state, event.reason) == ("dead", "organization_unknown") and gone


def all_unknown(world):
    return {each.state for each in WebhookEvent.objects} <= {"dead", "succeeded"} and bool(world.there.deleted)


def check_signals(world, row):
    signals = list(OutboxSignal.objects.order_by("version"))
    assert len({each.key for each in signals}) == len(signals)
    chain = [(each.facts["from"], each.facts["to"]) for each in signals if each.name == "plan_changed"]
    before = world.plans.free
    for old, new in chain:
        assert (old, old != new) == (before, True), chain
        before = new
    assert before == world.plan, chain
    assert len(Subscription.objects) == (0 if row is None else 1)
    assert all(each.version <= row.version for each in signals if each.version)
