"""Replaying one event: asked for here, done by a worker, its state read from the ledger."""

from typing import Any

from marshmallow import fields

from ...jobs.dispatch import desk
from ...jobs.replay import enqueue_replay
from ...operations import Outcome
from ...runtime import runtime
from ...webhooks import reading
from ...webhooks import replay as rules
from ..guard import requires
from ..wire import DryRunQuery, EventId, FieldName, Instant, MutationHeaders, NoteBody, OrgId, Wire
from . import blueprint
from .event_schemas import Words
from .mutations import mutate
from .schemas import SubscriptionSchema


class ReplayBody(NoteBody):
    event_id = EventId(required=True)
    force = fields.Boolean(load_default=False, metadata={"description": "also one that succeeded or was closed"})


class FieldChangeSchema(Wire):
    field = FieldName()
    previous = fields.Raw(allow_none=True)
    updated = fields.Raw(allow_none=True)


class ReplayAskedSchema(Wire):
    """What was asked for; of a dry run, what it would come to."""

    event_id = fields.String()
    job_id = fields.String(metadata={"description": "names the attempt"})
    status_url = fields.String()
    dry_run = fields.Boolean()
    outcome = fields.String(metadata={"description": "applied, ignored, or dead with its reason"})
    reason = fields.String(allow_none=True)
    detail = Words(allow_none=True)
    org_id = OrgId(allow_none=True)
    changes = fields.List(
        fields.Nested(FieldChangeSchema),
        metadata={"description": "of the subscription, by field, and of the balance of extras"},
    )
    previous = fields.Nested(SubscriptionSchema, allow_none=True)
    updated = fields.Nested(SubscriptionSchema, allow_none=True)
    signals = fields.List(fields.String(), metadata={"description": "what others would be told"})


class ReplaySchema(Wire):
    """How a replay is getting on."""

    job_id = fields.String()
    event_id = fields.String()
    state = fields.String(metadata={"description": "queued, running, waiting (for an outage), succeeded, failed"})
    event_state = fields.String()
    outcome = fields.String(allow_none=True)
    at = Instant(allow_none=True)
    actor = fields.String(allow_none=True)
    error_class = fields.String(allow_none=True)
    error_message = Words(allow_none=True)
    next_attempt_at = Instant(allow_none=True)


@blueprint.post("/webhook/replay")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(ReplayBody)
@blueprint.response(202, ReplayAskedSchema)
@blueprint.alt_response(200, schema=ReplayAskedSchema, description="a dry run: what would change")
@requires("replay:create")
def replay(headers: dict, query: dict, body: dict) -> Any:
    """Have one event handled again."""
    event_id = body["event_id"]
    how = {"force": body["force"], "desk": desk(), "livemode": runtime.settings.livemode}
    answer = mutate(
        "replay",
        event_id,
        headers | query,
        body,
        foretell=lambda: Outcome({"event_id": event_id} | rules.foresee(event_id, **how).facts()),
        work=lambda running: rules.request(running, event_id, **how),
        organization=reading.organization_of(event_id),
    )
    if query["dry_run"]:
        return answer, 200
    enqueue_replay(event_id, answer[0]["job_id"])
    return answer


@blueprint.get("/webhook/replay/<jobId>")
@blueprint.arguments(Wire, location="query")
@blueprint.response(200, ReplaySchema)
@requires("deadletter:read")
def show_replay(query: dict, job_id: str) -> dict[str, Any]:
    """Show how a replay is getting on."""
    return rules.find_replay(job_id).facts()
