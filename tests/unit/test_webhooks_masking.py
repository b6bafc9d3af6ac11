"""What of a payload is shown: closed by default, tried on Stripe's own sample objects."""

import json
from pathlib import Path

import pytest

from billing_service.webhooks.masking import DEEPEST, MASKED, TOO_DEEP, masked, without_secrets, words

SAMPLES = json.loads((Path(__file__).parents[1] / "data" / "stripe_samples.json").read_text())["resources"]
# Every text of the samples that tells of somebody, or opens something.
PERSONAL = [
    "Jenny Rosen",
    "example@example.com",
    "site@stripe.com",
    "Comfortable gray cotton t-shirt",
    "T-shirt",
    "My First Invoice Item (created for API docs)",
    "My First Test Charge (created for API docs)",
    "This is my webhook, I like it a lot",
    "4242",
    "AOB934RVNwzk6xtn",
    "7FE1103",
    "US",
    "SC",
    "_secret_",
    "https://",
    "/v1/",
]
SECRETS = ["pi_1PgafyB7WZ01zgkWSjxsAJo3_secret_Dm43xiq1k0ywrRRjDoi8y1gkM", '"client_secret": "client_secret"']


def leaves(value, path=()):
    if isinstance(value, (dict, list)):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, name))
    else:
        yield path, value


def with_leaf(sample, path, value):
    """A copy of the sample that has the value at the path."""
    changed = json.loads(json.dumps(sample))
    holder = changed
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    return changed


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_no_personal_text_of_a_sample_survives(kind):
    shown = json.dumps(masked(SAMPLES[kind]))
    assert [text for text in PERSONAL if text in shown] == []


def test_the_personal_texts_are_in_the_samples():
    whole = json.dumps(SAMPLES)
    assert [text for text in PERSONAL if text not in whole] == []
    assert [text for text in SECRETS if text not in whole] == []


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_a_personal_text_is_masked_wherever_a_sample_has_a_text_or_nothing(kind):
    """Most fields of the samples are null; customers fill them."""
    texts = ["Jenny Rosen", "jenny@example.com", "+14155552671", "510 Townsend St", "94103", "4242", "203.0.113.7"]
    texts += ["https://pay.stripe.com/i/acct_1/x", "pi_1_secret_x", "Ümläut", "jenny-rosen", "JENNY50", "GB29NWBK"]
    for path, value in leaves(SAMPLES[kind]):
        # An amount may be a text; a text that is a number is harmless there.
        if (value is None or isinstance(value, str)) and not str(path[-1]).endswith("_decimal"):
            for text in texts:
                shown = json.dumps(masked(with_leaf(SAMPLES[kind], path, text)), ensure_ascii=False)
                assert text not in shown, path


def test_a_number_is_kept_only_where_an_amount_a_count_or_a_time_stands():
    person = {"dob": {"day": 1, "month": 2, "year": 1980}, "phone": 14155552671, "exp_year": 2030, "latitude": 1.5}
    assert {value for _, value in leaves(masked(person))} == {MASKED}


def test_what_an_admin_needs_is_kept():
    shown = masked(SAMPLES["subscription"])
    for name in ("id", "object", "customer", "status", "currency", "created", "cancel_at_period_end", "trial_end"):
        assert shown[name] == SAMPLES["subscription"][name]
    item = shown["items"]["data"][0]
    assert item["price"]["id"] == "price_1PgafmB7WZ01zgkW6dKueIc5"
    assert (item["price"]["unit_amount"], item["price"]["recurring"]["interval"]) == (2000, "month")
    assert (item["current_period_end"], item["quantity"]) == (976287773, 1)
    invoice = masked(SAMPLES["invoice"])
    assert invoice["billing_reason"] == "manual"
    assert invoice["amount_due"] == SAMPLES["invoice"]["amount_due"]
    assert masked({"api_version": "2026-10-28.endive", "type": "invoice.paid", "request": {"id": "req_1"}}) == {
        "api_version": "2026-10-28.endive",
        "type": "invoice.paid",
        "request": {"id": "req_1"},
    }


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [
        ({"organizationId": "5" * 24}, {"organizationId": "5" * 24}),
        ({"planId": "pro", "packId": "pack_100k", "kind": "extras"},) * 2,
        ({"organizationId": "Jenny"}, {"organizationId": MASKED}),
        ({"customer": "cus_1"}, {"customer": MASKED}),
        ({"id": {"id": "cus_1"}, "kind": ["extras"]}, {"id": MASKED, "kind": MASKED}),
        ({"jenny@example.com": "vip"}, {MASKED: MASKED}),
        ({"active": True, "amount": 5}, {"active": MASKED, "amount": MASKED}),
    ],
)
def test_of_metadata_only_what_was_agreed_on_is_kept(metadata, shown):
    assert masked({"data": {"object": {"metadata": metadata}}})["data"]["object"]["metadata"] == shown
    assert masked({"subscription_metadata": metadata})["subscription_metadata"] == shown


@pytest.mark.parametrize(
    "document",
    [
        {"id": "jenny_rosen"},
        {"id": "gold"},
        {"status": "Jenny"},
        {"status": "ada lovelace"},
        {"reason": "Ann"},
        {"code": "jenny"},
        {"currency": "jenny rosen"},
        {"created": "yesterday"},
        {"unit_amount_decimal": "4155552671x"},
        {"receipt_decimal": "4155552671"},
        {"tax_id": "123456789"},
        {"a field that Stripe adds tomorrow": "x"},
        {"new_field": "x"},
    ],
)
def test_what_is_not_known_to_be_harmless_is_masked(document):
    assert list(masked(document).values()) == [MASKED]


def test_an_errors_code_is_kept_and_a_promotions_is_not():
    shown = masked({"last_payment_error": {"code": "card_declined", "message": "x"}, "promotion": {"code": "jenny"}})
    assert shown == {
        "last_payment_error": {"code": "card_declined", "message": MASKED},
        "promotion": {"code": MASKED},
    }


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_secrets_are_masked_even_for_those_who_may_see_payloads(kind):
    shown = json.dumps(without_secrets(SAMPLES[kind]))
    assert [text for text in SECRETS if text in shown] == []


def test_all_else_is_shown_to_those_who_may_see_payloads():
    session = SAMPLES["checkout.session"]
    assert without_secrets(session) == session
    assert without_secrets({"a": ["sk_live_abcdefgh", "eyJa.eyJb.c", {"token": "t", "x_secret": "s"}], "n": 1}) == {
        "a": [MASKED, MASKED, {"token": MASKED, "x_secret": MASKED}],
        "n": 1,
    }


@pytest.mark.parametrize("show", [masked, without_secrets])
def test_any_nesting_is_bounded(show):
    deep = []
    for _ in range(900):
        deep = [deep]
    shown = json.dumps(show({"x": deep}))
    assert TOO_DEEP in shown
    assert shown.count("[") < DEEPEST + 5


def test_an_errors_words_lose_secrets_and_addresses():
    said = words("No customer jenny@example.com for sk_test_abc and pi_1_secret_x; cus_1 is another's")
    assert said == f"No customer {MASKED} for {MASKED} and {MASKED}; cus_1 is another's"
    assert words(None) is None
