"""Refunds: whole, in parts, too much, pending, failed later."""

import time

import pytest
import stripe as sdk

from billing_service.sandbox.stripe.control import ControlError
from tests.sandbox.conftest import connect


@pytest.fixture
def charge(stripe, subscribe):
    """A charge of 2000."""
    return stripe.charges.list({"customer": subscribe().customer}).data[0]


def refused(call):
    with pytest.raises(sdk.StripeError) as caught:
        call()
    error = caught.value
    return error.http_status, error.code, getattr(error, "param", None), error.user_message


def test_the_whole_charge(stripe, charge, events):
    refund = stripe.refunds.create({"charge": charge.id, "reason": "duplicate", "metadata": {"ticket": "7"}})
    assert (refund.amount, refund.status, refund.reason) == (2000, "succeeded", "duplicate")
    assert (refund.charge, refund.payment_intent, refund.currency) == (charge.id, charge.payment_intent, "usd")
    after = stripe.charges.retrieve(charge.id, {"expand": ["refunds"]})
    assert (after.amount_refunded, after.refunded, after.status) == (2000, True, "succeeded")
    assert [one.id for one in after.refunds.data] == [refund.id]
    assert events()[-2:] == ["refund.created", "charge.refunded"]
    (event,) = events("charge.refunded")
    assert event.data.previous_attributes.to_dict() == {"amount_refunded": 0, "refunded": False}
    assert stripe.refunds.retrieve(refund.id).metadata.to_dict() == {"ticket": "7"}
    assert refused(lambda: stripe.refunds.create({"charge": charge.id})) == (
        400,
        "charge_already_refunded",
        None,
        f"Charge {charge.id} has already been refunded.",
    )


def test_in_parts_by_payment_intent(stripe, charge, events):
    wanted = {"payment_intent": charge.payment_intent, "amount": 1500}
    first = stripe.refunds.create(wanted)
    assert first.charge == charge.id
    found = stripe.charges.retrieve(charge.id)
    assert (found.amount_refunded, found.refunded) == (1500, False)
    assert refused(lambda: stripe.refunds.create(wanted)) == (
        400,
        None,
        "amount",
        "Refund amount ($15.00) is greater than unrefunded amount on charge ($5.00)",
    )
    second = stripe.refunds.create({"charge": charge.id})
    assert second.amount == 500
    assert stripe.charges.retrieve(charge.id).refunded is True
    assert len(events("charge.refunded")) == len(events("refund.created")) == 2
    for name, value in (("charge", charge.id), ("payment_intent", charge.payment_intent)):
        assert [one.id for one in stripe.refunds.list({name: value}).data] == [second.id, first.id]


def test_lists_know_other_charges(stripe, charge, subscribe):
    other = stripe.charges.list({"customer": subscribe().customer}).data[0]
    mine, theirs = (stripe.refunds.create({"charge": one.id}).id for one in (charge, other))
    assert [one.id for one in stripe.refunds.list({"charge": charge.id}).data] == [mine]
    assert {one.id for one in stripe.refunds.list({"limit": 1}).auto_paging_iter()} == {mine, theirs}
    assert refused(lambda: stripe.refunds.list({"charge": "ch_no"}))[:3] == (400, "resource_missing", "charge")


def test_it_rejects_bad_input(stripe, subscribe, control, charge):
    create = stripe.refunds.create
    assert "payment_intent or charge" in refused(lambda: create({"amount": 1}))[3]
    assert refused(lambda: create({"charge": "ch_no"}))[:3] == (404, "resource_missing", "id")
    assert refused(lambda: create({"payment_intent": "pi_no"}))[:2] == (404, "resource_missing")
    for wrong in (0, -5):
        assert refused(lambda wrong=wrong: create({"charge": charge.id, "amount": wrong}))[1:3] == (
            "parameter_invalid_integer",
            "amount",
        )
    assert "charge amount ($20.00)" in refused(lambda: create({"charge": charge.id, "amount": 2001}))[3]
    assert refused(lambda: create({"charge": charge.id, "reason": "regret"}))[2] == "reason"
    declined = stripe.charges.list({"customer": subscribe(control, "decline").customer}).data[0]
    assert "does not have a successful charge" in refused(lambda: create({"charge": declined.id}))[3]
    assert "does not belong" in refused(lambda: create({"charge": "ch_no", "payment_intent": charge.payment_intent}))[3]
    assert stripe.charges.retrieve(charge.id).amount_refunded == 0


def test_a_key_makes_one_refund(stripe, charge):
    first = stripe.refunds.create({"charge": charge.id, "amount": 100}, {"idempotency_key": "r1"})
    again = stripe.refunds.create({"charge": charge.id, "amount": 100}, {"idempotency_key": "r1"})
    assert first.id == again.id
    assert stripe.charges.retrieve(charge.id).amount_refunded == 100


def test_a_refund_whose_answer_is_lost_has_happened(stripe, control, charge):
    control.arm("drop_after", path="/v1/refunds$", method="POST")
    with pytest.raises(sdk.APIConnectionError):
        stripe.refunds.create({"charge": charge.id, "amount": 100}, {"idempotency_key": "r1"})
    assert len(stripe.refunds.list({"charge": charge.id}).data) == 1
    stripe.refunds.create({"charge": charge.id, "amount": 100}, {"idempotency_key": "r1"})
    assert len(stripe.refunds.list({"charge": charge.id}).data) == 1
    sent = control.requests(method="POST", path="/v1/refunds$")["items"]
    assert [(one["fault"], one["replayed"]) for one in sent] == [("drop_after", False), (None, True)]


def test_one_that_is_still_executing_is_not_listed_and_holds_its_key(process, stripe, control, charge):
    """The caller has given up; Stripe has not."""
    hasty = connect(process.url, http_client=sdk.RequestsClient(timeout=(0.3, 0.3))).v1
    control.arm("delay", path="/v1/refunds$", method="POST", seconds=1.2)
    with pytest.raises(sdk.APIConnectionError):
        hasty.refunds.create({"charge": charge.id, "amount": 100}, {"idempotency_key": "r1"})
    assert stripe.refunds.list({"charge": charge.id}).data == []
    with pytest.raises(sdk.APIError) as caught:
        stripe.refunds.create({"charge": charge.id, "amount": 100}, {"idempotency_key": "r1"})
    assert caught.value.http_status == 409
    time.sleep(1.3)
    made = stripe.refunds.create({"charge": charge.id, "amount": 100}, {"idempotency_key": "r1"})
    assert [one.id for one in stripe.refunds.list({"charge": charge.id}).data] == [made.id]


def test_pending_then_succeeded(stripe, control, charge, events):
    control.pend_refunds(pending_reason="insufficient_funds")
    refund = stripe.refunds.create({"charge": charge.id, "amount": 700})
    assert (refund.status, refund.pending_reason) == ("pending", "insufficient_funds")
    assert stripe.charges.retrieve(charge.id).amount_refunded == 700
    control.settle_refund(refund.id, "succeed")
    assert events()[-2:] == ["refund.updated", "charge.refund.updated"]
    assert events("refund.updated")[0].data.previous_attributes["status"] == "pending"
    found = stripe.refunds.retrieve(refund.id)
    assert found.status == "succeeded"
    assert "pending_reason" not in found.to_dict()
    assert stripe.refunds.create({"charge": charge.id, "amount": 1}).status == "succeeded"
    with pytest.raises(ControlError, match="409"):
        control.settle_refund(refund.id, "succeed")


@pytest.mark.parametrize("pending", [False, True])
def test_failed_later(stripe, control, charge, events, pending):
    control.pend_refunds(int(pending))
    refund = stripe.refunds.create({"charge": charge.id})
    failed = control.settle_refund(refund.id, "fail", failure_reason="lost_or_stolen_card")
    assert (failed["status"], failed["failure_reason"]) == ("failed", "lost_or_stolen_card")
    assert events()[-3:] == ["refund.updated", "charge.refund.updated", "refund.failed"]
    after = stripe.charges.retrieve(charge.id)
    assert (after.amount_refunded, after.refunded) == (0, False)
    assert [one.status for one in stripe.refunds.list({"charge": charge.id}).data] == ["failed"]
    assert stripe.refunds.create({"charge": charge.id}).amount == 2000
    with pytest.raises(ControlError, match="409"):
        control.settle_refund(refund.id, "fail")


def test_metadata_is_updated(stripe, charge, events):
    refund = stripe.refunds.create({"charge": charge.id, "metadata": {"a": "1"}})
    changed = stripe.refunds.update(refund.id, {"metadata": {"b": "2"}})
    assert changed.metadata.to_dict() == {"a": "1", "b": "2"}
    stripe.refunds.update(refund.id, {"metadata": {"b": "2"}})
    assert len(events("refund.updated")) == len(events("charge.refund.updated")) == 1


def test_wrong_orders_of_the_control_plane(control, stripe, charge):
    refund = stripe.refunds.create({"charge": charge.id}).id
    for call in (
        lambda: control.settle_refund(refund, "vanish"),
        lambda: control.pend_refunds(-1),
        lambda: control.pend_refunds(pending_reason="mood"),
        lambda: control.pend_refunds(colour="red"),
    ):
        with pytest.raises(ControlError, match="400"):
            call()
    with pytest.raises(ControlError, match="404"):
        control.settle_refund("re_no", "fail")
