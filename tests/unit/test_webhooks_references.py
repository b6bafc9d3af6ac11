"""What an event names, in either API shape, and what is taken for an id."""

import pytest

from billing_service.webhooks.references import references

CASES = [
    ({"object": "subscription", "id": "sub_1", "customer": "cus_1"}, ("cus_1", "sub_1")),
    ({"object": "subscription", "id": "sub_1", "customer": {"id": "cus_1", "object": "customer"}}, ("cus_1", "sub_1")),
    ({"object": "customer", "id": "cus_1"}, ("cus_1", None)),
    ({"object": "invoice", "id": "in_1", "customer": "cus_1", "subscription": "sub_1"}, ("cus_1", "sub_1")),
    (
        {"object": "invoice", "customer": "cus_1", "parent": {"subscription_details": {"subscription": "sub_1"}}},
        ("cus_1", "sub_1"),
    ),
    ({"object": "invoice", "customer": "cus_1", "parent": None}, ("cus_1", None)),
    ({"object": "checkout.session", "customer": None, "subscription": "sub_1"}, (None, "sub_1")),
    ({"object": "charge", "customer": "cus_1"}, ("cus_1", None)),
    ({"object": "product", "id": "prod_1"}, (None, None)),
    ({"object": "subscription", "id": {"$gt": ""}, "customer": 7}, (None, None)),
    ({"object": "subscription", "id": "\ud800", "customer": "a b"}, (None, None)),
    ({"object": "invoice", "customer": "cus_1", "parent": "x"}, ("cus_1", None)),
    ({"object": "invoice", "customer": "cus_1", "parent": [1], "subscription": "sub_1"}, ("cus_1", "sub_1")),
    ({"object": "invoice", "customer": ["cus_1"], "parent": {"subscription_details": "x"}}, (None, None)),
    ({"object": [], "id": "cus_1", "customer": {"id": ["cus_1"]}}, (None, None)),
]


@pytest.mark.parametrize(("subject", "named"), CASES)
def test_references(subject, named):
    assert references({"data": {"object": subject}}) == named


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"data": None},
        {"data": {}},
        {"data": {"object": None}},
        {"data": "x"},
        {"data": [1]},
        {"data": {"object": "x"}},
    ],
)
def test_an_event_without_an_object_names_nothing(event):
    assert references(event) == (None, None)
