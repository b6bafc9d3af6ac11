"""Webhook endpoints; the secret is told once, when one is created."""

import re

from .. import versions
from ..ids import new_id
from ..listing import Wanted, page
from ..metadata import cleared, merged
from ..problems import invalid
from ..routes import route
from ..shapes import endpoint_shape

EVENT = re.compile(r"^(\*|[a-z0-9_]+(\.[a-z0-9_]+)+)$")
MOST = 16


@route("POST", "/v1/webhook_endpoints", "api_version description enabled_events metadata url")
def create(call):
    params, books = call.params, call.books
    if len(books.query("webhook_endpoint", "1")) >= MOST:
        raise invalid(f"You have reached the maximum of {MOST} test webhook endpoints.")
    endpoint = endpoint_shape(books.now(), params["url"], []) | written({"metadata": {}}, params)
    if "api_version" in params:
        endpoint["api_version"] = versions.checked(params["api_version"])
    secret = new_id("whsec_")
    books.store.run("INSERT INTO secrets VALUES (?, ?, ?, NULL)", (books.account, endpoint["id"], secret))
    return books.create(endpoint) | {"secret": secret}


@route("GET", "/v1/webhook_endpoints/{webhook_endpoint}")
def retrieve(call):
    return call.books.require("webhook_endpoint", call.path["webhook_endpoint"])


@route("POST", "/v1/webhook_endpoints/{webhook_endpoint}", "description disabled enabled_events metadata url")
def update(call):
    endpoint = retrieve(call)
    changed = endpoint | written(endpoint, call.params)
    if "disabled" in call.params:
        changed["status"] = "disabled" if call.params["disabled"] else "enabled"
    return call.books.change(changed)


@route("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}")
def delete(call):
    endpoint = retrieve(call)
    call.books.erase(endpoint["id"])
    return {"id": endpoint["id"], "object": "webhook_endpoint", "deleted": True}


@route("GET", "/v1/webhook_endpoints", "ending_before limit starting_after")
def listed(call):
    return page(call, Wanted("webhook_endpoint"), "/v1/webhook_endpoints")


def written(endpoint, params) -> dict:
    for event in params.get("enabled_events", ()):
        if not EVENT.match(event):
            raise invalid(f"Invalid enabled_events: {event} is not an event type.", "enabled_events")
    url = params.get("url")
    if url is not None and not re.match(r"^https?://[^/\s]+", url):
        raise invalid("Invalid URL: An explicit scheme (such as https) must be provided.", "url", "url_invalid")
    given = cleared({name: params[name] for name in ("description", "enabled_events", "url") if name in params})
    return given | {"metadata": merged(endpoint["metadata"], params.get("metadata", {}))}
