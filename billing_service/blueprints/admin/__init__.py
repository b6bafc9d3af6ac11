"""The admin toolkit: `/api/admin/billing`. Guard, audit and errors are the blueprint's, not each route's."""

from flask import Response, g

from ..guard import protect
from ..wire import ApiBlueprint

blueprint = ApiBlueprint(
    "admin",
    __name__,
    url_prefix="/api/admin/billing",
    description="Look at, repair and account for subscriptions",
)
protect(blueprint)


@blueprint.after_request
def mark_replayed(response: Response) -> Response:
    """Tell a stored answer from a fresh one."""
    if g.get("idempotency_replayed"):
        response.headers["Idempotency-Replayed"] = "true"
    return response


# Routes register themselves on the blueprint.
from . import (
    audit,
    customers,
    dead_letters,
    disputes,
    events,
    findings,
    overview,
    plans,
    reconciliations,
    refunds,
    replay_batches,
    replays,
    search,
    timelines,
    users,
)
