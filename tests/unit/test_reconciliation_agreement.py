"""The cheap look never passes over what a diagnosis would tell, and knows what is simply in step."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from billing_service.plans import Plans
from billing_service.reconciliation.agreement import certainly_fits, meanings_of
from billing_service.reconciliation.diagnosis import diagnose
from billing_service.reconciliation.picture import Picture
from billing_service.settings import SAMPLE_PLANS
from billing_service.stripe_gateway import shapes
from billing_service.stripe_gateway.glances import glance_page
from billing_service.subscriptions.stored_row import StoredRow

ORG = ObjectId("5" * 24)
NOW = datetime(2026, 11, 29, 3, tzinfo=UTC)
PLANS = Plans.load(SAMPLE_PLANS)
MEANINGS = meanings_of(PLANS)
START, END = 1_795_000_000, 1_797_592_000
ITEM = {
    "price": {"id": "price_pro_monthly", "metadata": {}, "unit_amount": 4900, "currency": "usd"},
    "quantity": 1,
    "current_period_start": START,
    "current_period_end": END,
}
LIVE = {
    "object": "subscription",
    "id": "sub_1",
    "customer": "cus_1",
    "status": "active",
    "created": START,
    "cancel_at_period_end": False,
    "cancel_at": None,
    "metadata": {"organizationId": str(ORG)},
    "items": {"data": [ITEM]},
}
ROW = {
    "organization": ORG,
    "stripe_customer_id": "cus_1",
    "stripe_subscription_id": "sub_1",
    "status": "active",
    "stripe_plan": "pro",
    "plan": "pro",
    "price_id": "price_pro_monthly",
    "quantity": 1,
    "current_period_start": shapes.at(START),
    "current_period_end": shapes.at(END),
    "cancel_at_period_end": False,
    "version": 1,
}
STATUSES = st.sampled_from(["active", "trialing", "past_due", "unpaid", "canceled", "incomplete", None])
PRICES = st.sampled_from(["price_pro_monthly", "price_pro_yearly", "price_business_monthly", "price_unknown", None])
SECONDS = st.sampled_from([START, END, END + 1, None])
PLAN_IDS = st.sampled_from(["free", "pro", "business", None])
FLAGS = st.sampled_from([True, False, None])
OVERRIDES = st.sampled_from([None, {"plan": "pro"}, {"plan": "business", "until": NOW - timedelta(1)}])

SHOWN = {
    "id": st.sampled_from(["sub_1", "sub_2"]),
    "customer": st.sampled_from(["cus_1", "cus_2", {"id": "cus_1"}]),
    "status": STATUSES.filter(bool),
    "cancel_at_period_end": FLAGS,
    "cancel_at": SECONDS,
    "metadata": st.sampled_from([{}, {"organizationId": "6" * 24}, {"organizationId": "x"}, None]),
    "current_period_start": SECONDS,
}
OF_ITEM = {
    "quantity": st.sampled_from([1, 2, None]),
    "current_period_start": SECONDS,
    "current_period_end": SECONDS,
    "price": PRICES.map(lambda each: {"id": each, "metadata": {"planId": "business"}}),
}
STORED = {
    "stripe_subscription_id": st.sampled_from(["sub_1", "sub_2", None]),
    "stripe_customer_id": st.sampled_from(["cus_1", "cus_2", None]),
    "status": STATUSES,
    "stripe_plan": PLAN_IDS,
    "plan": PLAN_IDS.filter(bool),
    "price_id": PRICES,
    "quantity": st.sampled_from([1, 2, None]),
    "current_period_start": SECONDS.map(shapes.at),
    "current_period_end": SECONDS.map(shapes.at),
    "cancel_at_period_end": FLAGS,
    "cancel_at": SECONDS.map(shapes.at),
    "override": OVERRIDES,
    "suspended_at": st.sampled_from([None, NOW]),
}


def some(fields):
    """A few of the fields with other values."""
    return st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: fields[name] for name in names})
    )


def diagnosed(live, row, plan):
    stored = StoredRow(row)
    picture = Picture(ORG, stored, plan, exists=True, found=(shapes.subscription(live),))
    return diagnose(picture, PLANS, NOW)


def fits(live, row, plan):
    [listed] = glance_page(orjson.dumps({"data": [live], "has_more": False})).found
    assert listed.id == live["id"]
    return certainly_fits(listed.glance, row, plan, MEANINGS)


def test_what_is_in_step_is_seen_without_a_diagnosis():
    assert fits(LIVE, ROW, "pro")
    assert diagnosed(LIVE, ROW, "pro") == ()


@settings(max_examples=200, deadline=None)
@given(some(SHOWN), some(OF_ITEM), some(STORED), PLAN_IDS, st.integers(0, 2))
def test_what_fits_for_sure_is_diagnosed_as_nothing(shown, item, stored, plan, items):
    live = deepcopy(LIVE) | shown
    live["items"] = {"data": [ITEM | item, ITEM][: items + 1] if items else []}
    row = ROW | stored
    if fits(live, row, plan):
        assert diagnosed(live, row, plan) == ()


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"items": None},
        {"items": {"data": [{}]}},
        {"id": "sub_1", "items": {"data": [{"price": "none"}]}},
        {"x": []},
    ],
)
def test_what_cannot_be_read_does_not_fit(broken):
    assert not fits({"id": "sub_1"} | broken, ROW, "pro")


@pytest.mark.parametrize("name", sorted(STORED))
def test_each_field_of_the_row_counts(name):
    """None of what is compared is passed over: with another value the cheap look doubts it."""
    other = {"plan": "business", "suspended_at": NOW, "cancel_at": NOW, "override": {"plan": "pro"}}.get(name, "other")
    assert not fits(LIVE, ROW | {name: other}, "pro")


def test_metered_items_have_no_quantity():
    live = deepcopy(LIVE)
    del live["items"]["data"][0]["quantity"]
    assert fits(live, {name: value for name, value in ROW.items() if name != "quantity"}, "pro")
    assert not fits(live, ROW, "pro")


@pytest.mark.parametrize("shape", [{"created": "soon"}, {"customer": {"id": "cus_1"}}, {"metadata": None}, {"id": "ü"}])
def test_what_is_told_otherwise_keeps_its_place_in_the_list(shape):
    """Only reading all of it tells what it is; its id and time are known before."""
    told = LIVE | shape
    content = orjson.dumps({"data": [told, LIVE], "has_more": True})
    page = glance_page(content)
    assert [(each.id, each.created) for each in page.found] == [(told["id"], told["created"]), ("sub_1", START)]
    assert page.has_more
    assert page.found[1].read() == shapes.subscription(LIVE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"data": {}}',
        b'{"data": [',
        b'{"data": [1]}',
        b'{"data": [{}]}',
        b'{"data": [{"id": ""}]}',
        b'{"data": [{"id": 7}]}',
        b'{"data": [{"id": "sub_1", "created": 1,}]}',
        b'{"data": [{"id": "\xff"}]}',
    ],
)
def test_an_answer_that_is_no_list_is_refused(content):
    with pytest.raises(ValueError, match="no list of subscriptions"):
        glance_page(content)
