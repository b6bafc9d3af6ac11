"""The audit log: who did what, to whom, when and why."""

from typing import Any

from ...documents import AdminAction
from ..export import as_csv, exported
from ..guard import requires
from ..paging import page
from . import blueprint
from .schemas import AdminActionSchema, AuditPage, AuditQuery


@blueprint.get("/audit")
@blueprint.arguments(AuditQuery, location="query")
@blueprint.response(200, AuditPage)
@blueprint.doc(**exported("one line for each action, its nested values as JSON"))
@requires("audit:read")
def list_audit(query: dict[str, Any]) -> Any:
    """List admin actions, newest first, or download them."""
    names = {
        "org_id": "organization",
        "actor": "actor",
        "action": "action",
        "after": "at__gte",
        "before": "at__lt",
    }
    wanted = {field: query[name] for name, field in names.items() if name in query}
    found = AdminAction.objects(**wanted)
    if query["format"] == "csv":
        return as_csv(found, key="at", schema=AdminActionSchema(), name="audit")
    return page(found, key="at", limit=query["limit"], cursor=query.get("cursor"))
