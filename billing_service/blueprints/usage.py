"""What the SaaS's own backend asks all day: usage is recorded, and what an organization may do is answered."""

from datetime import timedelta
from typing import Any

from bson import ObjectId
from marshmallow import ValidationError, fields, validate, validates_schema

from .. import usage
from ..runtime import runtime
from .guard import protect, requires
from .wire import ApiBlueprint, Instant, OrgId, Wire, one_line, one_of, text

blueprint = ApiBlueprint("usage", __name__, url_prefix="/api/billing", description="The SaaS's own backend")
protect(blueprint)

MOST_UNITS = 10**9
MOST_PARTS = 20


def count_of_units(**kwargs: Any) -> fields.Integer:
    return fields.Integer(strict=True, validate=validate.Range(min=1, max=MOST_UNITS), **kwargs)


class UsageBody(Wire):
    org_id = OrgId(required=True)
    key = text(
        most=200,
        required=True,
        metadata={"description": "of this usage and no other of the organization; repeat it when no answer came"},
    )
    units = count_of_units(required=True)
    breakdown = fields.Dict(
        keys=fields.String(validate=[validate.Regexp(r"^[A-Za-z][A-Za-z0-9_-]{0,39}$"), one_line]),
        values=count_of_units(),
        load_default=dict,
        validate=validate.Length(max=MOST_PARTS),
        metadata={
            "description": "parts of the units by name (letters, digits, _ and -), such as features; at most `units`"
        },
    )

    @validates_schema
    def parts_are_not_more(self, data: dict, **kwargs: Any) -> None:
        if sum(data["breakdown"].values()) > data["units"]:
            raise ValidationError("the parts are more than the units", "breakdown")


class RecordedSchema(Wire):
    """Usage as it was recorded, and what was left then; the same key always gets the same answer."""

    org_id = OrgId(attribute="organization")
    key = fields.String()
    units = fields.Integer()
    within_quota = fields.Integer(attribute="within", metadata={"description": "units that the week's quota covers"})
    from_extras = fields.Integer(metadata={"description": "units beyond it, debited from prepaid extras"})
    week = fields.String(metadata={"description": "the ISO week in UTC that it counts on, as in 2026-W53"})
    quota = fields.Integer(allow_none=True, metadata={"description": "of the week; null: the plan is unknown"})
    used = fields.Integer(metadata={"description": "of the quota"})
    left = fields.Integer(allow_none=True, metadata={"description": "of the quota"})
    extras = fields.Integer(metadata={"description": "prepaid units; negative: owed"})
    recorded_at = Instant(attribute="at")


class EntitlementSchema(Wire):
    """What an organization may do now."""

    org_id = OrgId(attribute="organization")
    allowed = fields.Boolean()
    code = one_of(
        usage.CODES,
        metadata={"description": ". ".join(f"`{code}`: {words}" for code, words in usage.CODES.items())},
    )
    plan = fields.String(allow_none=True, metadata={"description": "the plan in force"})
    status = fields.String(allow_none=True, metadata={"description": "Stripe's word; null: never billed"})
    quota = fields.Integer(allow_none=True, metadata={"description": "units of this week; null: the plan is unknown"})
    used = fields.Integer(metadata={"description": "of the quota"})
    left = fields.Integer(allow_none=True, metadata={"description": "of the quota"})
    extras = fields.Integer(metadata={"description": "prepaid units; negative: owed"})
    week = fields.String(metadata={"description": "the ISO week in UTC, as in 2026-W53"})
    week_until = Instant(metadata={"description": "when the next week begins, with a quota of its own"})
    grace_until = Instant(allow_none=True, metadata={"description": "until when an overdue payment is tolerated"})


@blueprint.post("/usage")
@blueprint.arguments(Wire, location="query")
@blueprint.arguments(UsageBody)
@blueprint.response(200, RecordedSchema)
@requires("usage:write")
def record_usage(query: dict, body: dict) -> dict[str, Any]:
    """Record usage once for its key: within the week's quota, then from extras; never refused for want of either.

    The same key and body get the same answer for 35 days; other units or another breakdown are 409
    `usage_mismatch`.
    """
    found = usage.record(
        body["org_id"],
        body["key"],
        body["units"],
        body["breakdown"],
        plans=runtime.plans,
        now=runtime.clock(),
        metered=runtime.settings.meter_mode,
    )
    names = ("organization", "key", "units", "within", "week", "quota", "used", "extras", "at")
    left = None if found.quota is None else max(0, found.quota - found.used)
    return {name: found[name] for name in names} | {"from_extras": found.units - found.within, "left": left}


@blueprint.get("/entitlements/<org_id:orgId>")
@blueprint.arguments(Wire, location="query")
@blueprint.response(200, EntitlementSchema)
@requires("usage:read")
def show_entitlements(query: dict, org_id: ObjectId) -> usage.Entitlement:
    """Say what an organization may do now, and why not; always 200, also for one that nobody has told of."""
    grace = timedelta(days=runtime.settings.grace_days)
    metered = runtime.settings.meter_mode
    return usage.entitlement_of(org_id, plans=runtime.plans, now=runtime.clock(), grace=grace, metered=metered)
