"""Products and prices."""

from ..listing import Wanted, page
from ..metadata import cleared, merged
from ..problems import Problem, invalid, of_live_mode, required
from ..routes import route
from ..shapes import price_shape, product_shape

PRODUCT = "active description images metadata name shippable statement_descriptor tax_code unit_label url"
PRICE = "active lookup_key metadata nickname tax_behavior transfer_lookup_key"


@route("POST", "/v1/products", PRODUCT + " id type")
def create_product(call):
    product = product_shape(call.books.now(), call.params["name"])
    product["id"] = call.params.get("id", product["id"])
    if call.books.find("product", product["id"]):
        raise Problem(400, f"Product already exists: {product['id']}.", code="resource_already_exists", param="id")
    return call.books.create(product | written(product, call.params, PRODUCT + " type"), "product.created")


@route("GET", "/v1/products/{id}")
def retrieve_product(call):
    return call.books.require("product", call.path["id"])


@route("POST", "/v1/products/{id}", PRODUCT + " default_price")
def update_product(call):
    product = call.books.require("product", call.path["id"])
    changed = product | written(product, call.params, PRODUCT + " default_price") | {"updated": call.books.now()}
    return call.books.change(changed, "product.updated")


@route("GET", "/v1/products", "active created ending_before ids limit starting_after type url")
def list_products(call):
    return page(call, filtered(call, "product", "active type url"), "/v1/products")


@route(
    "POST",
    "/v1/prices",
    PRICE + " currency product product_data recurring unit_amount unit_amount_decimal billing_scheme",
)
def create_price(call):
    params = call.params
    if "product" not in params and "product_data" not in params:
        raise required("product")
    if "unit_amount" not in params and "unit_amount_decimal" not in params:
        raise required("unit_amount")
    if "product" in params:
        product = call.books.require("product", params["product"], "product", 400)["id"]
    else:
        product = call.books.create(product_shape(call.books.now(), params["product_data"]["name"]), "product.created")[
            "id"
        ]
    amount = params.get("unit_amount", int(float(params.get("unit_amount_decimal", 0))))
    price = price_shape(call.books.now(), product, params["currency"].lower(), amount, params.get("recurring"))
    claim_lookup_key(call, price)
    return call.books.create(price | written(price, params, PRICE), "price.created")


@route("GET", "/v1/prices/{price}")
def retrieve_price(call):
    price = call.books.require("price", call.path["price"])
    if price["livemode"]:  # patched: the account's price of live mode, which a test key does not reach
        raise of_live_mode("price", price["id"], "price")
    return price


@route("POST", "/v1/prices/{price}", PRICE)
def update_price(call):
    price = call.books.require("price", call.path["price"])
    claim_lookup_key(call, price)
    return call.books.change(price | written(price, call.params, PRICE), "price.updated")


@route(
    "GET", "/v1/prices", "active created currency ending_before limit lookup_keys product recurring starting_after type"
)
def list_prices(call):
    wanted = filtered(call, "price", "active currency type")
    wanted.parent = call.params.get("product")
    recurring = call.params.get("recurring", {})
    wanted.more += [
        (f"json_extract(body, '$.recurring.{name}') = ?", recurring[name])
        for name in ("interval", "usage_type")
        if name in recurring
    ]
    return page(call, wanted, "/v1/prices")


def filtered(call, kind, names) -> Wanted:
    wanted = Wanted(kind, call.params.get("created"))
    for name in names.split():
        if name in call.params:
            wanted.more.append((f"json_extract(body, '$.{name}') = ?", call.params[name]))
    for param, name in (("ids", "id"), ("lookup_keys", "lookup_key")):
        if param in call.params:
            choices = ",".join("'" + value.replace("'", "''") + "'" for value in call.params[param])
            wanted.more.append((f"json_extract(body, '$.{name}') IN ({choices}) AND 1 = ?", 1))
    return wanted


def written(subject, params, names) -> dict:
    ignored = ("transfer_lookup_key", "metadata")
    given = cleared({name: params[name] for name in names.split() if name in params and name not in ignored})
    if "images" in given:
        given["images"] = given["images"] or []
    return given | {"metadata": merged(subject["metadata"], params.get("metadata", {}))}


def claim_lookup_key(call, price):
    wanted = call.params.get("lookup_key")
    owners = call.books.query("price", "json_extract(body, '$.lookup_key') = ?", (wanted,)) if wanted else []
    for owner in owners:
        if owner["id"] == price["id"]:
            continue
        if not call.params.get("transfer_lookup_key"):
            raise invalid(
                f"A price (`{owner['id']}`) already uses that lookup key.", "lookup_key", "resource_already_exists"
            )
        call.books.change(owner | {"lookup_key": None}, "price.updated")
