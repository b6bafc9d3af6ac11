"""Disputes, which only the control plane opens and closes."""

from ..listing import page
from ..routes import route
from .refunds import of_payment


@route("GET", "/v1/disputes/{dispute}")
def retrieve(call):
    return call.books.require("dispute", call.path["dispute"])


@route("GET", "/v1/disputes", "charge created ending_before limit payment_intent starting_after")
def listed(call):
    return page(call, of_payment(call, "dispute"), "/v1/disputes")
