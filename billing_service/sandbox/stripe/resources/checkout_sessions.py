"""Checkout Sessions: the requests; the buyer's side is the control plane's, what follows is in checkout.py."""

import orjson

from .. import checkout
from ..listing import Page, Wanted, page
from ..metadata import merged
from ..problems import invalid, missing, not_imitated, required
from ..routes import route

COLLECTION = "/v1/checkout/sessions"
TAKES = (
    "cancel_url client_reference_id customer customer_creation customer_email expires_at line_items metadata mode "
    "payment_intent_data subscription_data success_url"
)
# The parts of these that are acted upon.
INNER = {
    "line_items": {"price", "quantity"},
    "payment_intent_data": {"description", "metadata"},
    "subscription_data": {"description", "metadata", "trial_end", "trial_period_days"},
}
SHORTEST = 30 * 60


@route("POST", COLLECTION, TAKES)
def create(call):
    books, params = call.books, dict(call.params)
    refuse(books, params)
    customer = books.alive("customer", params["customer"], "customer") if "customer" in params else None
    lines = lines_of(books, params)
    params["metadata"] = merged({}, params.get("metadata", {}))
    for name in ("payment_intent_data", "subscription_data"):
        if name in params:
            params[name] = params[name] | {"metadata": merged({}, params[name].get("metadata", {}))}
    return checkout.open_session(books, params, lines, customer)


def refuse(books, params):
    for name in ("mode", "success_url", "line_items"):
        if name not in params and (name != "line_items" or params["mode"] != "setup"):
            raise required(name)
    mode = params["mode"]
    if mode == "setup":
        raise not_imitated("Checkout Sessions in setup mode")
    refuse_inner(params)
    if "customer" in params and "customer_email" in params:
        words = "You may only specify one of these parameters: customer, customer_email."
        raise invalid(words, "customer", "parameters_exclusive")
    if mode == "subscription" and "customer_creation" in params:
        raise invalid("`customer_creation` can only be used in `payment` mode.", "customer_creation")
    other = "payment_intent_data" if mode == "subscription" else "subscription_data"
    if other in params:
        raise invalid(f"You can not pass `{other}` in `{mode}` mode.", other)
    life = params.get("expires_at", books.now() + checkout.LIFE) - books.now()
    if not SHORTEST <= life <= checkout.LIFE:
        limit = "at least 30 minutes" if life < SHORTEST else "less than 24 hours"
        raise invalid(f"The `expires_at` timestamp must be {limit} from Checkout Session creation.", "expires_at")


def refuse_inner(params):
    for name, known in INNER.items():
        given = params.get(name, {})
        for part in given if isinstance(given, list) else [given]:
            unknown = sorted(set(part) - known)
            if unknown:
                raise not_imitated(f"the parameter {name}[{unknown[0]}] of POST {COLLECTION}")


def lines_of(books, params) -> list[dict]:
    lines = []
    for position, wish in enumerate(params["line_items"]):
        name = f"line_items[{position}]"
        if "price" not in wish:
            raise required(f"{name}[price]")
        price = usable_price(books, wish["price"], name, params["mode"])
        quantity = wish.get("quantity", 1)
        if quantity < 1:
            raise invalid("This value must be greater than or equal to 1.", f"{name}[quantity]")
        product = books.find("product", price["product"])
        lines.append(checkout.line_shape(price, quantity, product["name"] if product else price["id"]))
    if not lines:
        raise required("line_items")
    if params["mode"] == "subscription":
        refuse_one_time([line["price"] for line in lines])
    if len({line["currency"] for line in lines}) > 1:
        raise invalid("All prices on a Checkout Session must have the same `currency`.", "line_items")
    return lines


def usable_price(books, price_id, name, mode) -> dict:
    price = books.find("price", price_id)
    if price is None:
        raise missing("price", price_id, f"{name}[price]", 400)
    if not price["active"]:
        raise invalid("The price specified is inactive. This field only accepts active prices.", f"{name}[price]")
    if mode == "payment" and price["recurring"]:
        raise invalid(
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use "
            "only one-time prices.",
            "mode",
        )
    return price


def refuse_one_time(prices):
    recurring = [bool(price["recurring"]) for price in prices]
    if not any(recurring):
        words = "You must provide at least one recurring price in `subscription` mode when using prices."
        raise invalid(words, "line_items")
    if not all(recurring):
        raise not_imitated("one-time prices in Checkout Sessions of subscription mode")


@route("GET", COLLECTION + "/{session}")
def retrieve(call):
    return call.books.require("checkout.session", call.path["session"])


@route("POST", COLLECTION + "/{session}/expire")
def expire(call):
    session = retrieve(call)
    if session["status"] != "open":
        raise invalid(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of '
            f"`{session['status']}`."
        )
    return checkout.expire(call.books, session)


@route("GET", COLLECTION, "created customer ending_before limit payment_intent starting_after status subscription")
def listed(call):
    params = call.params
    for kind in ("customer", "payment_intent", "subscription"):
        kind in params and call.books.require_filter(kind, params[kind])
    wanted = Wanted("checkout.session", params.get("created"), params.get("customer"), params.get("payment_intent"))
    wanted.statuses = {params["status"]} if "status" in params else None
    if "subscription" in params:
        wanted.more.append(("json_extract(body, '$.subscription') = ?", params["subscription"]))
    return page(call, wanted, COLLECTION)


@route("GET", COLLECTION + "/{session}/line_items", "limit")
def line_items(call):
    session = retrieve(call)
    limit = call.params.get("limit", 10)
    lines = checkout.plan_of(call.books, session)["lines"]
    bodies = [orjson.dumps(line) for line in lines[:limit]]
    return Page(f"{COLLECTION}/{session['id']}/line_items", bodies, len(lines) > limit)
