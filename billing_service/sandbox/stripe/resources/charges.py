"""Charges and payment intents, as far as invoices make them."""

from ..listing import Wanted, page
from ..routes import route


@route("GET", "/v1/charges", "created customer ending_before limit payment_intent starting_after")
def listed(call):
    call.params.get("customer") and call.books.require("customer", call.params["customer"], "customer", 400)
    wanted = Wanted(
        "charge", call.params.get("created"), call.params.get("customer"), call.params.get("payment_intent")
    )
    return page(call, wanted, "/v1/charges")


@route("GET", "/v1/charges/{charge}")
def retrieve(call):
    return call.books.require("charge", call.path["charge"])


@route("GET", "/v1/payment_intents", "created customer ending_before limit starting_after")
def list_intents(call):
    call.params.get("customer") and call.books.require("customer", call.params["customer"], "customer", 400)
    wanted = Wanted("payment_intent", call.params.get("created"), call.params.get("customer"))
    return page(call, wanted, "/v1/payment_intents")


@route("GET", "/v1/payment_intents/{intent}", "client_secret")
def retrieve_intent(call):
    return call.books.require("payment_intent", call.path["intent"])
