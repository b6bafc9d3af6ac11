"""Disputes of charges: opened by the buyer's bank, won or lost; inquiries move no money."""

from __future__ import annotations

from .ids import new_id
from .problems import Problem, invalid
from .shapes import fresh

REASONS = (
    "bank_cannot_process",
    "check_returned",
    "credit_not_processed",
    "customer_initiated",
    "debit_not_authorized",
    "duplicate",
    "fraudulent",
    "general",
    "incorrect_account_details",
    "insufficient_funds",
    "noncompliant",
    "product_not_received",
    "product_unacceptable",
    "subscription_canceled",
    "unrecognized",
)
FEE = 1500
DAYS_TO_ANSWER = 9
OUTCOMES = {"chargeback": ("won", "lost"), "inquiry": ("warning_closed",)}


def create(books, charge: dict, reason="fraudulent", amount: int | None = None, inquiry=False) -> dict:
    """`amount` in minor units, by default what is not refunded yet."""
    left = charge["amount_captured"] - charge["amount_refunded"]
    amount = left if amount is None else amount
    if reason not in REASONS:
        raise invalid(f"reason must be one of {', '.join(REASONS)}")
    if charge["status"] != "succeeded" or not 0 < amount <= charge["amount_captured"]:
        raise invalid(f"the charge is {charge['status']}, {left} of it can be disputed")
    if books.query("dispute", "parent = ? AND status != 'warning_closed'", (charge["id"],)):
        raise Problem(409, f"charge {charge['id']} is disputed already")
    now = books.now()
    dispute = fresh("dispute", id=new_id("dispute"), created=now, charge=charge["id"], reason=reason, amount=amount)
    dispute |= {name: charge[name] for name in ("currency", "payment_intent")}
    dispute["evidence_details"]["due_by"] = now + DAYS_TO_ANSWER * 86400
    card = dispute["payment_method_details"]["card"]
    if inquiry:
        dispute |= {"status": "warning_needs_response", "is_charge_refundable": True}
        card["case_type"] = "inquiry"
    else:
        dispute["balance_transactions"] = [movement(dispute, now, -amount, FEE, "Chargeback withdrawal")]
    books.change(charge | {"disputed": True})
    books.create(dispute, "charge.dispute.created")
    if not inquiry:
        books.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def close(books, dispute: dict, outcome: str) -> dict:
    """won and lost for disputes, warning_closed for inquiries; the buyer's bank has decided."""
    kind = dispute["payment_method_details"]["card"]["case_type"]
    if outcome not in OUTCOMES[kind]:
        raise invalid(f"outcome must be one of {', '.join(OUTCOMES[kind])}")
    if dispute["status"] not in ("needs_response", "under_review", "warning_needs_response", "warning_under_review"):
        raise Problem(409, f"the dispute is {dispute['status']}")
    after = dispute | {"status": outcome}
    if outcome == "won":
        back = movement(dispute, books.now(), dispute["amount"], 0, "Chargeback reversal")
        after["balance_transactions"] = [*dispute["balance_transactions"], back]
    books.change(after, "charge.dispute.updated", before=dispute)
    if outcome == "won":
        books.emit("charge.dispute.funds_reinstated", after)
    books.emit("charge.dispute.closed", after)
    return after


def movement(dispute, now, amount, fee, words) -> dict:
    """The balance transaction that takes the money or brings it back."""
    moved = fresh("balance_transaction", id=new_id("balance_transaction"), created=now, available_on=now, amount=amount)
    moved |= {"fee": fee, "net": amount - fee, "currency": dispute["currency"], "source": dispute["id"]}
    moved["description"] = f"{words} for {dispute['charge']}"
    fees = {"amount": fee, "application": None, "currency": dispute["currency"]}
    moved["fee_details"] = [fees | {"description": "Dispute fee", "type": "stripe_fee"}] if fee else []
    moved["reporting_category"] = "dispute" if amount < 0 else "dispute_reversal"
    return moved
