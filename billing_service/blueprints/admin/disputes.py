"""Disputes that were won: the extras that they had taken are given back."""

from typing import Any

from bson import ObjectId
from flask import g
from marshmallow import fields, validate

from ... import extras
from ...operations import Outcome, Running
from ...runtime import runtime
from ..guard import requires
from ..wire import DryRunQuery, FieldName, MutationHeaders, NoteBody, OrgId, Wire, stripe_id
from . import blueprint
from .mutations import mutate
from .refunds import LARGEST, refund_request_id


class CreditBody(NoteBody):
    charge_id = stripe_id("ch", "py", required=True)
    amount_cents = fields.Integer(
        required=True,
        strict=True,
        validate=validate.Range(min=1, max=LARGEST),
        metadata={"description": "minor units of the dispute's currency; the units follow from it, rounded down"},
    )
    refund_request_id = refund_request_id(
        required=True, metadata={"description": "one for each credit: the same id is always the same credit"}
    )
    dispute_id = stripe_id(
        "dp", "du", "pdp", metadata={"description": "needed only if several disputes of the charge were won"}
    )


class BalanceSchema(Wire):
    units = fields.Integer(metadata={"description": "negative: owed"})


class CreditSchema(Wire):
    """The credit as it is in the ledger, and the balance of extras before and now."""

    org_id = OrgId(attribute="organization")
    dispute_id = fields.String()
    charge_id = fields.String()
    refund_request_id = fields.String(metadata={"description": "the id that the credit was made by"})
    amount_cents = fields.Integer()
    currency = fields.String(allow_none=True)
    units = fields.Integer()
    applied = fields.Boolean(metadata={"description": "false: it was credited before, and nothing was done"})
    previous = fields.Nested(BalanceSchema)
    updated = fields.Nested(BalanceSchema)
    changed = fields.List(FieldName())
    dry_run = fields.Boolean()


@blueprint.post("/dispute/credit/<org_id:orgId>")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(CreditBody)
@blueprint.response(200, CreditSchema)
@requires("dispute:credit")
def credit_dispute(headers: dict, query: dict, body: dict, org_id: ObjectId) -> Any:
    """Give the extras of a won dispute back, once for each dispute."""
    wanted = extras.Wanted(
        charge_id=body["charge_id"],
        amount=body["amount_cents"],
        refund_request_id=body["refund_request_id"],
        dispute_id=body.get("dispute_id"),
    )
    asked: dict[str, Any] = {"stripe": runtime.stripe, "now": runtime.clock()}

    def work(running: Running) -> Outcome:
        told = {"actor": g.identity.actor, "note": body.get("note")}

        def record(outcome: Outcome) -> None:
            running.tell(**{name: outcome.answer[name] for name in ("dispute_id", "units", "previous", "updated")})
            running.complete(outcome)

        return extras.credit_dispute(org_id, wanted, also=record, **told, **asked)

    return mutate(
        "dispute_credit",
        org_id,
        headers | query,
        body,
        foretell=lambda: extras.foretell_credit(org_id, wanted, **asked),
        work=work,
    )
