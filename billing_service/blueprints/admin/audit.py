"""The audit log: who did what, to whom, when and why."""

from typing import Any

from ...documents import AdminAction
from ..guard import requires
from ..paging import page
from . import blueprint
from .schemas import AuditPage, AuditQuery


@blueprint.get("/audit")
@blueprint.arguments(AuditQuery, location="query")
@blueprint.response(200, AuditPage)
@requires("audit:read")
def list_audit(query: dict[str, Any]) -> dict[str, Any]:
    """List admin actions, newest first."""
    names = {
        "org_id": "organization",
        "actor": "actor",
        "action": "action",
        "after": "at__gte",
        "before": "at__lt",
    }
    wanted = {field: query[name] for name, field in names.items() if name in query}
    return page(AdminAction.objects(**wanted), key="at", limit=query["limit"], cursor=query.get("cursor"))
