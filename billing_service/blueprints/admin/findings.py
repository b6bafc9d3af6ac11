"""Findings: what does not fit between Stripe and us, to be looked through, acknowledged and downloaded."""

from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from flask import g
from marshmallow import ValidationError, fields

from ... import reconciliation
from ...documents.finding import SEVERITIES, STATES
from ...operations import Outcome, Running
from ...runtime import runtime
from ..export import ExportQuery, as_csv, exported
from ..guard import requires
from ..naming import named, named_page
from ..paging import page
from ..wire import (
    DryRunQuery,
    FieldName,
    Instant,
    MutationHeaders,
    NoteBody,
    ObjectIdField,
    OrgId,
    Page,
    Wire,
    one_of,
    text,
)
from . import blueprint
from .mutations import mutate
from .schemas import FindingSchema

LONGEST = timedelta(days=366)


def _ahead(value: datetime) -> None:
    if not timedelta() < value - runtime.clock() <= LONGEST:
        raise ValidationError("must lie ahead, by a year at most")


class FindingsQuery(ExportQuery):
    state = one_of(STATES)
    kind = text(most=50)
    severity = one_of(SEVERITIES)
    org_id = OrgId()
    reconciliation_id = ObjectIdField(metadata={"description": "what this run was the last to see"})
    since = Instant(data_key="from", metadata={"description": "first seen at this time or later"})
    until = Instant(data_key="to", metadata={"description": "first seen before this time"})


class FindingsPage(Page):
    items = fields.List(fields.Nested(FindingSchema))


class AcknowledgeBody(NoteBody):
    until = Instant(required=True, validate=_ahead, metadata={"description": "then it is open again; a year at most"})


class AcknowledgedSchema(Wire):
    finding = fields.Nested(FindingSchema)
    changed = fields.List(FieldName())
    dry_run = fields.Boolean()


@blueprint.get("/findings")
@blueprint.arguments(FindingsQuery, location="query")
@blueprint.response(200, FindingsPage)
@blueprint.doc(**exported("one line for each finding, its nested values as JSON"))
@requires("customer:read")
def list_findings(query: dict[str, Any]) -> Any:
    """List findings, the first seen last, or download them."""
    found = reconciliation.find_findings(query)
    if query["format"] == "csv":
        return as_csv(found, key="first_seen_at", schema=FindingSchema(), name="findings")
    return named_page(page(found, key="first_seen_at", limit=query["limit"], cursor=query.get("cursor")))


@blueprint.get("/findings/<findingId>")
@blueprint.arguments(Wire, location="query")
@blueprint.response(200, FindingSchema)
@requires("customer:read")
def show_finding(query: dict, finding_id: ObjectId) -> Any:
    """Show a finding."""
    return named([reconciliation.find_finding(finding_id)])[0]


@blueprint.post("/findings/<findingId>/acknowledge")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(AcknowledgeBody)
@blueprint.response(200, AcknowledgedSchema)
@requires("finding:acknowledge")
def acknowledge_finding(headers: dict, query: dict, body: dict, finding_id: ObjectId) -> Any:
    """Acknowledge an open finding until a time; then it is open again."""
    told = {"by": g.identity.actor, "until": body["until"], "note": body.get("note")}

    def work(running: Running) -> Outcome:
        return reconciliation.acknowledge(finding_id, **told, now=runtime.clock(), also=running.complete)

    return mutate(
        "acknowledge_finding",
        str(finding_id),
        headers | query,
        body,
        foretell=lambda: reconciliation.foretell_acknowledgement(finding_id, **told),
        work=work,
        organization=reconciliation.organization_of(finding_id),
    )
