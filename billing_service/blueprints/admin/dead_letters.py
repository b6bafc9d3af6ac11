"""Dead letters: events that no attempt is left for, until somebody replays or closes them."""

from dataclasses import asdict
from functools import partial
from typing import Any

from flask import g, request

from ...errors import InvalidRequest
from ...operations import Outcome, Running
from ...webhooks import reading
from ..guard import requires
from ..naming import named_page
from ..paging import page
from ..wire import MutationHeaders, whole_body
from . import blueprint
from .event_schemas import (
    ClosedDeadLetterSchema,
    CloseQuery,
    DeadLettersPage,
    DeadLettersQuery,
    GroupsQuery,
    GroupsSchema,
)
from .mutations import mutate


@blueprint.get("/dead-letters")
@blueprint.arguments(DeadLettersQuery, location="query")
@blueprint.response(200, DeadLettersPage)
@requires("deadletter:read")
def list_dead_letters(query: dict[str, Any]) -> dict[str, Any]:
    """List dead letters, the last that died first; closed ones are hidden."""
    cursor = query.get("cursor")
    number = None if cursor else query.get("page", 1)
    found = page(
        reading.find_dead_letters(query), key="dead_at", limit=query["limit"], cursor=cursor, number=number or 1
    )
    return named_page(found) | {"page": number}


@blueprint.get("/dead-letters/groups")
@blueprint.arguments(GroupsQuery, location="query")
@blueprint.response(200, GroupsSchema)
@requires("deadletter:read")
def list_dead_letter_groups(query: dict[str, Any]) -> dict[str, Any]:
    """Group dead letters by what failed alike, with counts; closed ones are hidden."""
    found = reading.find_groups(query, order=query["sort"], limit=query["limit"])
    return asdict(found) | {"limit": query["limit"]}


@blueprint.delete("/dead-letters/<eventId>")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(CloseQuery, location="query")
@blueprint.response(200, ClosedDeadLetterSchema)
@requires("deadletter:close")
def close_dead_letter(headers: dict, query: dict, event_id: str) -> Any:
    """Close a dead letter: it is hidden, its payload kept for 90 days, its id recognised when it comes again."""
    if whole_body(request).strip() not in (b"", b"{}"):
        raise InvalidRequest("This call has no body; send the note in the query.", errors={"body": ["must be empty"]})
    note = query.get("note")

    def work(running: Running) -> Outcome:
        return reading.close(event_id, by=g.identity.actor, note=note, also=running.complete)

    return mutate(
        "close_dead_letter",
        event_id,
        headers | query,
        {"note": note},
        foretell=partial(reading.foretell_close, event_id),
        work=work,
        organization=reading.organization_of(event_id),
    )
