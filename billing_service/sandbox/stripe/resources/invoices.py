"""Invoices and their payments; drafted by subscriptions only."""

from .. import invoicing, lifecycle
from ..listing import Wanted, page
from ..problems import Problem, invalid
from ..routes import route


@route(
    "GET", "/v1/invoices", "collection_method created customer ending_before limit starting_after status subscription"
)
def listed(call):
    params = call.params
    for kind in ("customer", "subscription"):
        if kind in params:
            call.books.require(kind, params[kind], kind, 400)
    wanted = Wanted(
        "invoice",
        params.get("created"),
        params.get("customer"),
        params.get("subscription"),
        statuses={params["status"]} if "status" in params else None,
    )
    if "collection_method" in params:
        wanted.more.append(("json_extract(body, '$.collection_method') = ?", params["collection_method"]))
    return page(call, wanted, "/v1/invoices")


@route("GET", "/v1/invoices/{invoice}")
def retrieve(call):
    return call.books.require("invoice", call.path["invoice"])


@route("POST", "/v1/invoices/{invoice}/pay", "paid_out_of_band payment_method off_session")
def pay(call):
    """Collects it now; a declined card is a 402 whose charge stays."""
    books, invoice = call.books, retrieve(call)
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid")
    if invoice["status"] == "void":
        raise invalid("This invoice is voided and can't be paid.")
    if invoice["status"] == "draft":
        invoice = invoicing.finalize(books, invoice)
    if call.params.get("paid_out_of_band"):
        invoice, error = invoicing.settled(books, invoice), None
    else:
        invoice, error = invoicing.collect(books, invoice, call.params.get("payment_method"))
    lifecycle.collected(books, invoice, error)
    if error:
        raise Problem(402, keeps_effect=True, **error)
    return books.find("invoice", invoice["id"])


@route("POST", "/v1/invoices/{invoice}/finalize", "auto_advance")
def finalize(call):
    invoice = retrieve(call)
    if invoice["status"] != "draft":
        raise invalid(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.", code="invoice_not_editable"
        )
    return invoicing.finalize(call.books, invoice)


@route("POST", "/v1/invoices/{invoice}/void")
def void(call):
    invoice = retrieve(call)
    if invoice["status"] not in ("open", "uncollectible"):
        raise invalid("You can only pass in open or uncollectible invoices. This invoice isn't one of them.")
    return invoicing.void(call.books, invoice)


@route("GET", "/v1/invoice_payments", "ending_before invoice limit starting_after status")
def list_payments(call):
    wanted = Wanted(
        "invoice_payment",
        parent=call.params.get("invoice"),
        statuses={call.params["status"]} if "status" in call.params else None,
    )
    return page(call, wanted, "/v1/invoice_payments")


@route("GET", "/v1/invoice_payments/{invoice_payment}")
def retrieve_payment(call):
    return call.books.require("invoice_payment", call.path["invoice_payment"])
