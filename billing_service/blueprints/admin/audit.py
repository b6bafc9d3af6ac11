"""The audit log: who did what, to whom, when and why."""

from typing import Any

from ...documents import EPOCH, AdminAction
from ..export import as_csv, exported
from ..guard import requires
from ..naming import named_page
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
        "target": "target",
        "outcome": "outcome",
        "request_id": "request_id",
        "after": "at__gte",
        "before": "at__lt",
    }
    # The bound makes the index of the order count, too, when nothing else is asked.
    wanted = {"at__gte": EPOCH} | {field: query[name] for name, field in names.items() if name in query}
    found = AdminAction.objects(**wanted)
    if query["format"] == "csv":
        return as_csv(found, key="at", schema=AdminActionSchema(), name="audit")
    return named_page(page(found, key="at", limit=query["limit"], cursor=query.get("cursor")))
