"""Refunds of charges; what they do is in refunds.py."""

from .. import refunds
from ..listing import Wanted, page
from ..metadata import merged
from ..problems import invalid
from ..routes import route


@route("POST", "/v1/refunds", "amount charge metadata payment_intent reason")
def create(call):
    params = call.params
    charge = charge_of(call)
    amount = params.get("amount")
    if amount is not None and amount < 1:
        message = "This value must be greater than or equal to 1."
        raise invalid(message, "amount", "parameter_invalid_integer")
    metadata = merged({}, params.get("metadata", {}))
    return refunds.create(call.books, charge, amount, params.get("reason"), metadata)


def charge_of(call) -> dict:
    params = call.params
    if "charge" not in params and "payment_intent" not in params:
        words = "One of the following params should be provided for this request: payment_intent or charge."
        raise invalid(words)
    if "payment_intent" in params:
        intent = call.books.require("payment_intent", params["payment_intent"], "payment_intent")
        charge_id = intent["latest_charge"]
        if not charge_id:
            raise invalid(f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.")
        if params.get("charge", charge_id) != charge_id:
            raise invalid(f"Charge {params['charge']} does not belong to PaymentIntent {intent['id']}.", "charge")
        return call.books.require("charge", charge_id)
    return call.books.require("charge", params["charge"])


@route("GET", "/v1/refunds/{refund}")
def retrieve(call):
    return call.books.require("refund", call.path["refund"])


@route("POST", "/v1/refunds/{refund}", "metadata")
def update(call):
    before = retrieve(call)
    metadata = merged(before["metadata"], call.params.get("metadata", {}))
    return refunds.update(call.books, before | {"metadata": metadata}, before)


@route("GET", "/v1/refunds", "charge created ending_before limit payment_intent starting_after")
def listed(call):
    return page(call, of_payment(call, "refund"), "/v1/refunds")


def of_payment(call, kind) -> Wanted:
    """A list filtered by charge and payment intent, both of which have to be there."""
    params = call.params
    for name in ("charge", "payment_intent"):
        name in params and call.books.require_filter(name, params[name])
    wanted = Wanted(kind, params.get("created"), parent=params.get("charge"))
    if "payment_intent" in params:
        wanted.more.append(("json_extract(body, '$.payment_intent') = ?", params["payment_intent"]))
    return wanted
