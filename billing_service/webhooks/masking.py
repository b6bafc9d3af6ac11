"""What of an event's payload may be shown: without personal data unless asked for, never with secrets.

Closed by default: a value is kept because its name and its form are known to be harmless, and masked otherwise, so
that a field that Stripe adds tomorrow is not shown by mistake. Names of fields are kept: they are Stripe's words or,
in metadata, those of the SaaS's developers.
"""

import re
from typing import Any

from ..observability import mask

MASKED = "[masked]"
TOO_DEEP = "[nested too deep to show]"
DEEPEST = 60

# Metadata is free text but for what the SaaS and this service agreed on.
_OUR_METADATA = {
    "organizationId": re.compile(r"[0-9a-fA-F]{24}"),
    "planId": re.compile(r"[A-Za-z0-9_.-]{1,64}"),
    "packId": re.compile(r"[A-Za-z0-9_.-]{1,64}"),
    "kind": re.compile(r"[a-z_]{1,32}"),
}

_ID = re.compile(
    r"""
    (?: acct | ba | bpc | btok | ca | card | ch | clock | cs | cus | di | dp | du | evt | fee | fr | ii | il | in | li
    | mandate | plink | pi | pm | po | price | prod | promo | pst | py | pyr | qt | re | req | rp | seti | si | sli
    | src | sub | tr | trr | txcd | txi | txn | txr | we )
    _ [A-Za-z0-9_]{1,200}
    """,
    re.VERBOSE,
)
_ID_NAME = re.compile(
    r"""
    id | account | application | application_fee | balance_transaction | charge | checkout_session | customer |
    customer_account | default_payment_method | default_price | default_source | destination | discount |
    discounts | failure_balance_transaction | invoice | invoice_item | latest_charge | latest_invoice |
    latest_revision | mandate | on_behalf_of | payment | payment_intent | payment_link | payment_method |
    pending_setup_intent | plan | price | product | promotion_code | quote | refund | review | schedule |
    setup_intent | source | source_transfer | subscription | subscription_item | test_clock | transfer
    """,
    re.VERBOSE,
)

# A word of a closed vocabulary: no name, address or sentence has this form and stands under one of these names.
_WORD = re.compile(r"[a-z][a-z0-9]*(?:[_.][a-z0-9]+){0,7}")
_WORD_NAME = re.compile(
    r"""
    advice_code | balance_type | behavior | billing_reason | billing_scheme | capture_method | case_type |
    collection_method | confirmation_method | decline_code | disabled_reason | enabled_events | failure_code |
    failure_reason | feedback | funding | interval | mode | network_status | object | payment_method_types |
    payment_status | pending_reason | proration_behavior | reason | reporting_category | round | status |
    tax_behavior | type | usage_type
    """,
    re.VERBOSE,
)
_LONGEST_WORD = 64
_CURRENCY = re.compile(r"[a-zA-Z]{3}")
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(?:\.[a-z_]+)?")

_TIME_NAME = re.compile(
    r"created|updated|start|end|date|timestamp|frozen_time|.*_(?:at|on|after|start|end|date|anchor|by)"
)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})")
_NUMBER_NAME = re.compile(
    r"(?:.*_)?(?:amount|total|subtotal|balance|fee|net|tax|quantity|count|percent|gte|usage|webhooks|overpaid|"
    r"underpaid)(?:_(?:subtotal|total|tax|shipping|discount|due|paid|remaining|overpaid|captured|refunded|capturable|"
    r"received|requested|authorized|decimal|percent|off|excluding_tax|including_tax))?|"
    r"(?:percent|amount)_off|days_until_due|trial_period_days|next_payment_attempt|payment_attempts|divide_by"
)
_DECIMAL = re.compile(r"-?\d{1,30}(?:\.\d{1,12})?")

_SECRET_NAME = re.compile(r"(?:.*_)?(?:secret|secrets|password|passphrase|token|api_key|private_key|cvc|cvv|pin|otp)")
_SECRET = re.compile(r"\b[a-z]{2,12}_[A-Za-z0-9_]+_secret_\w+")
_EMAIL = re.compile(r"[^\s@<>\"'(),;:]+@[^\s@<>\"'(),;:]+")
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def masked(document: Any) -> Any:
    """A payload, as JSON, without personal data and secrets."""
    return _masked(document)


def without_secrets(document: Any) -> Any:
    """A payload, as JSON, with all but its secrets."""
    return _without_secrets(document)


def words(text: str | None) -> str | None:
    """An error's words without secrets and e-mail addresses: they may quote what a payload holds."""
    return None if text is None else _EMAIL.sub(MASKED, _SECRET.sub(MASKED, mask(text)))


def _without_secrets(value: Any, name: str = "", depth: int = 0) -> Any:
    if isinstance(value, (dict, list)) and depth > DEEPEST:
        return TOO_DEEP
    if isinstance(value, dict):
        return {key: _without_secrets(each, key, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_secrets(each, name, depth + 1) for each in value]
    if not isinstance(value, str) or not value:
        return value
    return MASKED if _SECRET_NAME.fullmatch(name) else _SECRET.sub(MASKED, mask(value))


def _masked(value: Any, name: str = "", above: str = "", depth: int = 0) -> Any:
    if isinstance(value, (dict, list)) and depth > DEEPEST:
        return TOO_DEEP
    if isinstance(value, dict):
        if name.endswith("metadata"):
            return {_field_name(key): _our_metadata(key, each) for key, each in value.items()}
        return {_field_name(key): _masked(each, key, name, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        # What a list holds is called as the list is: `payment_method_types`.
        return [_masked(each, name, above, depth + 1) for each in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    harmless = _is_harmless_text(value, name, above) if isinstance(value, str) else _is_harmless_number(name)
    return value if harmless else MASKED


def _field_name(name: str) -> str:
    return name if _FIELD_NAME.fullmatch(name) else MASKED


def _our_metadata(name: str, value: Any) -> Any:
    ours = _OUR_METADATA.get(name)
    return value if ours and isinstance(value, str) and ours.fullmatch(value) else MASKED


def _is_harmless_number(name: str) -> bool:
    return bool(_TIME_NAME.fullmatch(name) or _NUMBER_NAME.fullmatch(name))


def _is_harmless_text(text: str, name: str, above: str) -> bool:
    if _SECRET.search(text):
        return False
    if _ID_NAME.fullmatch(name) and _ID.fullmatch(text):
        return True
    # A promotion's `code` is free text, an error's is not.
    if _WORD_NAME.fullmatch(name) or (name == "code" and above.endswith("error")):
        return len(text) <= _LONGEST_WORD and _WORD.fullmatch(text) is not None
    if name.endswith("_decimal"):
        return bool(_NUMBER_NAME.fullmatch(name) and _DECIMAL.fullmatch(text))
    form = _API_VERSION if name == "api_version" else _CURRENCY if name.endswith("currency") else _TIME
    return bool((form is not _TIME or _TIME_NAME.fullmatch(name)) and form.fullmatch(text))
