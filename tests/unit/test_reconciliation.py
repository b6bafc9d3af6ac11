"""The diagnosis of one picture, on values: what is told by itself, what goes along, and what it costs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bson import ObjectId

from billing_service.documents import Finding
from billing_service.documents.finding import SEVERITIES
from billing_service.plans import Plans
from billing_service.reconciliation.causes import CAUSES, told_by
from billing_service.reconciliation.diagnosis import KINDS, diagnose
from billing_service.reconciliation.money import money_of
from billing_service.reconciliation.picture import Picture, value_text
from billing_service.settings import SAMPLE_PLANS
from billing_service.stripe_gateway import shapes
from billing_service.subscriptions.stored_row import StoredRow

ORG = ObjectId("5" * 24)
NOW = datetime(2026, 11, 29, 3, tzinfo=UTC)
PLANS = Plans.load(SAMPLE_PLANS)
START, END = 1_795_000_000, 1_797_592_000
RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "divergence.md"


def live(name="sub_1", price="price_pro_monthly", amount=4900, interval="month", count=1, quantity=1, **members):
    price_fields = members.pop("price_fields", {})
    item = {
        "price": {
            "id": price,
            "unit_amount": amount,
            "currency": "usd",
            "recurring": {"interval": interval, "interval_count": count},
            **price_fields,
        },
        "quantity": quantity,
        "current_period_start": START,
        "current_period_end": END,
    }
    raw = {
        "object": "subscription",
        "id": name,
        "customer": "cus_1",
        "status": "active",
        "created": START,
        "cancel_at_period_end": False,
        "cancel_at": None,
        "items": {"data": [item]},
    }
    return shapes.subscription(raw | members)


def row(**fields):
    stored = {
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
    return StoredRow(stored | fields)


def found(stored, *shown, plan="pro", **more):
    picture = Picture(ORG, stored, plan, exists=True, found=shown, **more)
    return {each.kind: each for each in diagnose(picture, PLANS, NOW)}


def test_what_agrees_is_nothing():
    assert found(row(), live()) == {}


def test_a_status_takes_plan_and_period_along():
    told = found(row(current_period_end=NOW), live(status="unpaid"))
    assert set(told) == {"status"}
    assert set(told["status"].stored) == {"status", "plan", "current_period_end"}
    assert told["status"].evidence == {"sub_1 status=unpaid"}
    assert told["status"].severity == "high"


def test_an_intent_to_cancel_stands_alone_unless_it_is_over():
    told = found(row(), live(status="past_due", cancel_at_period_end=True))
    assert set(told) == {"status", "cancel_intent"}
    assert set(found(row(), live(status="canceled", cancel_at_period_end=True))) == {"status"}


def test_a_plan_takes_its_price_along():
    told = found(row(), live(price="price_business_monthly"))
    assert set(told) == {"plan"}
    assert told["plan"].live["price_id"] == "price_business_monthly"
    assert "price_id=price_business_monthly" in told["plan"].told


def test_paid_and_not_granted_is_critical_and_costs():
    told = found(row(status="canceled", plan="free"), live(), plan="free")["canceled_here_live_there"]
    assert (told.severity, told.money_at_risk) == ("critical", ({"currency": "usd", "amount": 4900},))


def test_a_row_that_is_over_on_both_sides_is_nothing():
    assert found(row(status="canceled", plan="free", quantity=4), live(status="canceled"), plan="free") == {}


def test_gone_is_missing_only_where_it_was_not_over():
    assert set(found(row(), gone=frozenset({"sub_1"}))) == {"missing_in_stripe"}
    assert found(row(status="canceled", plan="free"), plan="free", gone=frozenset({"sub_1"})) == {}


def test_one_that_is_billed_in_place_of_ours():
    told = found(row(), live("sub_2"), gone=frozenset({"sub_1"}))
    assert set(told) == {"missing_in_db"}
    assert told["missing_in_db"].severity == "medium"


def test_two_that_are_billed():
    told = found(row(), live(), live("sub_2"))
    assert set(told) == {"several_live_subscriptions"}
    assert told["several_live_subscriptions"].fingerprint == f"several_live_subscriptions:{ORG}:sub_1:sub_2"
    assert told["several_live_subscriptions"].evidence == {"sub_2 is live"}


def test_two_that_are_billed_and_none_is_ours():
    told = found(row(status="canceled", plan="free"), live("sub_2"), live("sub_3"), plan="free")
    assert set(told) == {"missing_in_db", "several_live_subscriptions"}


def test_an_unresolved_price_says_nothing_of_the_plan():
    assert set(found(row(price_id="price_x"), live(price="price_x"))) == {"plan_unresolved"}
    assert set(found(row(price_id="price_x", quantity=2), live(price="price_x"))) == {"plan_unresolved", "price"}


def test_an_override_in_force_informs():
    until = NOW + timedelta(days=1)
    told = found(row(override={"plan": "business", "until": until}, plan="business"), live(), plan="business")
    assert (set(told), told["overridden"].severity) == ({"overridden"}, "info")
    assert told["overridden"].live == {"plan": "pro"}


def test_an_override_that_has_ended_is_a_wrong_plan():
    told = found(row(override={"plan": "business", "until": NOW}, plan="business"), live(), plan="business")
    assert set(told) == {"plan"}


@pytest.mark.parametrize(
    ("plan", "stored", "severity"),
    [("free", "pro", "critical"), ("pro", "free", "high"), ("business", "pro", "medium"), (None, "pro", "critical")],
)
def test_the_organizations_plan_by_what_it_grants(plan, stored, severity):
    mine = row(
        plan=stored, stripe_plan=stored, stripe_subscription_id=None, status="active" if stored != "free" else None
    )
    assert found(mine, plan=plan, looked=False)["org_plan"].severity == severity


def test_an_organization_that_nobody_told_of_has_no_plan():
    assert diagnose(Picture(ORG, row(), None, exists=False, found=(live(),)), PLANS, NOW) == ()


@pytest.mark.parametrize(
    ("interval", "count", "quantity", "amount", "monthly"),
    [
        ("month", 1, 3, 1_000, 3_000),
        ("month", 3, 1, 3_000, 1_000),
        ("year", 1, 1, 12_001, 1_000),
        ("week", 1, 1, 300, 1_300),
        ("day", 1, 1, 12, 365),
        ("month", 1, None, 1_000, None),
        ("month", 1, 1, None, None),
        ("era", 1, 1, 1_000, None),
    ],
)
def test_money_a_month(interval, count, quantity, amount, monthly):
    shown = live(interval=interval, count=count, quantity=quantity, amount=amount)
    assert money_of([shown]) == (({"currency": "usd", "amount": monthly},) if monthly else ())


def test_prices_of_a_fraction_of_a_cent_count_too():
    """Stripe tells no `unit_amount` of them."""
    shown = live(amount=None, quantity=30_000, price_fields={"unit_amount_decimal": "0.5"})
    assert money_of([shown]) == ({"currency": "usd", "amount": 15_000},)


def test_an_event_tells_fields_as_evidence_has_them():
    sent = {
        "object": "subscription",
        "id": "sub_1",
        "customer": "cus_1",
        "status": "paused",
        "created": START,
        "items": {"data": [{"price": {"id": "price_x"}, "quantity": 2, "current_period_end": END}]},
    }
    told = told_by({"data": {"object": sent}})
    assert {"status=paused", "price_id=price_x", "quantity=2", f"current_period_end={END}"} <= set(told)
    assert told_by({"data": {"object": {"object": "invoice"}}}) == []
    assert told_by({}) == []


def test_the_same_time_is_the_same_text():
    assert value_text(shapes.at(START)) == value_text(shapes.at(START).replace(microsecond=0)) == str(START)


def test_the_runbook_has_every_kind_and_cause():
    text = RUNBOOK.read_text()
    assert [each for each in (*KINDS, *CAUSES) if f"`{each}`" not in text] == []


def test_every_severity_is_one_of_the_findings():
    assert Finding.severity.choices == SEVERITIES
