"""Disputes: opened and decided by the buyer's bank."""

import pytest
import stripe as sdk

from billing_service.sandbox.stripe.control import ControlError


@pytest.fixture
def charge(stripe, subscribe):
    return stripe.charges.list({"customer": subscribe().customer}).data[0]


def test_a_dispute_takes_the_money(stripe, control, charge, events):
    made = control.dispute(charge.id, reason="product_not_received")
    dispute = stripe.disputes.retrieve(made["id"])
    assert (dispute.status, dispute.reason, dispute.amount) == ("needs_response", "product_not_received", 2000)
    assert (dispute.charge, dispute.payment_intent, dispute.currency) == (charge.id, charge.payment_intent, "usd")
    assert [(one.amount, one.fee, one.net) for one in dispute.balance_transactions] == [(-2000, 1500, -3500)]
    assert events()[-2:] == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    assert stripe.charges.retrieve(charge.id).disputed is True
    with pytest.raises(sdk.InvalidRequestError, match="has been charged back") as refused:
        stripe.refunds.create({"charge": charge.id})
    assert refused.value.code == "charge_disputed"


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_it_is_closed(stripe, control, charge, events, outcome):
    made = control.dispute(charge.id)
    before = len(events())
    control.close_dispute(made["id"], outcome)
    back = ["charge.dispute.funds_reinstated"] if outcome == "won" else []
    assert events()[before:] == ["charge.dispute.updated", *back, "charge.dispute.closed"]
    assert events("charge.dispute.updated")[0].data.previous_attributes["status"] == "needs_response"
    dispute = stripe.disputes.retrieve(made["id"])
    assert dispute.status == events("charge.dispute.closed")[0].data.object.status == outcome
    net = sum(one.amount for one in dispute.balance_transactions)
    assert net == (0 if outcome == "won" else -2000)
    assert stripe.charges.retrieve(charge.id).disputed is True
    with pytest.raises(ControlError, match="409"):
        control.close_dispute(made["id"], outcome)


def test_an_inquiry_moves_no_money(stripe, control, charge, events):
    made = control.dispute(charge.id, inquiry=True)
    assert (made["status"], made["balance_transactions"]) == ("warning_needs_response", [])
    assert events()[-1] == "charge.dispute.created"
    assert stripe.refunds.create({"charge": charge.id, "amount": 100}).status == "succeeded"
    control.close_dispute(made["id"], "warning_closed")
    assert events()[-1] == "charge.dispute.closed"
    assert control.dispute(charge.id)["amount"] == 1900


def test_lists(stripe, control, charge, subscribe):
    other = stripe.charges.list({"customer": subscribe().customer}).data[0]
    mine, theirs = control.dispute(charge.id)["id"], control.dispute(other.id, amount=500)["id"]

    def ids(**params):
        return [one.id for one in stripe.disputes.list(params).data]

    assert set(ids()) == {mine, theirs}
    assert ids(charge=charge.id) == ids(payment_intent=charge.payment_intent) == [mine]
    assert stripe.disputes.retrieve(theirs).amount == 500
    with pytest.raises(sdk.InvalidRequestError, match="No such charge"):
        ids(charge="ch_no")
    with pytest.raises(sdk.InvalidRequestError, match="No such dispute") as refused:
        stripe.disputes.retrieve("du_no")
    assert refused.value.http_status == 404


def test_wrong_orders_of_the_control_plane(stripe, control, charge, subscribe):
    for wrong in ({"reason": "mood"}, {"amount": 2001}, {"amount": 0}, {"colour": "red"}):
        with pytest.raises(ControlError, match="400"):
            control.dispute(charge.id, **wrong)
    declined = stripe.charges.list({"customer": subscribe(control, "decline").customer}).data[0]
    with pytest.raises(ControlError, match="400"):
        control.dispute(declined.id)
    made = control.dispute(charge.id)
    with pytest.raises(ControlError, match="409"):
        control.dispute(charge.id)
    with pytest.raises(ControlError, match="400"):
        control.close_dispute(made["id"], "warning_closed")
    with pytest.raises(ControlError, match="404"):
        control.close_dispute("du_no", "won")
