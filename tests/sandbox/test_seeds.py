"""A million seeded subscriptions: fast, small, the same each time, and changeable like any other."""

import time

import pytest
import stripe as sdk

from billing_service.sandbox.stripe.control import ControlError

RULE = {
    "created_from": 1_700_000_000,
    "created_to": 1_700_010_000,
    "organization_base": "f" * 20 + "0000",
    "statuses": {"active": 90, "past_due": 5, "canceled": 5},
}


def walk(stripe, **params):
    return [one.id for one in stripe.subscriptions.list(params).auto_paging_iter()]


@pytest.fixture
def seeded(control):
    return control.seed(1000, ["price_a", "price_b"], **RULE)


def test_it_works(stripe, seeded):
    assert (seeded["first"], seeded["last"]) == ("sub_1Seed0100000000", "sub_1Seed0100000999")
    subscription = stripe.subscriptions.retrieve("sub_1Seed0100000010", {"expand": ["customer"]})
    assert subscription.metadata.organizationId == "f" * 20 + "000a"
    assert subscription.created == 1_700_000_100
    assert subscription["items"].data[0].price.id == "price_a"
    assert subscription.customer.metadata.organizationId == subscription.metadata.organizationId
    assert stripe.prices.retrieve("price_b").active
    customer = stripe.customers.retrieve("cus_Seed0100000010")
    for _ in range(12):
        stripe.customers.create({"email": "another@example.com"})
    assert [one.id for one in stripe.customers.list({"email": customer.email}).data] == [customer.id]
    assert walk(stripe, customer=customer.id) == [subscription.id]


def test_the_same_parameters_make_the_same_objects(stripe, control, seeded):
    before = stripe.subscriptions.list({"limit": 100}).to_dict()
    control.reset()
    control.advance(86400)
    control.seed(1000, ["price_a", "price_b"], **RULE)
    assert stripe.subscriptions.list({"limit": 100}).to_dict() == before


def test_every_one_is_listed_once_newest_first(stripe, seeded):
    everything = walk(stripe, limit=100, status="all")
    assert everything == [f"sub_1Seed0100{index:06d}" for index in range(999, -1, -1)]
    assert len(walk(stripe, limit=100)) == 950
    assert len(walk(stripe, limit=100, status="past_due")) == 50
    assert len(walk(stripe, limit=100, price="price_a")) + len(walk(stripe, limit=100, price="price_b")) == 950
    assert walk(stripe, status="trialing") == []


def test_windows_and_both_directions(stripe, seeded):
    window = {"created": {"gte": 1_700_002_000, "lt": 1_700_003_000}}
    found = walk(stripe, limit=100, status="all", **window)
    assert len(found) == 100
    back = stripe.subscriptions.list({"limit": 5, "status": "all", "ending_before": found[-1], **window})
    assert [one.id for one in back.data] == found[-6:-1]


def test_a_changed_one_keeps_its_place(stripe, control, seeded):
    everything = walk(stripe, limit=100, status="all")
    changed = stripe.subscriptions.update(everything[500], {"metadata": {"a": "1"}})
    assert changed.metadata.a == "1"
    control.remove(everything[501])
    stripe.subscriptions.cancel(everything[502])
    assert walk(stripe, limit=100, status="all") == everything[:501] + everything[502:]
    assert everything[502] not in walk(stripe, limit=100)
    with pytest.raises(sdk.InvalidRequestError):
        stripe.subscriptions.retrieve(everything[501])


def test_real_ones_are_listed_among_them(stripe, control, seeded, subscribe):
    mine = subscribe()
    control.patch(mine.id, {})
    assert walk(stripe, limit=100)[0] == mine.id


def test_a_seeded_customer_can_be_deleted(stripe, seeded):
    stripe.customers.delete("cus_Seed0100000010")
    assert stripe.subscriptions.retrieve("sub_1Seed0100000010").status == "canceled"
    assert stripe.customers.retrieve("cus_Seed0100000010").deleted
    assert len(list(stripe.customers.list({"limit": 100}).auto_paging_iter())) == 999


def test_it_ends_when_it_was_told_to(stripe, control, seeded):
    changed = stripe.subscriptions.update("sub_1Seed0100000010", {"cancel_at": control.now() + 100})
    control.advance(200)
    assert stripe.subscriptions.retrieve(changed.id).status == "canceled"


def test_a_batch_is_there_once(control, seeded):
    with pytest.raises(ControlError):
        control.seed(10, ["price_a"])
    assert control.seed(10, ["price_a"], batch=2)["first"] == "sub_1Seed0200000000"


def test_a_million(process, control, http):
    before, started = process.memory_mb(), time.monotonic()
    control.seed(1_000_000, ["price_a", "price_b", "price_c"], **RULE)
    assert time.monotonic() - started < 2
    after, started = None, time.monotonic()
    for _ in range(100):
        params = {"limit": 100} | ({"starting_after": after} if after else {})
        after = http("GET", "/v1/subscriptions", params).json()["data"][-1]["id"]
    assert time.monotonic() - started < 5
    assert http("GET", "/v1/subscriptions", {"limit": 100, "created[lt]": 1_700_000_010}).json()["data"]
    assert process.memory_mb() - before < 30
