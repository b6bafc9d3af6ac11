"""What the SaaS's own backend tells us: its organizations."""

from typing import Any

from bson import ObjectId
from marshmallow import fields

from ..documents import Organization
from ..errors import Conflict
from ..jobs import wakeups
from ..runtime import runtime
from ..webhooks import wake_organization
from .admin.schemas import OrganizationSchema
from .guard import protect, requires
from .wire import ApiBlueprint, Wire, text

blueprint = ApiBlueprint("organizations", __name__, url_prefix="/api/billing", description="The SaaS's own backend")
protect(blueprint)


class OrganizationBody(Wire):
    name = text(most=200, required=True)
    slug = text(most=100, required=True)


class ToldSchema(OrganizationSchema):
    woken_events = fields.Integer(metadata={"description": "waiting webhook events that this made due"})


@blueprint.put("/organizations/<org_id:orgId>")
@blueprint.arguments(Wire, location="query")
@blueprint.arguments(OrganizationBody)
@blueprint.response(200, ToldSchema)
@requires("organizations:write")
def put_organization(query: dict, body: dict, org_id: ObjectId) -> dict[str, Any]:
    """Tell of an organization; twice is once."""
    Organization.objects(id=org_id).update_one(
        upsert=True,
        set__name=body["name"],
        set__slug=body["slug"],
        set_on_insert__plan=runtime.plans.free,
        set_on_insert__created_at=runtime.clock(),
    )
    organization = Organization.objects(id=org_id).first()
    if organization is None:
        raise Conflict("The organization was removed while it was written. Try again.")
    woken = wake_organization(org_id)
    if woken:
        wakeups.wake()
    names = ("id", "name", "slug", "plan", "created_at")
    return {name: getattr(organization, name) for name in names} | {"woken_events": woken}
