"""The ledger of webhook events: lists, and one event with its history and payload."""

from typing import Any

from flask import g

from ...webhooks import reading
from ..guard import requires
from ..naming import named, named_page
from ..paging import page
from ..wire import Wire
from . import blueprint
from .event_schemas import EventDetailSchema, EventsPage, EventsQuery


@blueprint.get("/events")
@blueprint.arguments(EventsQuery, location="query")
@blueprint.response(200, EventsPage)
@requires("deadletter:read")
def list_events(query: dict[str, Any]) -> dict[str, Any]:
    """List webhook events, the last received first."""
    found = reading.find_events(query)
    return named_page(page(found, key="received_at", limit=query["limit"], cursor=query.get("cursor")))


@blueprint.get("/events/<eventId>")
@blueprint.arguments(Wire, location="query")
@blueprint.response(200, EventDetailSchema)
@requires("deadletter:read")
def show_event(query: dict[str, Any], event_id: str) -> dict[str, Any]:
    """Show an event with its history and payload, which is masked without payload:read."""
    event = reading.find_event(event_id)
    return named([reading.describe(event, unmasked="payload:read" in g.identity.permissions)])[0]
