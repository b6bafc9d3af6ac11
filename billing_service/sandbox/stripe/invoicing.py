"""Invoices of subscriptions: drafted, finalized, collected, retried; what that does to the subscription is in
lifecycle.py."""

from __future__ import annotations

from . import payments
from .ids import new_id
from .shapes import fresh, listed


def draft(books, subscription: dict, reason: str, period: tuple[int, int], due_at=None, free=False) -> dict:
    customer = books.require("customer", subscription["customer"])
    invoice = invoice_shape(books, subscription, customer, reason, period)
    lines = [line_shape(invoice, subscription, item, period, free) for item in subscription["items"]["data"]]
    total = sum(line["amount"] for line in lines)
    invoice["lines"] = listed(lines, f"/v1/invoices/{invoice['id']}/lines")
    invoice |= dict.fromkeys(
        ("amount_due", "amount_remaining", "subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"), total
    )
    invoice["automatically_finalizes_at"] = due_at
    if customer["currency"] is None:
        books.change(customer | {"currency": invoice["currency"]}, "customer.updated")
    return books.create(invoice, "invoice.created", due_at)


def finalize(books, invoice: dict) -> dict:
    customer = books.require("customer", invoice["customer"])
    number = customer["next_invoice_sequence"]
    books.save(customer | {"next_invoice_sequence": number + 1})
    address = f"https://invoice.stripe.com/i/{books.account}/test_{invoice['id']}"
    invoice = invoice | {
        "status": "open",
        "number": f"{customer['invoice_prefix']}-{number:04d}",
        "effective_at": books.now(),
        "automatically_finalizes_at": None,
        "hosted_invoice_url": address,
        "invoice_pdf": address + "/pdf",
        "status_transitions": invoice["status_transitions"] | {"finalized_at": books.now()},
    }
    if invoice["amount_due"] and invoice["collection_method"] == "charge_automatically":
        payments.intent_for(books, invoice)
    books.save(invoice, due_at=None)
    books.emit("invoice.finalized", invoice)
    return invoice


def collect(books, invoice: dict, method: str | None = None, result=None) -> tuple[dict, dict | None]:
    """One attempt; the invoice afterwards and the card's error, if it failed. A pending payment leaves it open."""
    error = payments.attempt(books, invoice, method, result) if invoice["amount_remaining"] else None
    attempts = invoice["attempt_count"] + bool(invoice["amount_remaining"])
    invoice = invoice | {"attempted": True, "attempt_count": attempts}
    if result == "pending":
        return books.change(invoice, "invoice.updated"), None
    return (retry_later(books, invoice), error) if error else (settled(books, invoice), None)


def settled(books, invoice: dict) -> dict:
    invoice = invoice | {
        "status": "paid",
        "amount_paid": invoice["amount_due"],
        "amount_remaining": 0,
        "auto_advance": False,
        "next_payment_attempt": None,
        "status_transitions": invoice["status_transitions"] | {"paid_at": books.now()},
    }
    books.change(invoice, "invoice.updated", due_at=None)
    books.emit("invoice.paid", invoice)
    books.emit("invoice.payment_succeeded", invoice)
    return invoice


def retry_later(books, invoice: dict) -> dict:
    """Dunning: the next attempt, as long as retries are left; the first invoice is not retried."""
    retries = books.sandbox.settings.dunning_retries
    again = None
    if invoice["billing_reason"] != "subscription_create" and invoice["attempt_count"] <= len(retries):
        again = books.now() + retries[invoice["attempt_count"] - 1]
    invoice = invoice | {"next_payment_attempt": again}
    books.change(invoice, "invoice.updated", due_at=again)
    books.emit("invoice.payment_failed", invoice)
    return invoice


def void(books, invoice: dict, status="void") -> dict:
    moment = "voided_at" if status == "void" else "marked_uncollectible_at"
    changed = invoice | {
        "status": status,
        "next_payment_attempt": None,
        "auto_advance": False,
        "status_transitions": invoice["status_transitions"] | {moment: books.now()},
    }
    if status == "void":
        changed["amount_remaining"] = 0
    books.save(changed, due_at=None)
    books.emit("invoice.voided" if status == "void" else "invoice.marked_uncollectible", changed)
    return changed


def open_invoices(books, subscription_id: str) -> list[dict]:
    return books.query("invoice", "parent = ? AND status IN ('open', 'draft')", (subscription_id,))


def stop_collecting(books, subscription_id: str):
    for invoice in open_invoices(books, subscription_id):
        books.change(
            invoice | {"auto_advance": False, "next_payment_attempt": None, "automatically_finalizes_at": None},
            "invoice.updated",
            due_at=None,
        )


def invoice_shape(books, subscription, customer, reason, period) -> dict:
    now = books.now()
    invoice = fresh("invoice", id=new_id("invoice"), billing_reason=reason, customer=customer["id"])
    invoice |= dict.fromkeys(("created", "period_start", "period_end", "webhooks_delivered_at"), now)
    if reason == "subscription_cycle":
        invoice["period_end"] = period[0]
    invoice |= {name: subscription[name] for name in ("collection_method", "currency")}
    invoice |= {f"customer_{name}": customer[name] for name in ("address", "email", "name", "phone", "tax_exempt")}
    if subscription["collection_method"] == "send_invoice":
        invoice["due_date"] = now + (subscription["days_until_due"] or 0) * 86400
    invoice["account_name"] = books.sandbox.accounts.body(books.account)["business_profile"]["name"]
    invoice["parent"]["subscription_details"] = {
        "metadata": subscription["metadata"],
        "subscription": subscription["id"],
    }
    return invoice


def line_shape(invoice, subscription, item, period, free) -> dict:
    price, quantity = item["price"], item.get("quantity", 1)
    amount = 0 if free else (price["unit_amount"] or 0) * quantity
    line = fresh("line_item", id=new_id("line_item"), invoice=invoice["id"], currency=price["currency"])
    line |= {"amount": amount, "subtotal": amount, "quantity": quantity, "quantity_decimal": str(quantity)}
    line |= {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    line["description"] = f"{quantity} x {price['nickname'] or price['id']}"
    line["period"] = {"start": period[0], "end": period[1]}
    line["pricing"]["price_details"] = {"price": price["id"], "product": price["product"]}
    line["pricing"]["unit_amount_decimal"] = price["unit_amount_decimal"]
    line["parent"]["subscription_item_details"] |= {
        "subscription": subscription["id"],
        "subscription_item": item["id"],
    }
    return line
