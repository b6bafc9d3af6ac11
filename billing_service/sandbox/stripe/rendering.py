"""From stored objects to the bytes of an answer: the API version of the caller, expanded fields, pages."""

from __future__ import annotations

import orjson

from . import checkout
from .ids import PREFIX
from .listing import Page
from .problems import invalid
from .shapes import listed
from .versions import is_old, shaped

EXPANDABLE = {
    "customer",
    "latest_invoice",
    "product",
    "default_price",
    "invoice",
    "subscription",
    "payment_intent",
    "charge",
    "latest_charge",
    "schedule",
    "default_payment_method",
    "default_source",
    "test_clock",
    "application",
    "on_behalf_of",
    "pending_setup_intent",
    "balance_transaction",
    "discounts",
    "payment_method",
    "price",
    "released_subscription",
    "failure_balance_transaction",
    "application_fee",
    "review",
    "transfer",
    "source_transfer",
    "latest_revision",
    "default_tax_rates",
    "account_tax_ids",
}
BY_PREFIX = sorted(((prefix, kind) for kind, prefix in PREFIX.items()), key=lambda pair: -len(pair[0]))
DEEPEST = 4


def encoded(call, answer) -> bytes:
    wishes = call.params.get("expand", [])
    if not isinstance(answer, Page):
        return orjson.dumps(finished(call, answer, wishes, ""))
    if not answer.ready and (wishes or is_old(call.version)):
        for wish in wishes:
            if not wish.startswith("data."):
                raise cannot_expand(wish, f" You may want to try expanding 'data.{wish}' instead.")
        inner = [wish.removeprefix("data.") for wish in wishes]
        answer.bodies = [orjson.dumps(finished(call, orjson.loads(body), inner, "data.")) for body in answer.bodies]
    return (
        b'{"object":"list","data":['
        + b",".join(answer.bodies)
        + b'],"has_more":'
        + (b"true" if answer.has_more else b"false")
        + b',"url":'
        + orjson.dumps(answer.url)
        + b"}"
    )


def finished(call, subject, wishes, prefix):
    answer = shaped(subject, call.version, call.books)
    for wish in sorted(wishes, key=len):
        if (prefix + wish).count(".") >= DEEPEST:
            raise invalid(
                f"You cannot expand more than {DEEPEST} levels of a property. Property: {prefix}{wish}", "expand"
            )
        answer = expanded(call, answer, wish.split("."), prefix + wish)
    return answer


def expanded(call, node, path, whole):
    """A copy of `node` with the object at `path` in place of its id."""
    name, rest = path[0], path[1:]
    if isinstance(node, list):
        return [expanded(call, item, path, whole) for item in node]
    if name not in node:
        included = INCLUDED.get((node.get("object"), name))
        if not included:
            raise cannot_expand(whole)
        value = included(call, node)
    else:
        value = loaded(call, name, node[name])
    if not rest and name in node and value == node[name] and value is not None and name not in EXPANDABLE:
        raise cannot_expand(whole)
    if rest and value is not None:
        value = expanded(call, value, rest, whole)
    return node | {name: value}


def loaded(call, name, value):
    if not isinstance(value, str) or name not in EXPANDABLE:
        return value
    for prefix, kind in BY_PREFIX:
        if value.startswith(prefix.rstrip("13")):
            found = call.books.find(kind, value)
            return shaped(found, call.version, call.books) if found else value
    return value


def subscriptions_of(call, customer):
    found = call.books.query("subscription", "customer = ? AND status NOT IN ('canceled')", (customer["id"],))
    data = [shaped(item, call.version, call.books) for item in found[:10]]
    return listed(data, f"/v1/customers/{customer['id']}/subscriptions") | {"has_more": len(found) > 10}


def payments_of(call, invoice):
    return listed(call.books.query("invoice_payment", "parent = ?", (invoice["id"],)), "/v1/invoice_payments")


def refunds_of(call, charge):
    found = call.books.query("refund", "parent = ?", (charge["id"],))
    return listed(found[:10], f"/v1/charges/{charge['id']}/refunds") | {"has_more": len(found) > 10}


def line_items_of(call, session):
    lines = checkout.plan_of(call.books, session)["lines"]
    return listed(lines[:10], f"/v1/checkout/sessions/{session['id']}/line_items") | {"has_more": len(lines) > 10}


INCLUDED = {
    ("customer", "subscriptions"): subscriptions_of,
    ("invoice", "payments"): payments_of,
    ("charge", "refunds"): refunds_of,
    ("checkout.session", "line_items"): line_items_of,
}


def cannot_expand(whole, more=""):
    return invalid(f"This property cannot be expanded ({whole}).{more}", "expand")
