"""Refunds: made, settled later or failed, and what that does to their charge."""

from __future__ import annotations

from .ids import new_id
from .problems import Problem, invalid
from .shapes import fresh

SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}
WITHOUT_CENTS = ("jpy", "krw", "vnd", "clp")
PENDING_REASONS = ("processing", "insufficient_funds", "charge_pending")


def money(amount: int, currency: str) -> str:
    number = f"{amount:,}" if currency in WITHOUT_CENTS else f"{amount / 100:,.2f}"
    return SYMBOLS.get(currency, currency.upper() + " ") + number


def refuse(books, charge: dict, amount: int | None):
    """Stripe's refusals, in its order: no money came in, it was disputed, it went back already, it is too much."""
    if charge["status"] != "succeeded":
        intent = charge["payment_intent"]
        raise invalid(f"This PaymentIntent ({intent}) does not have a successful charge to refund.")
    open_disputes = books.query("dispute", "parent = ? AND status NOT IN ('won', 'warning_closed')", (charge["id"],))
    if any(not dispute["is_charge_refundable"] for dispute in open_disputes):
        message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise invalid(message, code="charge_disputed")
    if charge["refunded"]:
        raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    left = charge["amount_captured"] - charge["amount_refunded"]
    if amount is not None and amount > left:
        whole = "unrefunded amount on charge" if charge["amount_refunded"] else "charge amount"
        asked, there = (money(number, charge["currency"]) for number in (amount, left))
        raise invalid(f"Refund amount ({asked}) is greater than {whole} ({there})", "amount")


def create(books, charge: dict, amount: int | None, reason: str | None, metadata: dict) -> dict:
    refuse(books, charge, amount)
    amount = charge["amount_captured"] - charge["amount_refunded"] if amount is None else amount
    refund = fresh("refund", id=new_id("refund"), created=books.now(), amount=amount, charge=charge["id"])
    refund |= {name: charge[name] for name in ("currency", "customer", "payment_intent", "payment_method")}
    refund |= {"reason": reason, "metadata": metadata}
    waiting = next_pending(books)
    if waiting:
        refund |= {"status": "pending", "pending_reason": waiting}
    books.create(refund, "refund.created")
    book(books, charge["id"], amount, "charge.refunded")
    return refund


def book(books, charge_id: str, amount: int, event: str | None = None):
    charge = books.require("charge", charge_id)
    refunded = charge["amount_refunded"] + amount
    books.change(charge | {"amount_refunded": refunded, "refunded": refunded == charge["amount_captured"]}, event)


def arm(books, times: int, pending_reason: str) -> dict:
    """The next refunds of the account will be pending."""
    if pending_reason not in PENDING_REASONS or times < 0:
        raise invalid(f"pending_reason must be one of {', '.join(PENDING_REASONS)}, times 0 or more")
    armed = {"times": times, "pending_reason": pending_reason}
    books.store.keep(f"refunds {books.account}", armed)
    return armed


def next_pending(books) -> str | None:
    armed = books.store.value(f"refunds {books.account}")
    if not armed or not armed["times"]:
        return None
    books.store.keep(f"refunds {books.account}", armed | {"times": armed["times"] - 1})
    return armed["pending_reason"]


def settle(books, refund: dict, outcome: str, failure_reason: str | None = None) -> dict:
    """A pending refund succeeds, or a refund fails, also one that had succeeded; a failed one gives its amount back."""
    if outcome not in ("succeed", "fail"):
        raise invalid("outcome must be one of succeed, fail")
    if refund["status"] != "pending" and (outcome, refund["status"]) != ("fail", "succeeded"):
        raise Problem(409, f"the refund is {refund['status']}")
    after = {name: value for name, value in refund.items() if name != "pending_reason"}
    if outcome == "succeed":
        after["status"] = "succeeded"
    else:
        after |= {"status": "failed", "failure_balance_transaction": new_id("balance_transaction")}
        after["failure_reason"] = failure_reason or "expired_or_canceled_card"
        book(books, refund["charge"], -refund["amount"])
    update(books, after, refund)
    if outcome == "fail":
        books.emit("refund.failed", after)
    return after


def update(books, refund: dict, before: dict) -> dict:
    """Stripe tells every change twice, under the charge's name too."""
    if books.change(refund, "refund.updated", before=before) != before:
        books.emit("charge.refund.updated", refund, before)
    return refund
