"""Events: what Stripe says has happened, for thirty days, in the shape of an API version."""

import orjson

from .. import versions
from ..listing import Page, Wanted, page
from ..problems import invalid, missing
from ..routes import route

LIFE = 30 * 86400


@route("GET", "/v1/events", "created delivery_success ending_before limit starting_after type types")
def listed(call):
    params = call.params
    if "type" in params and "types" in params:
        raise invalid("You may only specify one of these parameters: type, types.", "types", "parameters_exclusive")
    if len(params.get("types", ())) > 20:
        raise invalid("You may specify up to 20 event types.", "types")
    wanted = Wanted("event", params.get("created"), more=[("created > ?", call.books.now() - LIFE)])
    for condition in type_conditions(
        params.get("types") or [params["type"]] if "type" in params or "types" in params else []
    ):
        wanted.more.append(condition)
    if "delivery_success" in params:
        undelivered = (
            "(SELECT 1 FROM deliveries AS d WHERE d.account = :account AND d.event = listed.id "
            "AND d.state != 'succeeded')"
        )
        wanted.more.append(
            (("NOT EXISTS " if params["delivery_success"] else "EXISTS ") + undelivered + " AND 1 = ?", 1)
        )
    found = page(call, wanted, "/v1/events")
    bodies = [orjson.dumps(event_for(call.books, orjson.loads(body))) for body in found.bodies]
    return Page(found.url, bodies, found.has_more, ready=True)


def type_conditions(types):
    """`charge.*` means every type that starts with `charge.`; several types are alternatives."""
    if not types:
        return []
    globs = " OR ".join("status GLOB '" + name.replace("'", "") + "'" for name in types)
    return [(f"({globs}) AND 1 = ?", 1)]


@route("GET", "/v1/events/{id}")
def retrieve(call):
    event = call.books.require("event", call.path["id"])
    if event["created"] <= call.books.now() - LIFE:
        raise missing("event", event["id"])
    return event_for(call.books, event)


def event_for(books, event: dict, api_version: str | None = None) -> dict:
    """The event as sent to an endpoint of that version; by default in the version it was made in."""
    version = api_version or event["api_version"]
    data = event["data"]
    subject = versions.shaped(data["object"], version, books)
    shown = {"object": subject}
    if "before" in data:
        before = versions.shaped(data["object"] | data["before"], version, books)
        shown["previous_attributes"] = difference(before, subject)
    pending = books.sandbox.deliveries.pending_of(books.account, event["id"])
    return event | {"api_version": version, "data": shown, "pending_webhooks": pending}


def difference(before: dict, after: dict) -> dict:
    """Exactly the changed keys with their old values; hashes are compared key by key, arrays as a whole."""
    changed = {}
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            old = difference(old, new)
        changed[key] = old
    return changed
