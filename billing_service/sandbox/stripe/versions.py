"""Shapes of older API versions. Objects are kept in the current shape; before 2025-03-31 the billing period stood on
the subscription, and an invoice named its subscription, charge and payment intent at the top level."""

from __future__ import annotations

import re

from .problems import Problem

MOVED = "2025-03-31"
VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}(\.[a-z_]+)?$")


def checked(version: str) -> str:
    if not VERSION.match(version):
        raise Problem(400, f"Invalid Stripe API version: {version}", executed=False)
    return version


def is_old(version: str) -> bool:
    return version[:10] < MOVED


def shaped(subject: dict, version: str, books) -> dict:
    """`subject` as a client of this API version sees it. `books` finds what only old shapes link to."""
    if not is_old(version):
        return subject
    change = OLD.get(subject.get("object", ""))
    return change(subject, books) if change and not subject.get("deleted") else subject


def old_subscription(subject, books):
    items = subject["items"]["data"]
    old_items = [old_item(item, books) for item in items]
    single = items[0] if len(items) == 1 else None
    return subject | {
        "current_period_start": min((item["current_period_start"] for item in items), default=subject["created"]),
        "current_period_end": max((item["current_period_end"] for item in items), default=subject["created"]),
        "discount": None,
        "items": subject["items"] | {"data": old_items},
        "plan": single["plan"] if single else None,
        "quantity": single["quantity"] if single else None,
    }


def old_item(subject, _books):
    return {
        key: value
        for key, value in subject.items()
        if key not in ("current_period_start", "current_period_end", "billed_until", "current_trial")
    }


def old_invoice(subject, books):
    details = (subject["parent"] or {}).get("subscription_details") or {}
    intent = books.payment_intent_of(subject["id"])
    lines = [old_line(line, books) for line in subject["lines"]["data"]]
    gone = ("parent", "total_taxes", "amount_overpaid", "payments", "confirmation_secret")
    return {key: value for key, value in subject.items() if key not in gone} | {
        "application_fee_amount": None,
        "charge": intent["latest_charge"] if intent else None,
        "discount": None,
        "lines": subject["lines"] | {"data": lines},
        "paid": subject["status"] == "paid",
        "paid_out_of_band": False,
        "payment_intent": intent["id"] if intent else None,
        "quote": None,
        "subscription": details.get("subscription"),
        "subscription_details": {"metadata": details.get("metadata")},
        "tax": None,
        "total_tax_amounts": [],
        "transfer_data": None,
    }


def old_line(subject, books):
    parent = (subject["parent"] or {}).get("subscription_item_details") or {}
    pricing = (subject["pricing"] or {}).get("price_details") or {}
    price = books.find("price", pricing["price"]) if pricing else None
    return {key: value for key, value in subject.items() if key not in ("parent", "pricing", "taxes", "subtotal")} | {
        "amount_excluding_tax": subject["amount"],
        "plan": books.plan_of(price),
        "price": price,
        "proration": parent.get("proration", False),
        "proration_details": {"credited_items": None},
        "subscription": parent.get("subscription"),
        "subscription_item": parent.get("subscription_item"),
        "tax_amounts": [],
        "tax_rates": [],
        "type": "subscription" if parent else "invoiceitem",
        "unit_amount_excluding_tax": price["unit_amount_decimal"] if price else None,
    }


def old_payment(subject, books):
    intent = subject["payment_intent"] if subject["object"] == "charge" else subject["id"]
    return subject | {"invoice": books.invoice_of(intent)}


def old_session(subject, _books):
    """Called so until 2026-03-25; the versions between the two changes are not imitated."""
    return subject | {"ui_mode": "hosted"}


OLD = {
    "checkout.session": old_session,
    "subscription": old_subscription,
    "subscription_item": old_item,
    "invoice": old_invoice,
    "line_item": old_line,
    "charge": old_payment,
    "payment_intent": old_payment,
}
