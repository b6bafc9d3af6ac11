"""Payment intents and their charges, an invoice's or a buyer's own: one attempt at a time, with the events of both."""

from __future__ import annotations

from .ids import new_id
from .shapes import fresh

DECLINED = "Your card was declined."
MESSAGES = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}
# Stripe's own test payment methods that attach and then fail.
FAILING = {
    "pm_card_chargeCustomerFail": "card_declined",
    "pm_card_visa_chargeDeclined": "card_declined",
    "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds",
    "pm_card_chargeDeclinedExpiredCard": "expired_card",
}


def outcome(books, customer: dict, method: str | None) -> tuple[str, str | None]:
    """succeed, decline or none (nothing to charge), with the failure's code."""
    row = books.store.one("SELECT * FROM payments WHERE account = ? AND customer = ?", (books.account, customer["id"]))
    if row:
        return row["outcome"], row["code"] or "card_declined"
    method = method or customer["invoice_settings"]["default_payment_method"]
    if method in FAILING:
        return "decline", FAILING[method]
    return books.sandbox.settings.payment_outcome, "card_declined"


def intent_for(books, invoice: dict) -> dict:
    """The invoice's payment intent; every attempt at an invoice uses the same one."""
    found = books.payment_intent_of(invoice["id"])
    if found:
        return found
    shape = intent_shape(books.now(), invoice["amount_remaining"], invoice["currency"], invoice["customer"])
    intent = books.create(shape, "payment_intent.created")
    books.create(invoice_payment_shape(books.now(), invoice, intent["id"]))
    return intent


def attempt(books, invoice: dict, method: str | None = None, result: str | None = None) -> dict | None:
    """Charge what remains; the failed charge's error, or None when it was paid. `result` is not left to `outcome`
    where a buyer's own card decides; `pending` only begins the payment."""
    intent = intent_for(books, invoice)
    customer = books.require("customer", invoice["customer"])
    code: str | None = "card_declined"
    if result is None:
        result, code = outcome(books, customer, method)
    method = method or customer["invoice_settings"]["default_payment_method"] or "pm_1" + customer["id"][4:]
    error = pay(books, intent, customer, method, result, code)
    if result == "succeed":
        allot(books, invoice)
    return error


def pay(books, intent: dict, payer: dict, method: str, result: str, code="card_declined") -> dict | None:
    """One attempt at a payment intent: succeed, decline, none or pending. `payer` is a customer or a guest (no id)."""
    if result == "none":
        return failed(books, intent, None, "missing_payment_method")
    charge = charge_shape(books.now(), intent, payer, method)
    if result == "decline":
        return failed(books, intent, charge, code)
    if result == "pending":
        begun(books, intent, charge)
    else:
        succeeded(books, intent, charge)
    return None


def resolve(books, intent: dict, code: str | None) -> dict | None:
    """The end of a payment that was pending: it failed with this code, or succeeded."""
    charge = books.require("charge", intent["latest_charge"])
    return failed(books, intent, charge, code) if code else succeeded(books, intent, charge)


def begun(books, intent, charge):
    charge["outcome"] = outcome_shape("authorized", "approved_by_network", "Payment complete.")
    books.create(charge | {"captured": True, "amount_captured": charge["amount"]}, "charge.pending")
    under_way = {"status": "processing", "latest_charge": charge["id"], "payment_method": charge["payment_method"]}
    books.emit("payment_intent.processing", books.change(intent | under_way))


def succeeded(books, intent, charge):
    charge = charge | {"paid": True, "captured": True, "status": "succeeded", "amount_captured": charge["amount"]}
    charge["outcome"] = outcome_shape("authorized", "approved_by_network", "Payment complete.")
    books.create(charge, "charge.succeeded")
    paid = {
        "status": "succeeded",
        "amount_received": intent["amount"],
        "latest_charge": charge["id"],
        "last_payment_error": None,
        "payment_method": charge["payment_method"],
    }
    books.emit("payment_intent.succeeded", books.change(intent | paid))


def allot(books, invoice):
    payment = books.query("invoice_payment", "parent = ?", (invoice["id"],))[0]
    transitions = {"canceled_at": None, "paid_at": books.now()}
    books.change(payment | {"status": "paid", "amount_paid": invoice["amount_due"], "status_transitions": transitions})


def failed(books, intent, charge, code) -> dict:
    decline = code if code not in ("card_declined", "missing_payment_method") else "generic_decline"
    outer = "card_declined" if code == "insufficient_funds" else code
    error = {
        "type": "card_error",
        "code": outer,
        "decline_code": decline,
        "message": MESSAGES.get(code, DECLINED),
        "doc_url": "https://stripe.com/docs/error-codes/" + outer.replace("_", "-"),
    }
    if charge:
        charge |= {"failure_code": outer, "failure_message": error["message"], "status": "failed"}
        charge |= {"captured": False, "amount_captured": 0}
        charge["outcome"] = outcome_shape(
            "issuer_declined",
            "declined_by_network",
            "The bank did not return any further details with this decline.",
            decline,
        )
        books.create(charge, "charge.failed")
        error["charge"] = charge["id"]
    else:
        error |= {
            "code": "payment_intent_payment_attempt_failed",
            "decline_code": None,
            "message": "This customer has no attached payment source or default payment method. Please consider "
            "adding a default payment method.",
        }
    stored = {key: value for key, value in error.items() if value is not None}
    changed = books.change(
        intent
        | {
            "status": "requires_payment_method",
            "last_payment_error": stored,
            "latest_charge": charge["id"] if charge else intent["latest_charge"],
        }
    )
    books.emit("payment_intent.payment_failed", changed)
    return stored


def outcome_shape(network, reason, message, decline=None) -> dict:
    approved = network == "authorized"
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "approved_by_network" if approved else reason,
        "reason": decline,
        "risk_level": "normal",
        "risk_score": 12,
        "seller_message": message,
        "type": network,
    }


def intent_shape(now, amount, currency, customer) -> dict:
    intent_id = new_id("payment_intent")
    intent = fresh("payment_intent", id=intent_id, created=now, amount=amount, currency=currency, customer=customer)
    return intent | {"client_secret": f"{intent_id}_secret_{new_id('')}"}


def invoice_payment_shape(now, invoice, intent_id) -> dict:
    payment = fresh("invoice_payment", id=new_id("invoice_payment"), created=now, currency=invoice["currency"])
    payment["payment"]["payment_intent"] = intent_id
    return payment | {"invoice": invoice["id"], "amount_requested": invoice["amount_remaining"]}


def charge_shape(now, intent, payer, method) -> dict:
    charge = fresh("charge", id=new_id("charge"), created=now, customer=payer["id"], payment_method=method)
    charge |= {name: intent[name] for name in ("amount", "currency", "description")}
    charge |= {"payment_intent": intent["id"], "metadata": dict(intent["metadata"])}
    charge["billing_details"] |= {name: payer[name] for name in ("email", "name", "phone")}
    return charge
