"""What a look at Stripe makes of a row: on values, without servers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from billing_service.documents import Candidate, Override, Subscription
from billing_service.errors import PlanUnresolved
from billing_service.plans import Plans
from billing_service.settings import SAMPLE_PLANS
from billing_service.stripe_gateway import shapes
from billing_service.subscriptions.decision import DOUBT, decide
from billing_service.subscriptions.observation import Observation
from billing_service.subscriptions.selection import choose
from billing_service.subscriptions.statuses import ENDED, LIVE, SUSPENDED

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLANS = Plans.load(SAMPLE_PLANS)
ORG = ObjectId()


def raw(subscription_id="sub_1", status="active", price="price_pro_monthly", created=1_700_000_000, **more):
    return {
        "id": subscription_id,
        "object": "subscription",
        "customer": "cus_1",
        "status": status,
        "created": created,
        "cancel_at_period_end": False,
        "cancel_at": None,
        "items": {
            "data": [
                {
                    "price": {"id": price, "metadata": {}},
                    "quantity": 1,
                    "current_period_start": 1_772_000_000,
                    "current_period_end": 1_774_000_000,
                }
            ]
        },
        "metadata": {},
    } | more


def live(*args, **kwargs):
    return shapes.subscription(raw(*args, **kwargs))


def seen(chosen, *others, as_of=NOW, **more):
    return Observation(chosen=chosen, as_of=as_of, found=(*((chosen,) if chosen else ()), *others), **more)


def row(**fields):
    defaults = {
        "id": ObjectId(),
        "organization": ORG,
        "stripe_customer_id": "cus_1",
        "stripe_subscription_id": "sub_1",
        "status": "active",
        "stripe_plan": "pro",
        "plan": "pro",
        "version": 3,
    }
    return Subscription(**(defaults | fields))


def after(row_, seen_, **more):
    return decide(row_, seen_, plans=PLANS, now=NOW, source="sync", **more)


@pytest.mark.parametrize("status", sorted(LIVE))
def test_a_live_status_grants_its_plan(status):
    assert after(row(plan="free"), seen(live(status=status))).updated["plan"] == "pro"


@pytest.mark.parametrize("status", sorted(SUSPENDED | ENDED))
def test_any_other_status_grants_the_free_plan(status):
    assert after(row(), seen(live(status=status))).updated["plan"] == "free"


def test_an_unknown_status_grants_nothing():
    assert after(row(), seen(live(status="invented_later"))).updated["plan"] == "free"


def test_dunning_holds_until_the_payment():
    suspended = row(status="past_due", suspended_at=NOW, plan="free")
    still = after(suspended, seen(live(status="past_due"), past_due_evidence=NOW))
    assert (still.updated["plan"], still.updated["suspended_at"]) == ("free", NOW)
    paid = after(suspended, seen(live(status="active")))
    assert (paid.updated["plan"], paid.updated["suspended_at"]) == ("pro", None)


def test_an_override_wins_until_it_ends():
    held = row(override=Override(plan="business", until=NOW + timedelta(days=1)))
    assert after(held, seen(live())).updated["plan"] == "business"
    over = row(override=Override(plan="business", until=NOW), plan="business")
    change = after(over, None)
    assert (change.updated["plan"], change.updated["override"]) == ("pro", None)


def test_an_unresolved_plan_is_kept_and_told():
    change = after(row(), seen(live(price="price_unknown")))
    assert (change.updated["plan"], change.updated["stripe_plan"]) == ("pro", "pro")
    assert change.updated["price_id"] == "price_unknown"
    assert [each.kind for each in change.noticed] == ["plan_unresolved"]
    assert [each.name for each in change.signals] == ["plan_unresolved"]


def test_an_unresolved_plan_of_a_new_row_is_free():
    fresh = Subscription(organization=ORG, plan="free", version=0)
    assert after(fresh, seen(live(price="price_unknown"))).updated["plan"] == "free"


def test_an_unresolved_plan_never_brings_back_a_plan_of_the_past():
    over = row(status="canceled", stripe_plan="business", plan="free")
    change = after(over, seen(live("sub_2", price="price_unknown")))
    assert (change.updated["plan"], change.updated["stripe_plan"]) == ("free", None)
    settled = Subscription(id=ObjectId(), **{"organization": ORG, "version": 1, **dict(change.values)})
    assert after(settled, None).updated["plan"] == "free"


def test_an_override_that_ended_is_not_kept_by_an_unresolved_plan():
    over = row(override=Override(plan="business", until=NOW), plan="business", stripe_plan="pro")
    change = after(over, seen(live(price="price_unknown")))
    assert (change.updated["plan"], change.updated["override"]) == ("pro", None)


def test_an_unresolved_plan_is_told_once():
    first = after(row(), seen(live(price="price_unknown")))
    settled = Subscription(
        id=ObjectId(),
        **{
            "version": 1,
            **{
                n: v
                for n, v in first.updated.items()
                if n in Subscription._fields and n not in ("version", "override", "candidates")
            },
        },
    )
    assert after(settled, seen(live(price="price_unknown"))).signals == ()


def test_an_unresolved_plan_can_be_refused():
    with pytest.raises(PlanUnresolved):
        after(row(), seen(live(price="price_unknown")), strict_plan=True)
    assert after(row(), seen(live(price="price_unknown", status="canceled")), strict_plan=True)


def test_gone_is_canceled_and_free_with_its_ids_kept():
    change = after(row(), seen(None, gone=True))
    assert (change.updated["status"], change.updated["plan"]) == ("canceled", "free")
    assert change.updated["stripe_subscription_id"] == "sub_1"


def test_past_due_is_dated_by_stripe_and_cleared_by_payment():
    evidence = NOW - timedelta(days=3)
    change = after(row(), seen(live(status="past_due"), past_due_evidence=evidence))
    assert change.updated["past_due_since"] == evidence
    owing = row(status="past_due", past_due_since=evidence)
    assert after(owing, seen(live(status="unpaid"))).updated["past_due_since"] == evidence
    assert after(owing, seen(live(status="active"))).updated["past_due_since"] is None


def test_a_key_that_is_absent_keeps_the_stored_value():
    end = NOW + timedelta(days=9)
    sent = raw()
    for name in ("cancel_at", "cancel_at_period_end"):
        del sent[name]
    for item in sent["items"]["data"]:
        del item["current_period_start"], item["current_period_end"]
    kept = after(
        row(current_period_end=end, cancel_at=end, cancel_at_period_end=True), seen(shapes.subscription(sent))
    ).updated
    assert (kept["current_period_end"], kept["cancel_at"], kept["cancel_at_period_end"]) == (end, end, True)


def test_a_key_that_is_null_clears_the_stored_value():
    assert after(row(cancel_at=NOW), seen(live(cancel_at=None))).updated["cancel_at"] is None


def test_both_shapes_give_the_period():
    old = raw(current_period_start=1_772_000_000, current_period_end=1_774_000_000)
    for item in old["items"]["data"]:
        del item["current_period_start"], item["current_period_end"]
    new = after(row(), seen(live())).updated
    assert after(row(), seen(shapes.subscription(old))).updated["current_period_end"] == new["current_period_end"]


def test_as_of_never_goes_back_for_the_same_subscription():
    later = NOW + timedelta(seconds=5)
    assert after(row(as_of=later), seen(live())).updated["as_of"] == later
    other = seen(live("sub_2"))
    assert after(row(as_of=later), other).updated["as_of"] == NOW


def test_a_read_too_near_to_the_newest_event_is_verified_later():
    near = NOW - DOUBT / 2
    assert after(row(), seen(live()), newest_created=near).updated["verify_at"] == near + 2 * DOUBT
    far = NOW - 2 * DOUBT
    assert after(row(verify_at=NOW), seen(live()), newest_created=far).updated["verify_at"] is None


def test_others_that_have_not_ended_are_remembered():
    change = after(row(), seen(live(), live("sub_2", status="past_due"), live("sub_3", status="canceled")))
    assert [each["stripe_subscription_id"] for each in change.updated["candidates"]] == ["sub_2"]
    assert [each.kind for each in change.noticed] == ["several_live_subscriptions"]


def test_a_look_at_the_own_one_alone_keeps_what_is_known_of_others():
    known = row(candidates=[Candidate(stripe_subscription_id="sub_2", stripe_customer_id="cus_2")])
    assert after(known, seen(live(), complete=False)).updated["candidates"]


def test_nothing_new_is_no_change_and_no_signal():
    first = after(row(), seen(live()))
    settled = Subscription(id=ObjectId(), version=4, **{"organization": ORG, **dict(first.values)})
    again = after(settled, seen(live()))
    assert (again.changed, again.signals, again.noticed) == ([], (), ())


def test_transitions_are_told():
    names = [each.name for each in after(row(), seen(live(status="canceled"))).signals]
    assert names == ["plan_changed", "subscription_expired"]
    names = [each.name for each in after(row(), seen(live(status="past_due"), past_due_evidence=NOW)).signals]
    assert names == ["payment_failed"]


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ([live("a", "canceled"), live("b", "active")], "b"),
        ([live("a", "past_due", created=1), live("b", "active", created=2)], "b"),
        ([live("a", "unpaid"), live("b", "past_due")], "b"),
        ([live("a", "canceled"), live("b", "paused")], "b"),
        ([live("a", "active", created=2), live("b", "trialing", created=1)], "b"),
        ([live("a", "canceled", created=1), live("b", "incomplete_expired", created=2)], "b"),
        ([live("b", "active"), live("a", "active")], "a"),
        ([], None),
    ],
)
def test_which_subscription_is_the_organizations(found, chosen):
    best = choose(found)
    assert (best.id if best else None) == chosen
    turned = choose(list(reversed(found)))
    assert (turned.id if turned else None) == chosen


def test_a_period_of_several_items_is_the_narrowest():
    sent = raw()
    second = replace(live().items[0], period_end=datetime(2026, 2, 1, tzinfo=UTC))
    sent["items"]["data"].append({"price": {"id": "price_x"}, "current_period_end": int(second.period_end.timestamp())})
    assert shapes.subscription(sent).current_period_end == second.period_end
