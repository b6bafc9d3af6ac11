"""A cause is told only when it is shown."""

from datetime import timedelta

from billing_service.documents import AdminAction, Finding, Subscription

UPDATED, DELETED = "customer.subscription.updated", "customer.subscription.deleted"


def cause():
    [found] = Finding.objects(state="open")
    return found.cause


def test_a_dead_letter(billed, stripe, deliver, reconcile):
    it = billed("pro")
    deliver()
    stripe.subscriptions.cancel(it.subscription)
    deliver(DELETED, state="dead", outcome=None, reason="handler_failed")
    reconcile()
    assert cause() == "dead_letter"


def test_a_dead_letter_of_before_the_row_was_looked_up_is_none(billed, stripe, sandbox, deliver, reconcile, runtime):
    it = billed("pro")
    deliver()
    stripe.subscriptions.update(it.subscription, {"description": "x"})
    deliver(UPDATED, state="dead", outcome=None)
    Subscription.objects(organization=it.org_id).update_one(set__as_of=runtime.clock() + timedelta(minutes=1))
    sandbox.patch(it.subscription, {"status": "past_due"})
    reconcile()
    assert cause() == "unknown"


def test_an_event_that_has_no_handler(billed, sandbox, stripe, deliver, reconcile):
    it = billed("pro")
    deliver()
    sandbox.patch(it.subscription, {"status": "paused"})
    moved = stripe.subscriptions.retrieve(it.subscription).to_dict()
    sandbox.emit("customer.subscription.moved", moved)
    deliver("customer.subscription.moved", outcome="ignored")
    reconcile()
    assert cause() == "handler_missing"


def test_an_event_without_handler_that_says_something_else_is_none(billed, sandbox, deliver, reconcile):
    it = billed("pro")
    deliver()
    sandbox.emit("customer.subscription.moved", {"object": "subscription", "id": it.subscription})
    deliver("customer.subscription.moved", outcome="ignored")
    sandbox.patch(it.subscription, {"status": "unpaid"})
    reconcile()
    assert cause() == "unknown"


def test_an_admin_who_wrote_it(billed, stripe, deliver, reconcile, runtime):
    it = billed("pro")
    deliver()
    row = {"status": "active", "cancel_at_period_end": False, "quantity": 1}
    AdminAction(
        operation=it.org_id,
        phase="outcome",
        outcome="succeeded",
        at=runtime.clock() + timedelta(seconds=2),
        actor="ada@example.com",
        action="sync",
        target=str(it.org_id),
        organization=it.org_id,
        before=row,
        after=row | {"quantity": 5},
    ).save()
    Subscription.objects(organization=it.org_id).update_one(set__quantity=5)
    reconcile()
    assert cause() == "overwritten_by_admin"


def test_an_event_that_never_arrived(billed, stripe, deliver, reconcile, sandbox):
    it, other = billed("pro"), billed("pro")
    deliver()
    stripe.subscriptions.update(it.subscription, {"cancel_at_period_end": True})
    stripe.subscriptions.cancel(other.subscription)
    sandbox.clear_requests()
    run = reconcile()
    assert {each.cause for each in Finding.objects(state="open")} == {"never_received"}
    assert sandbox.requests(path="/v1/events")["count"] == 1
    assert len(run.unreceived) == 2


def test_a_row_changed_by_hand_has_no_cause(billed, deliver, reconcile):
    it = billed("pro")
    deliver()
    Subscription.objects(organization=it.org_id).update_one(set__quantity=5)
    reconcile()
    assert cause() == "unknown"
