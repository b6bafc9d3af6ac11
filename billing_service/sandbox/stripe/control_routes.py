"""The control plane: what a test or a person does to the sandbox from outside. The contract stands in __init__.py."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import orjson

from . import lifecycle
from .books import KEEP, Books
from .ids import ids, new_id
from .problems import Problem
from .seeds import DEFAULTS
from .server import Answer
from .shapes import price_shape, product_shape

TABLE: list = []


class Refusal(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def control(method, path):
    def register(function):
        pattern = re.compile("^/_control" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + "$")
        TABLE.append((method, pattern, function))
        return function

    return register


def answer(sandbox, request) -> Answer:
    try:
        given = orjson.loads(request.body) if request.body else dict(parse_qsl(request.query))
        if not isinstance(given, dict):
            raise Refusal(400, "send a JSON object")
        for method, pattern, function in TABLE:
            match = pattern.match(request.path.rstrip("/"))
            if match and method == request.method:
                return Answer(200, orjson.dumps(function(sandbox, given, **match.groupdict())))
        raise Refusal(404, f"no {request.method} {request.path}")
    except Refusal as refusal:
        return refused(refusal.status, refusal)
    except Problem as problem:
        return refused(problem.status, problem)
    except (ValueError, KeyError, TypeError, re.error) as error:
        return refused(400, f"{type(error).__name__}: {error}")


def refused(status, error) -> Answer:
    return Answer(status, orjson.dumps({"error": str(error)}))


def books_of(sandbox, given) -> Books:
    return Books(sandbox, given.get("account") or sandbox.accounts.ids()[0])


@control("GET", "")
def state(sandbox, given):
    counts = sandbox.store.all("SELECT kind, COUNT(*) AS n FROM objects GROUP BY kind")
    seeded = sum(batch.count for batch in sandbox.seeds.batches.values())
    return {
        "ok": True,
        "now": sandbox.clock.now(),
        "offset": sandbox.clock.offset,
        "accounts": sandbox.accounts.ids(),
        "objects": {row["kind"]: row["n"] for row in counts},
        "seeded": seeded,
        "settings": sandbox.settings.values,
    }


@control("POST", "/reset")
def reset(sandbox, given):
    sandbox.reset()
    return state(sandbox, {})


@control("POST", "/clock")
def clock(sandbox, given):
    if given.get("stop"):
        sandbox.clock.stop()
    seconds = given["advance"] if "advance" in given else given["set"] - sandbox.clock.exact()
    with sandbox.store.transaction():
        sandbox.clock.move(seconds)
    done = sandbox.calendar.run()
    sandbox.deliveries.wake()
    return {"now": sandbox.clock.now(), "offset": sandbox.clock.offset, "done": done}


@control("POST", "/ids")
def seed_ids(sandbox, given):
    ids.begin(given["seed"])
    return {"seed": ids.seed}


@control("GET", "/settings")
def settings(sandbox, given):
    return sandbox.settings.values


@control("POST", "/settings")
def change_settings(sandbox, given):
    return sandbox.settings.change(given)


@control("POST", "/faults")
def arm(sandbox, given):
    return sandbox.faults.arm(given)


@control("GET", "/faults")
def armed(sandbox, given):
    return {"items": sandbox.faults.listed()}


@control("DELETE", "/faults")
def disarm_all(sandbox, given):
    return {"disarmed": sandbox.faults.disarm()}


@control("DELETE", "/faults/{fault_id}")
def disarm(sandbox, given, fault_id):
    if not sandbox.faults.disarm(int(fault_id)):
        raise Refusal(404, f"no fault {fault_id}")
    return {"disarmed": 1}


@control("GET", "/requests")
def requests(sandbox, given):
    wanted = {name: given[name] for name in ("method", "path", "status", "key") if name in given}
    return sandbox.request_log.listed(**wanted, limit=int(given.get("limit", 100)))


@control("POST", "/requests/clear")
def clear_requests(sandbox, given):
    sandbox.request_log.clear()
    return {"total": 0}


@control("POST", "/accounts")
def add_account(sandbox, given):
    if given.get("id") in sandbox.accounts.ids():
        raise Refusal(409, f"account {given['id']} is there already")
    return sandbox.accounts.create(given.get("id"), given.get("key"), given.get("api_version"), given.get("name"))


@control("POST", "/keys")
def add_key(sandbox, given):
    account = given.get("account") or sandbox.accounts.ids()[0]
    return {"key": sandbox.accounts.add_key(account, given.get("key"), given.get("permissions")), "account": account}


@control("POST", "/customers/{customer}/payment")
def payment(sandbox, given, customer):
    if given["outcome"] not in ("succeed", "decline", "none"):
        raise ValueError("outcome must be one of succeed, decline, none")
    books = books_of(sandbox, given)
    books.require("customer", customer)
    with sandbox.store.transaction():
        sandbox.store.run(
            "INSERT OR REPLACE INTO payments VALUES (?, ?, ?, ?)",
            (books.account, customer, given["outcome"], given.get("code")),
        )
    return {"customer": customer, "outcome": given["outcome"], "code": given.get("code")}


@control("POST", "/objects/{object_id}")
@control("POST", "/subscriptions/{object_id}")
def patch(sandbox, given, object_id):
    books = books_of(sandbox, given)
    with sandbox.store.transaction():
        row = books.row(object_id)
        if not row:
            raise Refusal(404, f"no object {object_id}")
        before = orjson.loads(row["body"])
        wanted = deep(before, given["patch"])
        changed = books.change(wanted, given.get("event"), due_after_patch(books, wanted), before)
    sandbox.deliveries.wake()
    return changed


def due_after_patch(books, subject):
    """A subscription patched to a period that is over stays as it is, instead of being renewed at once."""
    if subject["object"] != "subscription":
        return KEEP
    due_at = lifecycle.next_due(books, subject)
    return due_at if due_at and due_at > books.now() else None


def deep(stored, patch):
    if not isinstance(stored, dict) or not isinstance(patch, dict):
        return patch
    return stored | {key: deep(stored.get(key), value) for key, value in patch.items()}


@control("DELETE", "/objects/{object_id}")
def remove(sandbox, given, object_id):
    with sandbox.store.transaction():
        books_of(sandbox, given).erase(object_id)
    return {"removed": object_id}


@control("POST", "/endpoints/{endpoint}/roll")
def roll(sandbox, given, endpoint):
    """The old secrets sign as well until they expire."""
    books = books_of(sandbox, given)
    books.require("webhook_endpoint", endpoint)
    expires_at = sandbox.clock.exact() + given.get("expires_in", 86400)
    previous = sandbox.deliveries.secrets(books.account, endpoint)
    secret = new_id("whsec_")
    with sandbox.store.transaction():
        sandbox.store.run(
            "UPDATE secrets SET expires_at = ? WHERE account = ? AND endpoint = ? AND expires_at IS NULL",
            (expires_at, books.account, endpoint),
        )
        sandbox.store.run("INSERT INTO secrets VALUES (?, ?, ?, NULL)", (books.account, endpoint, secret))
    return {"secret": secret, "previous": previous, "expires_at": expires_at}


@control("POST", "/events")
def invent(sandbox, given):
    books = books_of(sandbox, given)
    with sandbox.store.transaction():
        subject = given["object"]
        before = deep(subject, given["previous"]) if "previous" in given else None
        event = books.emit(given["type"], subject, before)
    sandbox.deliveries.wake()
    return sandbox.event_for(books, event)


@control("POST", "/seed")
def seed(sandbox, given):
    books = books_of(sandbox, given)
    rule = DEFAULTS | {key: value for key, value in given.items() if key not in ("account", "batch", "prices")}
    unknown = set(rule) - set(DEFAULTS) - {"count"}
    if unknown or not 1 <= rule["count"] <= 10**8:
        raise ValueError(f"unknown: {sorted(unknown)}" if unknown else "count must be 1 to 100000000")
    with sandbox.store.transaction():
        rule["prices"] = [seeded_price(books, price) for price in given["prices"]]
        batch = sandbox.seeds.add(books.account, int(given.get("batch", 1)), rule)
    return {
        "batch": batch.number,
        "count": batch.count,
        "first": batch.id("subscription", 0),
        "last": batch.id("subscription", batch.count - 1),
    }


def seeded_price(books, price_id) -> dict:
    """The price, made on the fly if the account has none of that id."""
    found = books.find("price", price_id)
    if found:
        return found
    product = product_shape(DEFAULTS["created_from"], price_id)
    product["id"] = "prod_" + price_id.removeprefix("price_")
    if not books.find("product", product["id"]):
        books.save(product)
    price = price_shape(product["created"], product["id"], "usd", 2000, {"interval": "month"}) | {"id": price_id}
    books.save(price)
    return price
