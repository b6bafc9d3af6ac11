"""Replaying many events: selected by a dry run, confirmed by their number, carried out by workers."""

from typing import Any

from bson import ObjectId
from flask import g

from ...documents import database_now
from ...errors import InvalidRequest
from ...jobs import wakeups
from ...operations import Outcome, Running
from ...runtime import runtime
from ...webhooks import batches, selection
from ..guard import requires
from ..naming import named
from ..paging import page
from ..wire import DryRunQuery, MutationHeaders, NoteBody, Wire
from . import blueprint
from .batch_schemas import (
    BatchAskedSchema,
    BatchBody,
    BatchCancelledSchema,
    BatchesPage,
    BatchesQuery,
    BatchItemsPage,
    BatchItemsQuery,
    BatchSchema,
    SelectionFilter,
)
from .mutations import mutate

FILTER = frozenset(SelectionFilter().fields)
RUN = frozenset({"selection", "confirm", "stop_after"})


@blueprint.post("/webhook/replay-batch")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(BatchBody)
@blueprint.response(202, BatchAskedSchema)
@blueprint.alt_response(200, schema=BatchAskedSchema, description="a dry run: count, sample and selection")
@requires("replay:create")
def replay_batch(headers: dict, query: dict, body: dict) -> Any:
    """Have all events replayed that a dry run selected."""
    _refuse_mixture(body, query["dry_run"])
    chosen = _selected(body, query["dry_run"])

    def foretell() -> Outcome:
        return batches.foretell(chosen, selection.seal(chosen, _key()))

    def work(running: Running) -> Outcome:
        stop_after = body.get("stop_after", batches.STOP_AFTER)
        return batches.start(running, chosen, confirm=body["confirm"], stop_after=stop_after)

    whose = chosen.wanted.get("org_id")
    answer = mutate(
        "replay_batch", chosen.words, headers | query, body, foretell=foretell, work=work, organization=whose
    )
    if query["dry_run"]:
        return answer, 200
    wakeups.wake_batches()
    return answer


def _refuse_mixture(body: dict[str, Any], dry_run: bool) -> None:
    """A filter is looked at before anything is run by it: each call takes its own half of the body."""
    if dry_run:
        wrong = {name: ["does not go with a dry run"] for name in RUN & body.keys() - {"stop_after"}}
    else:
        wrong = {name: ["does not go without dryRun=true; send selection and confirm"] for name in FILTER & body.keys()}
        wrong |= {
            name: ["is required: the dry run answers it"] for name in ("selection", "confirm") if name not in body
        }
    if wrong:
        names = {str(BatchBody().fields[name].data_key): words for name, words in wrong.items()}
        raise InvalidRequest("Select with dryRun=true and a filter, then run its selection.", errors=names)


def _selected(body: dict[str, Any], dry_run: bool) -> selection.Selection:
    if dry_run:
        return selection.select({name: body[name] for name in FILTER & body.keys()}, database_now())
    return selection.unseal(body["selection"], _key())


def _key() -> bytes:
    return selection.key_of(runtime.settings.jwt_secret_key, runtime.settings.stripe_secret_key)


@blueprint.get("/webhook/replay-batch")
@blueprint.arguments(BatchesQuery, location="query")
@blueprint.response(200, BatchesPage)
@requires("deadletter:read")
def list_batches(query: dict[str, Any]) -> dict[str, Any]:
    """List batches, the newest first."""
    found = batches.find_all(query.get("state"))
    listed = page(found, key="created_at", limit=query["limit"], cursor=query.get("cursor"))
    return listed | {"items": [batches.describe(each) for each in listed["items"]]}


@blueprint.get("/webhook/replay-batch/<batchId>")
@blueprint.arguments(Wire, location="query")
@blueprint.response(200, BatchSchema)
@requires("deadletter:read")
def show_batch(query: dict, batch_id: ObjectId) -> dict[str, Any]:
    """Show how a batch is getting on."""
    return batches.describe(batches.find(batch_id))


@blueprint.get("/webhook/replay-batch/<batchId>/items")
@blueprint.arguments(BatchItemsQuery, location="query")
@blueprint.response(200, BatchItemsPage)
@requires("deadletter:read")
def list_batch_items(query: dict[str, Any], batch_id: ObjectId) -> dict[str, Any]:
    """List what became of each event of a batch, in the order of the batch."""
    limit, after = query["limit"], _position(query.get("cursor"))
    found = batches.find_items(batch_id, state=query.get("state"), after=after, limit=limit + 1)
    more = len(found) > limit
    return {
        "items": named(found[:limit]),
        "limit": limit,
        "next_cursor": f"after-{found[limit - 1].position}" if more else None,
    }


def _position(cursor: str | None) -> int:
    if cursor is None:
        return -1
    number = cursor.removeprefix("after-")
    if cursor == number or not (number.isascii() and number.isdigit() and len(number) < 7):
        raise InvalidRequest("The cursor is not one that this service gave.", errors={"cursor": ["unknown"]})
    return int(number)


@blueprint.post("/webhook/replay-batch/<batchId>/cancel")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(NoteBody)
@blueprint.response(200, BatchCancelledSchema)
@requires("replay:create")
def cancel_batch(headers: dict, query: dict, body: dict, batch_id: ObjectId) -> Any:
    """Cancel a batch: the item at hand comes to its end, no other is begun."""

    def work(running: Running) -> Outcome:
        return batches.cancel(batch_id, by=g.identity.actor, also=running.complete)

    answer = mutate(
        "cancel_replay_batch",
        f"batch {batch_id}",
        headers | query,
        body,
        foretell=lambda: batches.foretell_cancel(batch_id),
        work=work,
        organization=batches.organization_of(batch_id),
    )
    if not query["dry_run"]:
        wakeups.wake_batches()
    return answer
