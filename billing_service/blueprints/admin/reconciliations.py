"""Reconciliations: started here, carried out by a worker, read from their row."""

from typing import Any

from bson import ObjectId
from flask import g
from marshmallow import fields

from ... import reconciliation
from ...documents import ReconciliationRun
from ...jobs import wakeups
from ...operations import Outcome, Running
from ...runtime import runtime
from ..guard import requires
from ..naming import OrgName, named, named_page
from ..paging import page
from ..wire import DryRunQuery, Instant, MutationHeaders, NoteBody, OrgId, Page, PageQuery, Wire
from . import blueprint
from .mutations import mutate

EVERYTHING = "all"


class ReconcileBody(NoteBody):
    org_id = OrgId(metadata={"description": "this organization only"})


class ReconcileAskedSchema(Wire):
    """What was started; of a dry run, what it would cost."""

    reconciliation_id = fields.String()
    status_url = fields.String()
    dry_run = fields.Boolean()
    expected = fields.Integer(metadata={"description": "subscriptions"})
    stripe_requests = fields.Integer(metadata={"description": "without those for what is looked at again"})
    seconds = fields.Integer(metadata={"description": "at the background's half of the budget"})


class NotComparedSchema(Wire):
    subject = fields.String(metadata={"description": "organization or subscription"})
    code = fields.String()
    detail = fields.String()


class ReconciliationSchema(Wire):
    id = fields.String()
    trigger = fields.String()
    slot = fields.String(allow_none=True)
    actor = fields.String(allow_none=True)
    org_id = OrgId(attribute="organization", allow_none=True)
    org_name = OrgName()
    state = fields.String(metadata={"description": "running, interrupted, completed, failed"})
    phase = fields.String()
    started_at = Instant()
    finished_at = Instant(allow_none=True)
    next_at = Instant(allow_none=True, metadata={"description": "it waits until then"})
    lease_until = Instant(allow_none=True)
    until = Instant(allow_none=True, metadata={"description": "what Stripe made later is left to the next run"})
    expected = fields.Integer()
    checked = fields.Integer()
    candidates = fields.Integer(metadata={"description": "what was looked at again"})
    in_flight = fields.Integer(metadata={"description": "on its way while it was looked at: no finding"})
    foreign = fields.Integer(metadata={"description": "live subscriptions of other products"})
    stripe_requests = fields.Integer()
    divergences = fields.Integer()
    findings = fields.Dict(keys=fields.String(), values=fields.Integer(), metadata={"description": "by kind"})
    new = fields.Integer()
    changed = fields.Integer()
    acknowledged = fields.Integer()
    resolved = fields.Integer()
    errors = fields.Integer()
    error_sample = fields.List(fields.Nested(NotComparedSchema))
    error = fields.String(allow_none=True)


class PreviousSchema(Wire):
    id = fields.String()
    finished_at = Instant()
    difference = fields.Dict(
        keys=fields.String(), values=fields.Integer(), metadata={"description": "how many more of each kind than then"}
    )


class ReconciliationDetailSchema(ReconciliationSchema):
    previous = fields.Nested(PreviousSchema, allow_none=True)


class ReconciliationsPage(Page):
    items = fields.List(fields.Nested(ReconciliationSchema))


@blueprint.post("/reconcile")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(ReconcileBody)
@blueprint.response(202, ReconcileAskedSchema)
@blueprint.alt_response(200, schema=ReconcileAskedSchema, description="a dry run: what it would cost")
@requires("reconcile:run")
def reconcile(headers: dict, query: dict, body: dict) -> Any:
    """Compare everything, or one organization, with Stripe; nothing is repaired."""
    org_id = body.get("org_id")
    answer = mutate(
        "reconcile",
        org_id or EVERYTHING,
        headers | query,
        body,
        foretell=lambda: _foretell(org_id),
        work=lambda running: _start(running, org_id),
    )
    if query["dry_run"]:
        return answer, 200
    wakeups.wake_reconciliation()
    return answer


def _foretell(org_id: ObjectId | None) -> Outcome:
    reconciliation.require_startable(org_id)
    return Outcome(reconciliation.estimate(org_id, runtime.settings.requests_per_second))


def _start(running: Running, org_id: ObjectId | None) -> Outcome:
    told: list[Outcome] = []

    def complete(run: ReconciliationRun) -> None:
        url = f"{blueprint.url_prefix}/reconciliations/{run.pk}"
        told.append(Outcome({"reconciliation_id": str(run.pk), "status_url": url}, status=202))
        running.complete(told[-1])

    reconciliation.start("api", runtime.clock(), actor=g.identity.actor, organization=org_id, also=complete)
    return told[-1]


@blueprint.get("/reconciliations")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, ReconciliationsPage)
@requires("customer:read")
def list_reconciliations(query: dict[str, Any]) -> dict[str, Any]:
    """List reconciliations, newest first."""
    found = reconciliation.find_runs()
    return named_page(page(found, key="started_at", limit=query["limit"], cursor=query.get("cursor")))


@blueprint.get("/reconciliations/<reconciliationId>")
@blueprint.arguments(Wire, location="query")
@blueprint.response(200, ReconciliationDetailSchema)
@requires("customer:read")
def show_reconciliation(query: dict, reconciliation_id: ObjectId) -> dict[str, Any]:
    """Show how far a reconciliation is, what it found, and the difference to the one before."""
    return named([reconciliation.described(reconciliation.find_run(reconciliation_id))])[0]
