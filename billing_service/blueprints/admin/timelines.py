"""The timeline of an organization."""

from typing import Any

from bson import ObjectId
from marshmallow import fields

from ... import subscriptions
from ... import timeline as rules
from ...documents.ledger_entry import ENTRY_KINDS
from ..export import ExportQuery, as_file, exported
from ..guard import requires
from ..wire import Instant, OrgId, Wire, one_of
from . import blueprint
from .event_schemas import AttemptSchema, ListedEventSchema
from .refunds import RefundRequestSchema
from .schemas import ActionSummarySchema, FindingSchema


class TimelineQuery(ExportQuery):
    kind = one_of(rules.KINDS)
    since = Instant(data_key="from", metadata={"description": "at this time or later"})
    until = Instant(data_key="to", metadata={"description": "before this time"})


class TimelineEventSchema(ListedEventSchema):
    history = fields.List(fields.Nested(AttemptSchema), metadata={"description": "the last 20 attempts"})


class SignalSchema(Wire):
    id = fields.String()
    name = fields.String()
    org_id = OrgId(attribute="organization")
    facts = fields.Raw()
    created_at = Instant()
    sent_at = Instant(allow_none=True, metadata={"description": "when all had been told"})
    last_error = fields.String(allow_none=True)


class LedgerEntrySchema(Wire):
    """Prepaid units that came or went with money, or expired."""

    kind = fields.String(metadata={"description": ", ".join(ENTRY_KINDS)})
    units = fields.Integer(metadata={"description": "negative: lost"})
    ref = fields.String(metadata={"description": "what happened, such as refund:re_…; booked once"})
    remaining = fields.Integer(allow_none=True, metadata={"description": "of units that came: what is left of them"})
    amount = fields.Integer(allow_none=True, metadata={"description": "the money that moved, in minor units"})
    currency = fields.String(allow_none=True)
    session = fields.String(allow_none=True)
    payment_intent = fields.String(allow_none=True)
    charge = fields.String(allow_none=True)
    memo = fields.String(allow_none=True)
    actor = fields.String(allow_none=True)
    at = Instant()
    expires_at = Instant(allow_none=True)


class TimelineItemSchema(Wire):
    """One thing that happened: its time, its kind, and under one more name what it is about."""

    at = Instant()
    kind = fields.String(metadata={"description": ", ".join(rules.KINDS)})
    id = fields.String()
    event = fields.Nested(TimelineEventSchema, metadata={"description": "at the time it was received"})
    action = fields.Nested(ActionSummarySchema)
    finding = fields.Nested(FindingSchema)
    refund = fields.Nested(RefundRequestSchema)
    signal = fields.Nested(SignalSchema)
    extras = fields.Nested(LedgerEntrySchema)


class TimelinePage(Wire):
    items = fields.List(fields.Nested(TimelineItemSchema))
    limit = fields.Integer()
    next_cursor = fields.String(allow_none=True)


@blueprint.get("/timeline/<org_id:orgId>")
@blueprint.arguments(TimelineQuery, location="query")
@blueprint.response(200, TimelinePage)
@blueprint.doc(**exported("one line for each thing that happened, what it is about as JSON"))
@requires("customer:read")
def timeline(query: dict[str, Any], org_id: ObjectId) -> Any:
    """List what happened to an organization (events, actions, findings, refunds, signals, extras), newest first."""
    subscriptions.require_organization(org_id)
    wanted: dict[str, Any] = {
        "kinds": [query["kind"]] if "kind" in query else rules.KINDS,
        "since": query.get("since"),
        "until": query.get("until"),
    }
    if query["format"] == "csv":
        return as_file(rules.read_all(org_id, **wanted), schema=TimelineItemSchema(), name=f"timeline-{org_id}")
    return rules.read(org_id, limit=query["limit"], cursor=query.get("cursor"), **wanted)
