"""One account with drift of every kind among what is in step or on its way: exactly the drift is found, with its cause,
and nothing is written, whether Stripe answers well or badly.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from billing_service import extras, subscriptions
from billing_service.documents import (
    AdminAction,
    ExtraBalance,
    Finding,
    Organization,
    OutboxSignal,
    ReconciliationCandidate,
    Subscription,
)
from billing_service.reconciliation.diagnosis import KINDS

UPDATED, DELETED = "customer.subscription.updated", "customer.subscription.deleted"
IN_STEP = 450
LAG_SECONDS = 8


@dataclass
class Account:
    """What a run has to find: (kind, organization, cause)."""

    drift: set = field(default_factory=set)

    def expect(self, kind, org_id, cause="unknown"):
        self.drift.add((kind, org_id, cause))


@pytest.fixture
def sync(runtime):
    def run(it):
        subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())

    return run


@pytest.fixture
def account(seeded, billed, organization, stripe, subscribe, price, sandbox, deliver, runtime, sync):
    """An account as the module says, its events in the ledger but for what was lost or waits."""
    seeded(IN_STEP)
    made = Account()
    rows = {
        each: billed("pro") for each in ("dead", "admin", "intent", "plan", "event", "look", "second", "lag", "gone")
    }
    _by_hand(made, billed, organization, stripe, subscribe, price, sandbox, runtime)
    deliver()
    _by_an_admin(made, rows["admin"], runtime)
    stripe.subscriptions.cancel(rows["dead"].subscription)
    deliver(DELETED, state="dead", outcome=None, reason="handler_failed")
    made.expect("status", rows["dead"].org_id, "dead_letter")
    stripe.subscriptions.update(rows["intent"].subscription, {"cancel_at_period_end": True})
    made.expect("cancel_intent", rows["intent"].org_id, "never_received")
    item = stripe.subscriptions.retrieve(rows["plan"].subscription)["items"].data[0].id
    stripe.subscriptions.update(rows["plan"].subscription, {"items": [{"id": item, "price": price("business")}]})
    made.expect("plan", rows["plan"].org_id, "never_received")
    stripe.subscriptions.update(rows["event"].subscription, {"cancel_at_period_end": True})
    deliver(UPDATED, of=rows["event"].subscription, state="received", outcome=None)
    Subscription.objects().update(unset__verify_at=True)
    change(rows["look"], quantity=3, verify_at=runtime.clock() + timedelta(minutes=5))
    time.sleep(LAG_SECONDS + 1)
    _hidden_by_the_lag(rows, stripe, sync)
    key = runtime.settings.stripe_secret_key
    sandbox.arm("lag", path="/v1/subscriptions$", times=None, seconds=LAG_SECONDS, key=key)
    return made


def _by_hand(made, billed, organization, stripe, subscribe, price, sandbox, runtime):
    """What somebody changed in the database, at Stripe without an event, or long ago."""
    ended, gone, twice, conflict, unresolved, period, customer, plan, units, override = [
        billed("pro") for _ in range(10)
    ]
    change(ended, status="canceled", plan="free")
    Organization.objects(id=ended.org_id).update_one(set__plan="free")
    made.expect("canceled_here_live_there", ended.org_id)
    sandbox.remove(gone.subscription)
    made.expect("missing_in_stripe", gone.org_id)
    subscribe(twice.customer, "business")
    made.expect("several_live_subscriptions", twice.org_id)
    stripe.subscriptions.update(conflict.subscription, {"metadata": {"organizationId": str(organization())}})
    made.expect("organization_conflict", conflict.org_id)
    item = stripe.subscriptions.retrieve(unresolved.subscription)["items"].data[0].id
    stripe.subscriptions.update(unresolved.subscription, {"items": [{"id": item, "price": price(None)}]})
    change(unresolved, price_id=price(None))
    made.expect("plan_unresolved", unresolved.org_id)
    started = period.row.current_period_start
    change(period, current_period_start=started - timedelta(days=31), current_period_end=started)
    made.expect("period", period.org_id)
    change(customer, stripe_customer_id="cus_somebody")
    made.expect("customer", customer.org_id)
    Organization.objects(id=plan.org_id).update_one(set__plan="business")
    made.expect("org_plan", plan.org_id)
    topup = {"kind": "topup", "units": 10, "ref": "topup:cs_1", "at": runtime.clock()}
    extras.book({"organization": units.org_id} | topup)
    ExtraBalance.objects(organization=units.org_id).update_one(inc__units=5)
    made.expect("usage_extras", units.org_id)
    change(override, override={"plan": "business", "actor": "ada@example.com"}, plan="business")
    Organization.objects(id=override.org_id).update_one(set__plan="business")
    made.expect("overridden", override.org_id)
    org_id = organization()
    named = {"metadata": {"organizationId": str(org_id)}}
    subscribe(stripe.customers.create(named).id, "pro", **named)
    made.expect("missing_in_db", org_id)


def change(it, **fields):
    Subscription.objects(organization=it.org_id).update_one(**{f"set__{name}": each for name, each in fields.items()})


def _by_an_admin(made, it, runtime):
    row = {"status": "active", "quantity": 1}
    AdminAction(
        operation=it.org_id,
        phase="outcome",
        outcome="succeeded",
        at=runtime.clock() + timedelta(seconds=5),
        actor="ada@example.com",
        action="sync",
        target=str(it.org_id),
        organization=it.org_id,
        before=row,
        after=row | {"quantity": 5},
    ).save()
    change(it, quantity=5)
    made.expect("price", it.org_id, "overwritten_by_admin")


def _hidden_by_the_lag(rows, stripe, sync):
    """Changes of the last seconds, two of them in the same one: rows have them, lists do not."""
    for intent in (True, False, True):
        stripe.subscriptions.update(rows["second"].subscription, {"cancel_at_period_end": intent})
        sync(rows["second"])
    stripe.subscriptions.update(rows["lag"].subscription, {"cancel_at_period_end": True})
    stripe.subscriptions.cancel(rows["gone"].subscription)
    for name in ("second", "lag", "gone"):
        sync(rows[name])
        Subscription.objects(organization=rows[name].org_id).update_one(unset__verify_at=True)


def found():
    return {(each.kind, each.organization, each.cause) for each in Finding.objects(state="open")}


def check(run, account, before, everything, sandbox):
    """Exactly the drift was found, all else was cleared, and nobody but us has anything new."""
    assert {kind for kind, _, _ in account.drift} == set(KINDS)
    assert found() == account.drift
    assert (run.state, run.errors, run.checked) == ("completed", 0, run.checked)
    ends = Counter(each.state for each in ReconciliationCandidate.objects)
    # An organization's conflict is told of the subscription and of the organization that it names.
    assert (ends["in_flight"], run.in_flight, ends["error"], ends["waiting"]) == (2, 2, 0, 0)
    assert (run.divergences, run.new) == (len(KINDS) - 1, len(KINDS))
    assert OutboxSignal.objects(name="billing.reconciliation.divergence").count() == len(KINDS) - 1
    assert {each["method"] for each in sandbox.requests(limit=1000)["items"]} == {"GET"}
    sandbox.disarm()
    assert everything() == before


def test_exactly_the_drift_is_found_and_nothing_is_written(account, sandbox, everything, reconcile):
    before = everything()
    sandbox.clear_requests()
    run = reconcile(meter_mode=True)
    check(run, account, before, everything, sandbox)
    # Those that the lag made suspects.
    assert ReconciliationCandidate.objects(state="cleared").count() == 3


def test_it_is_the_same_where_stripe_answers_badly_only_later(account, sandbox, everything, start, go_on, desk):
    before = everything()
    sandbox.clear_requests()
    faults = {"rate_limited": {"retry_after": 0}, "lock_timeout": {}, "drop": {}, "drop_after": {}, "error": {}}
    for number, (kind, more) in enumerate(faults.items()):
        sandbox.arm(kind, path="/v1/", times=5, after=2 + 4 * number, **more)
    sandbox.arm("delay", path="/v1/subscriptions$", times=4, seconds=0.4)
    sandbox.arm("timeout_before", path="/v1/subscriptions$", times=2, after=3, seconds=1.5)
    run = start()
    turns = 1
    while not go_on(meter_mode=True).over:
        desk().stripe.circuit.succeeded()
        turns += 1
        assert turns < 200
    assert turns > 2
    check(run.reload(), account, before, everything, sandbox)
