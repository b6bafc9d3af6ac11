"""Signed events of any shape: stored and answered 200, or refused with 400; what cannot be read is nothing."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_service.documents import WebhookEvent
from billing_service.webhooks import handle_due

LONG = os.environ.get("BILLING_TESTS") == "long"
MANY = settings(
    max_examples=3_000 if LONG else 200,
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=list(HealthCheck),
)

PARENTS = ["x", [1], 7, True, {}, {"subscription_details": "x"}, {"subscription_details": [{"subscription": "sub_1"}]}]
SUBJECTS = [
    *({"object": "invoice", "customer": "cus_1", "parent": each} for each in PARENTS),
    {"parent": {"subscription_details": {"subscription": {"id": ["sub_1"]}}}},
    {"subscription": 5},
    {"customer": [1]},
    {"customer": {"id": {}}},
    {"object": []},
    {"object": {"$gt": ""}, "id": "x"},
    {"object": "subscription", "id": {"a": 1}},
    {"object": "subscription"},
    {"object": "subscription", "id": "sub_1", "customer": "cus_1", "status": "active", "created": 1e300},
    {"object": "subscription", "id": "sub_1", "customer": {"id": 5}, "items": {"data": ["x"]}, "metadata": [1]},
]


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("kind", ["customer.subscription.updated", "invoice.paid"])
def test_an_object_of_any_shape_is_stored(deliver, event_of, row, kind, subject):
    event = event_of(kind, subject)
    assert deliver(event).status_code == 200
    assert row(event["id"]).event == json.loads(json.dumps(event))


THIN = {"object": "v2.core.event", "type": "v1.billing.meter.error", "created": "2026-09-17T06:20:52.246Z"}


@pytest.mark.parametrize("data", ["x", [1], 7, True, {"object": "x"}, {"object": [1]}, None])
def test_thin_events_of_any_shape_are_stored(deliver, event_of, row, data):
    event = event_of() | THIN | {"data": data}
    assert deliver(event).status_code == 200
    assert (row(event["id"]).state, row(event["id"]).outcome) == ("succeeded", "ignored")


@pytest.mark.parametrize("account", [[1], {"$ne": 1}, 7, True, "x"])
def test_an_account_that_is_not_ours_is_not_ours_whatever_it_is(deliver, event_of, row, account):
    event = event_of(account=account)
    assert deliver(event).status_code == 200
    assert row(event["id"]).reason == "wrong_account"


@pytest.mark.parametrize(
    "created", ["9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00", "", None, [], 1e300, True, 10**300, -(10**15)]
)
def test_a_thin_event_without_a_readable_time_is_stored_or_refused(deliver, event_of, created):
    assert deliver(event_of() | THIN | {"created": created}).status_code in (200, 400)


TEXT = st.text(max_size=6) | st.sampled_from(
    ["sub_1", "cus_1", "subscription", "customer", "invoice", "$gt", "\ud800", "\x00", "a.b"]
)
LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
NAMES = (
    "id object customer subscription parent subscription_details items data created status metadata price recurring "
    "current_period_end organizationId schedule"
)
KEYS = st.sampled_from(NAMES.split()) | TEXT
ANY = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)
SUBSCRIPTIONISH = st.fixed_dictionaries(
    {},
    optional={
        name: ANY | st.sampled_from(["sub_1", "cus_1", "subscription", "active", {"data": []}, 1_790_000_000])
        for name in ("id", "object", "customer", "status", "created", "items", "metadata", "parent", "subscription")
    },
)
EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["customer.subscription.updated", "invoice.paid", "x"]) | TEXT,
        "created": st.integers(-1, 2**41) | ANY,
        "data": st.fixed_dictionaries({"object": st.dictionaries(KEYS, ANY, max_size=6) | SUBSCRIPTIONISH | ANY}) | ANY,
    },
    optional={
        "object": st.sampled_from(["event", "v2.core.event"]) | ANY,
        "livemode": st.just(False) | ANY,
        "api_version": st.just("2026-10-28.endive") | ANY,
        "account": ANY,
        "request": ANY,
    },
)


def test_any_signed_event_is_stored_or_refused_and_handled(deliver, event_of, app, desk):
    stored, refused = [], []

    @MANY
    @given(event=EVENTS)
    def meet(event):
        event = event | {"id": event_of()["id"]}
        answer = deliver(json.dumps(event).encode())
        assert answer.status_code in (200, 400), answer.json
        there = WebhookEvent.objects(event_id=event["id"]).first()
        assert (there is not None) == (answer.status_code == 200)
        (stored if there else refused).append(event)

    meet()
    assert len(stored) > 20
    assert len(refused) > 20
    handle_due(desk, stop=lambda: False)
    assert WebhookEvent.objects(state__in=("received", "processing")).count() == 0
