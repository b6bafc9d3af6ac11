"""Refunds and what can be refunded: refund a charge once, list refund requests, list an organization's charges."""

from typing import Any

from flask import g
from marshmallow import fields, validate

from ... import refunds, subscriptions
from ...access import refund_limit
from ...documents.refund_request import STATES
from ...operations import Outcome, Running
from ...runtime import runtime
from ..export import ExportQuery, as_csv, exported
from ..guard import requires
from ..naming import OrgName, named_page
from ..paging import page
from ..wire import (
    DryRunQuery,
    FieldName,
    Instant,
    MutationHeaders,
    NoteBody,
    OrgId,
    Page,
    PageQuery,
    Wire,
    one_line,
    one_of,
    stripe_id,
    text,
)
from . import blueprint
from .mutations import mutate
from .schemas import PaymentSchema

REASONS = ("duplicate", "fraudulent", "requested_by_customer")
# The largest amount that Stripe takes has twelve digits.
LARGEST = 999_999_999_999


def refund_request_id(**kwargs: Any) -> fields.String:
    """The id that a refund is asked for by: printable ASCII without spaces."""
    printable = validate.Regexp(r"^[\x21-\x7e]+$")
    return fields.String(validate=[validate.Length(min=8, max=128), printable, one_line], **kwargs)


class RefundBody(NoteBody):
    charge_id = stripe_id("ch", "py", "pi", required=True)
    amount_cents = fields.Integer(
        strict=True,
        validate=validate.Range(min=1, max=LARGEST),
        metadata={"description": "minor units of the charge's currency; without it all that is left"},
    )
    reason = one_of(REASONS)
    refund_request_id = refund_request_id(
        required=True, metadata={"description": "one for each refund: the same id is always the same refund"}
    )


class RefundAskedSchema(Wire):
    charge_id = fields.String()
    amount_cents = fields.Integer(allow_none=True, metadata={"description": "null: all that was left"})
    reason = fields.String(allow_none=True)


class RefundRequestSchema(Wire):
    refund_request_id = fields.String()
    org_id = OrgId(attribute="organization")
    state = fields.String(
        allow_none=True, metadata={"description": ", ".join(STATES) + "; null: a dry run, there is none yet"}
    )
    charge_id = fields.String(attribute="charge")
    amount = fields.Integer(metadata={"description": "minor units"})
    currency = fields.String()
    reason = fields.String(allow_none=True)
    note = fields.String(allow_none=True)
    actor = fields.String()
    stripe_refund_id = fields.String(allow_none=True)
    stripe_status = fields.String(allow_none=True)
    failure_reason = fields.String(allow_none=True)
    error = fields.String(allow_none=True, metadata={"description": "why it was rejected or is unknown: a code"})
    created_at = Instant(allow_none=True)
    updated_at = Instant(allow_none=True)


class ListedRefundSchema(RefundRequestSchema):
    org_name = OrgName()
    asked = fields.Nested(RefundAskedSchema, metadata={"description": "what goes with the id whenever it is repeated"})


class RefundSchema(RefundRequestSchema):
    """The refund as it is now; of a dry run, what would be refunded."""

    changed = fields.List(FieldName())
    detail = fields.String(allow_none=True, metadata={"description": "what to do while nobody knows"})
    dry_run = fields.Boolean()
    amount_left = fields.Integer(metadata={"description": "of a dry run: what is left of the charge after it"})
    disputed = fields.Boolean(metadata={"description": "of a dry run: if so Stripe may refuse"})


class RefundsQuery(ExportQuery):
    state = one_of(STATES)
    org_id = OrgId()
    actor = text(most=200)
    charge_id = stripe_id("ch", "py")
    refund_request_id = refund_request_id()
    after = Instant(data_key="from")
    before = Instant(data_key="to")


class RefundPage(Page):
    items = fields.List(fields.Nested(ListedRefundSchema))


class ChargesQuery(PageQuery):
    org_id = OrgId(required=True)


class LiveRefundSchema(Wire):
    id = fields.String()
    amount = fields.Integer()
    currency = fields.String()
    status = fields.String(allow_none=True)
    reason = fields.String(allow_none=True)
    failure_reason = fields.String(allow_none=True)
    created = Instant()
    refund_request_id = fields.Function(lambda live: live.metadata.get(refunds.MARKER), metadata={"type": "string"})


class LiveDisputeSchema(Wire):
    id = fields.String()
    amount = fields.Integer()
    currency = fields.String()
    status = fields.String()
    reason = fields.String()
    created = Instant()


class ChargeSchema(PaymentSchema):
    payment_intent = fields.String(allow_none=True)
    customer = fields.String(allow_none=True)
    refunds = fields.List(fields.Nested(LiveRefundSchema), metadata={"description": "the newest ten"})
    disputes = fields.List(
        fields.Nested(LiveDisputeSchema),
        allow_none=True,
        metadata={"description": "null: there is one, but only those of a page's newest disputed charge are read"},
    )


class ChargePage(Page):
    total = fields.Integer(allow_none=True, metadata={"description": "null: Stripe does not count"})
    items = fields.List(fields.Nested(ChargeSchema))


@blueprint.post("/refund")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(RefundBody)
@blueprint.response(200, RefundSchema)
@blueprint.alt_response(202, schema=RefundSchema, description="nobody knows yet: repeat this id, take no new one")
@requires("refund:create")
def refund(headers: dict, query: dict, body: dict) -> Any:
    """Refund a charge, once for each refundRequestId."""
    wanted = refunds.Wanted(
        refund_request_id=body["refund_request_id"],
        charge_id=body["charge_id"],
        amount=body.get("amount_cents"),
        reason=body.get("reason"),
        note=body.get("note"),
    )
    limit = refund_limit(g.identity.roles, runtime.settings.max_refund_amounts)

    def foretell() -> Outcome:
        return refunds.foretell(wanted, actor=g.identity.actor, limit=limit, stripe=runtime.stripe)

    def work(running: Running) -> Outcome:
        return refunds.refund(wanted, limit=limit, stripe=runtime.stripe, running=running, clock=runtime.clock)

    return mutate(
        "refund", wanted.refund_request_id, headers | query, body, foretell=foretell, work=work, announces=True
    )


@blueprint.get("/refunds")
@blueprint.arguments(RefundsQuery, location="query")
@blueprint.response(200, RefundPage)
@blueprint.doc(**exported("one line for each refund request"))
@requires("audit:read")
def list_refunds(query: dict[str, Any]) -> Any:
    """List refund requests, newest first, or download them; state=unknown are those nobody knows of."""
    found = refunds.find_requests(query)
    if query["format"] == "csv":
        return as_csv(found, key="created_at", schema=ListedRefundSchema(), name="refunds")
    return named_page(page(found, key="created_at", limit=query["limit"], cursor=query.get("cursor")))


@blueprint.get("/charges")
@blueprint.arguments(ChargesQuery, location="query")
@blueprint.response(200, ChargePage)
@requires("customer:read")
def list_charges(query: dict[str, Any]) -> dict[str, Any]:
    """List what an organization paid, as Stripe shows it, with what is left to refund."""
    subscriptions.require_organization(query["org_id"])
    row = subscriptions.stored_row(query["org_id"])
    return refunds.list_charges(row, stripe=runtime.stripe, limit=query["limit"], cursor=query.get("cursor"))
