"""The plans, and plans set by hand: Stripe is not touched, and nothing that Stripe says undoes them."""

from datetime import datetime, timedelta
from typing import Any

from flask import g
from marshmallow import ValidationError, fields, validates_schema

from ... import subscriptions
from ...operations import Running
from ...runtime import runtime
from ..guard import requires
from ..wire import DryRunQuery, Instant, MutationHeaders, NoteBody, OrgId, Wire
from . import blueprint
from .mutations import mutate
from .schemas import SyncSchema

LONGEST = timedelta(days=3_660)


def _known_plan(value: str) -> None:
    known = [plan.id for plan in runtime.plans.plans]
    if value not in known:
        raise ValidationError(f"is no plan of the plan file; there are {', '.join(known)}")


def _ahead(value: datetime) -> None:
    if not timedelta() < value - runtime.clock() <= LONGEST:
        raise ValidationError("must lie ahead, by ten years at most")


class PlanSchema(Wire):
    id = fields.String()
    name = fields.String()
    weekly_quota = fields.Integer(metadata={"description": "units per ISO week"})
    prices = fields.List(fields.String(), metadata={"description": "the prices at Stripe that mean it"})


class PlansSchema(Wire):
    items = fields.List(fields.Nested(PlanSchema), metadata={"description": "in their rank, the lowest first"})


@blueprint.get("/plans")
@blueprint.arguments(Wire, location="query")
@blueprint.response(200, PlansSchema)
@requires("customer:read")
def list_plans(query: dict[str, Any]) -> dict[str, Any]:
    """List the plans of the plan file, the lowest first."""
    return {"items": runtime.plans.plans}


class BumpBody(NoteBody):
    org_id = OrgId(required=True)
    plan_id = fields.String(
        required=True, allow_none=True, validate=_known_plan, metadata={"description": "null lifts the override"}
    )
    until = Instant(
        validate=_ahead,
        metadata={"description": "when it ends by itself, ten years ahead at most; without it when it is lifted"},
    )

    @validates_schema
    def _lifted_at_once(self, body: dict[str, Any], **kwargs: Any) -> None:
        if body.get("plan_id", "") is None and "until" in body:
            raise ValidationError("does not go with planId null, which lifts the override now", "until")


@blueprint.patch("/plans/bump")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(BumpBody)
@blueprint.response(200, SyncSchema)
@requires("plan:override")
def bump(headers: dict, query: dict, body: dict) -> Any:
    """Set an organization's plan by hand, or lift what was set."""
    org_id = body["org_id"]
    asked: dict[str, Any] = {
        "until": body.get("until"),
        "note": body.get("note"),
        "actor": g.identity.actor,
        "plans": runtime.plans,
        "now": runtime.clock(),
    }

    def work(running: Running) -> Any:
        also = lambda change: running.complete(subscriptions.change_outcome(change))
        return subscriptions.change_outcome(subscriptions.bump(org_id, body["plan_id"], also=also, **asked))

    return mutate(
        "bump",
        org_id,
        headers | query,
        body,
        foretell=lambda: subscriptions.change_outcome(
            subscriptions.bump(org_id, body["plan_id"], dry_run=True, **asked)
        ),
        work=work,
    )
