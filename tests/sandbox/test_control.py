"""The control plane's raw changes, for states that are hard to reach."""

import time

import pytest
import stripe as sdk

from billing_service.sandbox.stripe.control import ControlError


def test_state(control, subscribe):
    subscribe()
    state = control.state()
    assert state["ok"]
    assert state["objects"]["subscription"] == 1
    assert state["accounts"] == ["acct_sandbox"]


def test_patch_is_silent_unless_told(control, stripe, subscribe, events):
    subscription = subscribe()
    before = events()
    control.patch(subscription.id, {"status": "unpaid", "metadata": {"organizationId": "b" * 24}})
    found = stripe.subscriptions.retrieve(subscription.id)
    assert (found.status, found.metadata.organizationId) == ("unpaid", "b" * 24)
    assert events() == before
    control.patch(subscription.id, {"status": "past_due"}, event="customer.subscription.updated")
    assert events("customer.subscription.updated")[0].data.previous_attributes.to_dict() == {"status": "unpaid"}


def test_a_patched_subscription_is_not_renewed_by_surprise(control, stripe, subscribe):
    canceled, old = subscribe(), subscribe()
    control.patch(canceled.id, {"status": "canceled"})
    item = old["items"].data[0].to_dict() | {"current_period_end": control.now() - 10}
    control.patch(old.id, {"items": {"data": [item]}})
    control.advance(40 * 86400)
    assert stripe.subscriptions.retrieve(canceled.id).status == "canceled"
    assert stripe.subscriptions.retrieve(canceled.id).latest_invoice == canceled.latest_invoice
    assert stripe.subscriptions.retrieve(old.id)["items"].data[0].current_period_end == item["current_period_end"]


def test_remove_is_as_if_it_had_never_been(control, stripe, subscribe):
    subscription = subscribe()
    control.remove(subscription.id)
    with pytest.raises(sdk.InvalidRequestError, match="No such subscription"):
        stripe.subscriptions.retrieve(subscription.id)
    with pytest.raises(ControlError, match="404"):
        control.remove(subscription.id)


def test_settings(control):
    assert control.settings()["dunning_final"] == "canceled"
    assert control.settings(dunning_final="unpaid")["dunning_final"] == "unpaid"
    for wrong in ({"dunning_final": "gone"}, {"unknown": 1}):
        with pytest.raises(ControlError, match="400"):
            control.settings(**wrong)


def test_unknown_paths_and_objects(control):
    for call in (
        lambda: control.call("GET", "/nothing"),
        lambda: control.patch("sub_none", {}),
        lambda: control.payment("cus_none", "decline"),
    ):
        with pytest.raises(ControlError, match="404"):
            call()


def test_reset(control, stripe, subscribe):
    subscribe()
    control.advance(1000)
    control.arm("drop", times=None)
    control.settings(payment_outcome="decline")
    control.reset()
    assert stripe.subscriptions.list().data == []
    assert control.state()["offset"] == 0
    assert control.faults() == []
    assert control.settings()["payment_outcome"] == "succeed"


def test_with_a_stopped_clock_and_a_seed_the_same_steps_come_to_the_same(control, stripe):
    control.reset()
    at = control.now() + 86400
    seen = []
    for seed in (1, 1, 2):
        control.stop_clock(at + 0.5)
        control.seed_ids(seed)
        made = [stripe.customers.create({"name": str(number)}) for number in range(3)]
        time.sleep(1.1)
        assert {each.created for each in made} | {control.now()} == {at}
        seen.append([each.id for each in (*made, *stripe.events.list().data)])
        control.reset()
    assert seen[0] == seen[1]
    assert not set(seen[0]) & set(seen[2])
    assert len(set(seen[0])) == 6
    assert control.now() < at
    assert stripe.customers.create({}).id not in seen[0]
