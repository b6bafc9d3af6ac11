"""Checkout Sessions: opened, completed by a buyer, settled when the payment was a delayed one, expired."""

from __future__ import annotations

from . import lifecycle, payments, terms
from .ids import new_id
from .problems import Problem, invalid
from .shapes import NO_ADDRESS, customer_shape, fresh, subscription_shape

LIFE = 86400
# What the buyer's card does, by the outcome that the control plane names.
RESULTS = {"paid": "succeed", "unpaid": "pending", "declined": "decline", "no_payment_required": "none"}


def plan_of(books, session: dict) -> dict:
    """What a session will make and Stripe does not show in it: lines, payment_intent_data, subscription_data."""
    return books.store.value(f"checkout {books.account} {session['id']}") or {"lines": []}


def open_session(books, params: dict, lines: list[dict], customer: dict | None) -> dict:
    now, mode, data = books.now(), params["mode"], params.get("subscription_data", {})
    session = fresh("checkout.session", id=new_id("checkout.session"), created=now, mode=mode)
    total = sum(line["amount_total"] for line in lines)
    if data.get("trial_period_days") or data.get("trial_end"):
        total = 0
    session |= {
        "amount_subtotal": total,
        "amount_total": total,
        "currency": lines[0]["currency"],
        "customer_details": details_of(customer) if customer else None,
        "expires_at": params.get("expires_at", now + LIFE),
        "url": f"https://checkout.stripe.com/c/pay/{session['id']}",
    }
    if mode == "subscription":
        session |= {"customer_creation": "always", "payment_method_collection": "always", "invoice_creation": None}
    if customer:
        session["customer_creation"] = None
    names = ("cancel_url", "client_reference_id", "customer", "customer_creation", "customer_email", "success_url")
    session |= {name: params[name] for name in (*names, "metadata") if name in params}
    plan = {"lines": lines} | {name: params.get(name, {}) for name in ("payment_intent_data", "subscription_data")}
    books.store.keep(f"checkout {books.account} {session['id']}", plan)
    return books.create(session, due_at=session["expires_at"])


def line_shape(price: dict, quantity: int, description: str) -> dict:
    amount = (price["unit_amount"] or 0) * quantity
    line = fresh("item", id=new_id("item"), price=price, quantity=quantity, currency=price["currency"])
    return line | {"amount_subtotal": amount, "amount_total": amount, "description": description}


def details_of(payer: dict) -> dict:
    return {
        "address": payer["address"] or NO_ADDRESS,
        "business_name": None,
        "email": payer["email"],
        "individual_name": None,
        "name": payer["name"],
        "phone": payer["phone"],
        "tax_exempt": payer["tax_exempt"] or "none",
        "tax_ids": [],
    }


def complete(books, session: dict, outcome: str | None = None, email=None, name=None, code=None) -> dict:
    """The buyer pays. Without `outcome` it is paid, or free; `unpaid` is a delayed payment method."""
    if session["status"] != "open":
        raise Problem(409, f"the session is {session['status']}")
    total = session["amount_total"]
    outcome = outcome or ("paid" if total else "no_payment_required")
    if outcome not in RESULTS or (outcome == "no_payment_required") == bool(total):
        raise invalid(f"outcome of a session over {total} cannot be {outcome}")
    if outcome == "declined" and session["mode"] != "payment":
        raise invalid("a declined card is imitated in payment mode only")
    payer = payer_of(books, session, outcome, email, name)
    method = new_id("pm_1")
    make = subscribed if session["mode"] == "subscription" else bought
    made = make(books, session, payer, method, RESULTS[outcome], code)
    if outcome == "declined":
        return books.change(session | made)
    done = session | made | {"status": "complete", "payment_status": outcome, "url": None, "customer": payer["id"]}
    done["customer_details"] = details_of(payer)
    books.save(done, due_at=None)
    books.emit("checkout.session.completed", done)
    return done


def payer_of(books, session, outcome, email, name) -> dict:
    """The session's customer, a new one, or a guest (a customer's shape without id)."""
    if session["customer"]:
        return books.alive("customer", session["customer"], "customer")
    payer = customer_shape(books.now()) | {"email": email or session["customer_email"] or "buyer@example.com"}
    payer["name"] = name or "Buyer"
    if session["customer_creation"] == "always" and outcome != "declined":
        return books.create(payer, "customer.created")
    return payer | {"id": None}


def bought(books, session, payer, method, result, code) -> dict:
    if not session["amount_total"]:
        return {}
    wish = plan_of(books, session)["payment_intent_data"]
    intent = books.find("payment_intent", session["payment_intent"]) if session["payment_intent"] else None
    if not intent:
        intent = payments.intent_shape(books.now(), session["amount_total"], session["currency"], payer["id"])
        intent |= {"description": None, "setup_future_usage": None, "metadata": {}} | wish
        books.create(intent, "payment_intent.created")
    intent = books.change(intent | {"customer": payer["id"]})
    payments.pay(books, intent, payer, method, result, code or "card_declined")
    return {"payment_intent": intent["id"]}


def subscribed(books, session, payer, method, result, _code) -> dict:
    plan = plan_of(books, session)
    wish = plan["subscription_data"]
    wanted = subscription_shape(books.now(), payer["id"])
    items = [{"price": line["price"]["id"], "quantity": line["quantity"]} for line in plan["lines"]]
    told = {name: wish[name] for name in ("description", "metadata") if name in wish}
    wanted = terms.details(terms.first_items(books, wanted, items), told | {"default_payment_method": method})
    trial = {name: wish[name] for name in ("trial_end", "trial_period_days") if name in wish}
    subscription = lifecycle.begin(books, terms.first_period(books, wanted, trial), result=result)
    return {"subscription": subscription["id"], "invoice": subscription["latest_invoice"]}


def settle(books, session: dict, outcome: str, code: str | None = None) -> dict:
    """A delayed payment comes to its end: succeed or fail."""
    if outcome not in ("succeed", "fail"):
        raise invalid("outcome must be one of succeed, fail")
    intent = intent_of(books, session)
    if not intent or intent["status"] != "processing":
        raise Problem(409, "no payment of the session is pending")
    error = payments.resolve(books, intent, (code or "card_declined") if outcome == "fail" else None)
    if session["invoice"]:
        lifecycle.resolved(books, books.require("invoice", session["invoice"]), error)
    if not error:
        session = books.change(session | {"payment_status": "paid"})
    books.emit("checkout.session.async_payment_" + ("failed" if error else "succeeded"), session)
    return session


def intent_of(books, session) -> dict | None:
    if session["invoice"]:
        return books.payment_intent_of(session["invoice"])
    return books.find("payment_intent", session["payment_intent"]) if session["payment_intent"] else None


def expire(books, session: dict) -> dict:
    expired = session | {"status": "expired", "url": None}
    books.save(expired, due_at=None)
    books.emit("checkout.session.expired", expired)
    return expired
