"""Many divergences at once: the backend is told of each, people of the first ones and then of all in one message."""

import json

import pytest

from billing_service import outbox
from billing_service.documents import Finding, OutboxSignal, ReconciliationCandidate, ReconciliationRun, Subscription
from billing_service.reconciliation.telling import SINGLY
from tests.integration.jobs.receiver import Inbox

DIVERGENCE, SUMMARY = "billing.reconciliation.divergence", "billing.reconciliation.summary"


@pytest.fixture
def drift(seeded):
    """So many subscriptions, the first of them in another status than Stripe's, others of another quantity."""

    def make(statuses, quantities, of=120):
        seeded(of)
        names = [f"sub_1Seed01{index:08d}" for index in range(statuses + quantities)]
        rows = Subscription._get_collection()
        gone = {"status": "canceled", "plan": "free"}
        rows.update_many({"stripe_subscription_id": {"$in": names[:statuses]}}, {"$set": gone})
        rows.update_many({"stripe_subscription_id": {"$in": names[statuses:]}}, {"$set": {"quantity": 9}})

    return make


@pytest.fixture
def inboxes():
    """Those that are told."""
    made = {name: Inbox() for name in ("event", "alert")}
    for each in made.values():
        each.open.set()
        each.up()
    yield made
    for each in made.values():
        each.down()


def divergences(**wanted):
    return OutboxSignal.objects(name=DIVERGENCE, **wanted).count()


def summaries():
    return [each.facts for each in OutboxSignal.objects(name=SUMMARY).order_by("id")]


def test_people_are_told_of_the_first_ones_and_of_all_at_once(drift, reconcile):
    # Of each status also the organization's plan differs from the row's.
    drift(15, 30)
    run = reconcile()
    kinds = {"canceled_here_live_there": 15, "org_plan": 15, "price": 30}
    assert (dict(run.findings), run.new) == (kinds, 60)
    assert (divergences(), divergences(sent_to=[]), divergences(sent_to=["alert"])) == (60, SINGLY, 60 - SINGLY)
    [told] = summaries()
    assert told["kinds"] == kinds
    assert (told["told"], told["told_singly"], told["state"]) == (60, SINGLY, "completed")
    found = [each.severity for each in Finding.objects]
    assert told["severities"] == {each: found.count(each) for each in set(found)}
    assert told["money_at_risk"] == _money(Finding.objects)
    assert told["findings"].endswith(f"findings?reconciliationId={run.pk}")


def _money(findings):
    amounts = [each["amount"] for finding in findings for each in finding.money_at_risk]
    return [{"currency": "usd", "amount": sum(amounts)}] if amounts else []


def test_as_many_as_are_told_singly_need_no_summary(drift, reconcile):
    drift(0, SINGLY)
    reconcile()
    assert (divergences(sent_to=[]), summaries()) == (SINGLY, [])


def test_what_is_seen_again_is_not_summed_up_again(drift, reconcile):
    drift(0, 30)
    reconcile()
    run = reconcile()
    assert (run.divergences, run.told, len(summaries()), divergences()) == (30, 0, 1, 30)
    Subscription.objects(quantity=9).limit(1).first().update(set__quantity=8)
    run = reconcile()
    assert (run.told, len(summaries()), divergences(sent_to=[])) == (1, 1, SINGLY + 1)


def test_slices_and_other_holders_count_on(drift, start, go_on):
    drift(0, 30)
    run = start()
    turns = 0
    while not go_on(stop=_after(3)).over:
        turns += 1
        assert turns < 100
    assert turns > 5
    assert (run.reload().told, divergences(sent_to=[]), [each["told"] for each in summaries()]) == (30, SINGLY, [30])


def _after(looks):
    left = iter(range(looks))
    return lambda: next(left, None) is None


def test_a_run_that_fails_tells_of_what_it_found(drift, start, go_on):
    drift(0, 40)
    run = start()
    while run.reload().told < 30:
        go_on(stop=_after(3))
    ReconciliationRun.objects(id=run.pk).update(set__failures=5)
    go_on()
    assert run.reload().state == "failed"
    assert [(each["state"], each["told"]) for each in summaries()] == [("failed", run.told)]
    assert ReconciliationCandidate.objects(state="waiting").count() == 40 - run.told


def test_each_is_sent_to_whom_it_is_for(drift, reconcile, runtime, inboxes):
    drift(0, 30)
    reconcile()
    receivers = [outbox.Receiver(name, inbox.url) for name, inbox in inboxes.items()]
    outbox.rests.end()
    ends = outbox.send_due(receivers, clock=runtime.clock, stop=lambda: False)
    assert dict(ends) == {"sent": 31}
    named = {name: [json.loads(body)["name"] for body in inbox.bodies] for name, inbox in inboxes.items()}
    assert named["event"] == [DIVERGENCE] * 30
    assert sorted(named["alert"]) == [DIVERGENCE] * SINGLY + [SUMMARY]
    told = {json.loads(body)["facts"]["findingId"] for body in inboxes["event"].bodies}
    assert told == {str(each.pk) for each in Finding.objects}
