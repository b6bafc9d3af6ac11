"""The billing calendar: what happens when the clock moves."""

import pytest

DAY = 86400


def status(stripe, subscription):
    return stripe.subscriptions.retrieve(subscription.id).status


def test_renewal(subscribe, stripe, control, events):
    subscription = subscribe()
    end = subscription["items"].data[0].current_period_end
    control.set_clock(end + 60)
    renewed = stripe.subscriptions.retrieve(subscription.id)
    assert renewed["items"].data[0].current_period_start == end
    draft = stripe.invoices.retrieve(renewed.latest_invoice)
    assert (draft.status, draft.billing_reason, draft.created) == ("draft", "subscription_cycle", end)
    update = events("customer.subscription.updated")[-1]
    assert update.created == end
    assert set(update.data.previous_attributes.to_dict()) == {"items", "latest_invoice"}
    assert update.request.id is None
    control.advance(3600)
    assert stripe.invoices.retrieve(renewed.latest_invoice).status == "paid"


def test_a_31st_does_not_drift(subscribe, stripe, control):
    control.set_clock(1801353600)  # 2027-01-31T00:00:00Z
    subscription = subscribe()
    ends = []
    for _ in range(3):
        end = stripe.subscriptions.retrieve(subscription.id)["items"].data[0].current_period_end
        ends.append(end)
        control.set_clock(end + 1)
    anchor = subscription.billing_cycle_anchor
    assert [round((end - anchor) / DAY) for end in ends] == [28, 59, 89]


def test_cancel_at_period_end(subscribe, stripe, control, events):
    subscription = subscribe()
    end = subscription["items"].data[0].current_period_end
    asked = stripe.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    control.set_clock(end + 1)
    ended = stripe.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.ended_at, ended.canceled_at) == ("canceled", end, asked.canceled_at)
    assert events("customer.subscription.deleted")[0].created == end
    assert len(stripe.invoices.list({"subscription": subscription.id}).data) == 1


def test_cancel_at(subscribe, stripe, control):
    subscription = subscribe()
    later = control.now() + 40 * DAY
    stripe.subscriptions.update(subscription.id, {"cancel_at": later})
    control.set_clock(later - 10)
    assert status(stripe, subscription) == "active"
    control.set_clock(later + 1)
    assert status(stripe, subscription) == "canceled"


def test_trial(subscribe, stripe, control, events):
    subscription = subscribe(trial_period_days=7)
    assert subscription.status == "trialing"
    assert stripe.invoices.retrieve(subscription.latest_invoice).amount_due == 0
    assert stripe.charges.list({"customer": subscription.customer}).data == []
    control.advance(4 * DAY + 10)
    assert len(events("customer.subscription.trial_will_end")) == 1
    control.advance(3 * DAY)
    assert status(stripe, subscription) == "active"
    control.advance(3700)
    assert stripe.charges.list({"customer": subscription.customer}).data[0].paid
    assert len(events("customer.subscription.trial_will_end")) == 1


def test_trial_end_now(subscribe, stripe):
    subscription = subscribe(trial_period_days=7)
    changed = stripe.subscriptions.update(subscription.id, {"trial_end": "now"})
    assert changed.status == "active"
    assert stripe.invoices.retrieve(changed.latest_invoice).amount_paid == 2000


def test_a_trial_without_payment_method_pauses(subscribe, stripe, control, events):
    subscription = subscribe(
        control, "none", trial_period_days=7, trial_settings={"end_behavior": {"missing_payment_method": "pause"}}
    )
    control.advance(7 * DAY + 10)
    assert status(stripe, subscription) == "paused"
    assert events()[-1] == "customer.subscription.paused"
    control.payment(subscription.customer, "succeed")
    assert stripe.subscriptions.resume(subscription.id).status == "active"
    assert events()[-1] == "customer.subscription.resumed"


def test_an_incomplete_one_expires(subscribe, stripe, control, events):
    subscription = subscribe(control, "decline")
    control.advance(22 * 3600)
    assert status(stripe, subscription) == "incomplete"
    control.advance(3700)
    assert status(stripe, subscription) == "incomplete_expired"
    assert stripe.invoices.retrieve(subscription.latest_invoice).status == "void"
    assert events("customer.subscription.updated")[-1].data.previous_attributes["status"] == "incomplete"


@pytest.mark.parametrize(
    ("final", "expected"), [("canceled", "canceled"), ("unpaid", "unpaid"), ("past_due", "past_due")]
)
def test_dunning(subscribe, stripe, control, events, final, expected):
    control.settings(dunning_retries=[DAY, 2 * DAY], dunning_final=final)
    subscription = subscribe()
    control.payment(subscription.customer, "decline")
    control.set_clock(subscription["items"].data[0].current_period_end + 3700)
    past_due = stripe.subscriptions.retrieve(subscription.id)
    assert past_due.status == "past_due"
    invoice = stripe.invoices.retrieve(past_due.latest_invoice)
    assert (invoice.status, invoice.attempt_count) == ("open", 1)
    assert invoice.next_payment_attempt > control.now()
    assert stripe.customers.retrieve(subscription.customer).delinquent is True
    control.advance(4 * DAY)
    assert status(stripe, subscription) == expected
    assert stripe.invoices.retrieve(invoice.id).attempt_count == 3
    assert len(events("invoice.payment_failed")) == 3
    if final == "canceled":
        assert events("customer.subscription.deleted")[0].data.object.cancellation_details.reason == "payment_failed"


def test_payment_ends_dunning(subscribe, stripe, control):
    subscription = subscribe()
    control.payment(subscription.customer, "decline")
    control.set_clock(subscription["items"].data[0].current_period_end + 3700)
    control.payment(subscription.customer, "succeed")
    control.advance(3 * DAY)
    assert status(stripe, subscription) == "active"
    assert stripe.customers.retrieve(subscription.customer).delinquent is False


def test_paused_collection_voids(subscribe, stripe, control):
    subscription = subscribe()
    stripe.subscriptions.update(subscription.id, {"pause_collection": {"behavior": "void"}})
    control.set_clock(subscription["items"].data[0].current_period_end + 7200)
    found = stripe.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert (found.status, found.latest_invoice.status) == ("active", "void")


def test_a_year_at_once_is_twelve_renewals(subscribe, stripe, control):
    subscription = subscribe()
    control.advance(366 * DAY)
    invoices = stripe.invoices.list({"subscription": subscription.id, "limit": 100}).data
    assert len(invoices) == 13
    assert {invoice.status for invoice in invoices} == {"paid"}


def test_the_clock_does_not_go_back(control):
    from billing_service.sandbox.stripe.control import ControlError

    with pytest.raises(ControlError, match="400"):
        control.advance(-1)
