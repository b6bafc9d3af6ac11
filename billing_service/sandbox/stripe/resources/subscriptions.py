"""Subscriptions: the requests; what follows from them is in terms.py and lifecycle.py."""

import orjson

from .. import lifecycle, terms
from ..listing import Page, Wanted, page
from ..problems import Problem, invalid, missing, required
from ..routes import route
from ..shapes import subscription_shape

ONE = "/v1/subscriptions/{subscription_exposed_id}"
SHARED = (
    "cancel_at cancel_at_period_end collection_method days_until_due default_payment_method description items "
    "metadata off_session payment_behavior proration_behavior trial_end trial_settings"
)
ON_CANCELED = {"metadata", "cancellation_details", "expand"}
ENDED = {"canceled", "incomplete_expired"}


@route(
    "POST",
    "/v1/subscriptions",
    SHARED + " backdate_start_date billing_cycle_anchor currency customer trial_period_days",
)
def create(call):
    books, params = call.books, call.params
    if "customer" not in params:
        raise required("customer")
    customer = books.alive("customer", params["customer"], "customer")
    wanted = terms.first_items(books, subscription_shape(books.now(), customer["id"]), params.get("items") or [])
    wanted = terms.first_period(books, terms.details(wanted, params), params)
    wanted = terms.cancel_intent(books, wanted, params)
    return lifecycle.begin(books, wanted, params.get("payment_behavior", "allow_incomplete"))


@route("GET", ONE)
def retrieve(call):
    return call.books.require("subscription", call.path["subscription_exposed_id"])


@route("POST", ONE, SHARED + " billing_cycle_anchor cancellation_details pause_collection proration_date")
def update(call):
    books, params = call.books, call.params
    before = retrieve(call)
    refuse_update(before, params)
    wanted = terms.details(before, params)
    bill = None
    if params.get("items"):
        wanted, rebill = terms.reanchored(books, before, terms.changed_items(books, wanted, params["items"]))
        bill = "subscription_update" if rebill else None
    if params.get("trial_end") == "now" or params.get("billing_cycle_anchor") == "now":
        wanted, bill = restarted(books, wanted, params), "subscription_update"
    else:
        wanted = terms.trial(books, wanted, params)
    wanted = terms.cancel_intent(books, wanted, params)
    error = None
    if bill:
        wanted, error = lifecycle.bill_now(books, wanted, bill)
        if error and params.get("payment_behavior") == "error_if_incomplete":
            raise Problem(402, **error)
        wanted["status"] = billed_status(wanted["status"], error)
    return books.change(wanted, "customer.subscription.updated", lifecycle.next_due(books, wanted), before)


def billed_status(status, error):
    if error:
        return "past_due"
    return "active" if status in ("past_due", "unpaid") else status


def restarted(books, wanted, params):
    """A new period begins now."""
    changed = wanted | {"billing_cycle_anchor": books.now()}
    if params.get("trial_end") == "now" and wanted["status"] == "trialing":
        changed |= {"status": "active", "trial_end": books.now()}
    return lifecycle.with_period(changed, *lifecycle.period_from(changed, books.now()))


def refuse_update(subscription, params):
    if subscription["status"] in ENDED and set(params) - ON_CANCELED:
        raise invalid("A canceled subscription can only update its cancellation_details and metadata.")
    if subscription["schedule"] and {"cancel_at", "cancel_at_period_end"} & set(params):
        raise invalid(
            f"The subscription is managed by the subscription schedule `{subscription['schedule']}`, and "
            "updating any cancelation behavior directly is not allowed. Please update the schedule instead."
        )


@route("DELETE", ONE, "cancellation_details invoice_now prorate")
def cancel(call):
    """The sandbox makes no prorations: prorate and invoice_now are accepted and leave no line."""
    subscription = retrieve(call)
    if subscription["status"] in ENDED:
        raise missing("subscription", subscription["id"])
    return lifecycle.cancel(call.books, subscription, details=terms.told(subscription, call.params))


@route("POST", "/v1/subscriptions/{subscription}/resume", "billing_cycle_anchor proration_behavior")
def resume(call):
    books = call.books
    before = books.require("subscription", call.path["subscription"])
    if before["status"] != "paused":
        raise invalid(
            "The subscription cannot be resumed because it is not paused: only subscriptions with the "
            "status `paused` can be."
        )
    anchored = before | {"billing_cycle_anchor": books.now()}
    wanted = lifecycle.with_period(anchored, *lifecycle.period_from(anchored, books.now()))
    wanted, error = lifecycle.bill_now(books, wanted, "subscription_update")
    wanted["status"] = "paused" if error else "active"
    event = "customer.subscription.updated" if error else "customer.subscription.resumed"
    return books.change(wanted, event, lifecycle.next_due(books, wanted), before)


@route(
    "GET",
    "/v1/subscriptions",
    "collection_method created current_period_end current_period_start customer "
    "ending_before limit price starting_after status",
)
def listed(call):
    params = call.params
    if "customer" in params:
        call.books.require("customer", params["customer"], "customer", 400)
    if "price" in params:
        call.books.require("price", params["price"], "price", 400)
    wanted = Wanted("subscription", params.get("created"), params.get("customer"), price=params.get("price"))
    status = params.get("status")
    if status is None:
        wanted.without = {"canceled"}
    elif status != "all":
        wanted.statuses = set(ENDED) if status == "ended" else {status}
    if params.get("collection_method") == "send_invoice":
        wanted.more.append(("json_extract(body, '$.collection_method') = ?", "send_invoice"))
    elif "collection_method" in params:
        wanted.stored = [("json_extract(body, '$.collection_method') = ?", "charge_automatically")]
    for edge in ("current_period_end", "current_period_start"):
        wanted.more += period_conditions(edge, params.get(edge))
    return page(call, wanted, "/v1/subscriptions")


def period_conditions(edge, bounds):
    if bounds is None:
        return []
    column = f"json_extract(body, '$.items.data[0].{edge}')"
    pairs = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
    if isinstance(bounds, int):
        return [(f"{column} = ?", bounds)]
    return [(f"{column} {pairs[name]} ?", value) for name, value in bounds.items()]


@route("GET", "/v1/subscription_items", "ending_before limit starting_after subscription")
def items(call):
    subscription = call.books.require("subscription", call.params["subscription"], "subscription", 400)
    listed_items = subscription["items"]
    return Page("/v1/subscription_items", [orjson.dumps(item) for item in listed_items["data"]], False)


@route("GET", "/v1/subscription_items/{item}")
def item(call):
    found = call.books.query(
        "subscription",
        "EXISTS (SELECT 1 FROM json_each(body, '$.items.data') WHERE json_extract(value, '$.id') = ?)",
        (call.path["item"],),
    )
    if not found:
        raise missing("subscription_item", call.path["item"])
    return next(one for one in found[0]["items"]["data"] if one["id"] == call.path["item"])
