"""Is all well? What one looks at first, and what says where to look next."""

from typing import Any

from marshmallow import fields

from ... import __version__
from ... import overview as figures
from ...jobs.queues import describe_queues
from ...jobs.schedule import SCHEDULE, Row
from ...runtime import runtime
from ..guard import requires
from ..wire import Instant, Wire
from . import blueprint


class UnhandledSchema(Wire):
    event_id = fields.String()
    type = fields.String()
    state = fields.String()
    received_at = Instant()
    age = fields.Integer(metadata={"description": "seconds"})


class PausedSchema(Wire):
    type = fields.String(allow_none=True, metadata={"description": "null: all events"})
    since = Instant()
    by = fields.String()
    note = fields.String(allow_none=True)
    waiting = fields.Integer(metadata={"description": "counted up to 10,000"})


class EventFiguresSchema(Wire):
    oldest_unhandled = fields.Nested(UnhandledSchema, allow_none=True)
    dead_letters = fields.Integer(metadata={"description": "counted up to 10,000"})
    dead_letters_are_capped = fields.Boolean()
    newest_dead_at = Instant(allow_none=True)
    last_delivery_at = Instant(
        allow_none=True,
        metadata={"description": "of a webhook whose signature verified; null: none of the newest 1,000 events is one"},
    )
    paused = fields.List(fields.Nested(PausedSchema))


class HourSchema(Wire):
    """How many events that arrived in an hour are in which state now."""

    at = Instant()
    received = fields.Integer()
    processing = fields.Integer()
    failed = fields.Integer()
    succeeded = fields.Integer()
    dead = fields.Integer()
    closed = fields.Integer()


class HoursSchema(Wire):
    items = fields.List(fields.Nested(HourSchema), metadata={"description": "24 hours, the oldest first"})
    is_capped = fields.Boolean(metadata={"description": "there were more events than are counted (50,000 of an hour)"})


class RunSchema(Wire):
    slot = fields.String()
    state = fields.String()
    started_at = Instant(allow_none=True)
    finished_at = Instant(allow_none=True)
    error = fields.String(allow_none=True)


class JobSchema(Wire):
    job = fields.String()
    next_at = Instant()
    last = fields.Nested(RunSchema, allow_none=True)


class StripeFiguresSchema(Wire):
    mode = fields.String(metadata={"description": "live, test, or none without a key"})
    account = fields.String(allow_none=True)
    circuit = fields.String(metadata={"description": "closed, open or half_open, of the process that answers"})


class QueueSchema(Wire):
    name = fields.String()
    waiting = fields.Integer()


class QueuesSchema(Wire):
    queues = fields.List(fields.Nested(QueueSchema))
    workers = fields.Integer()


class SeveritiesSchema(Wire):
    critical = fields.Integer()
    high = fields.Integer()
    medium = fields.Integer()
    low = fields.Integer()
    info = fields.Integer()


class OverviewSchema(Wire):
    at = Instant()
    version = fields.String()
    plans = fields.String(metadata={"description": "the hash of the plan file"})
    stripe = fields.Nested(StripeFiguresSchema)
    events = fields.Nested(EventFiguresSchema)
    hours = fields.Nested(HoursSchema)
    open_findings = fields.Nested(SeveritiesSchema)
    unknown_operations = fields.Integer(metadata={"description": "asked of Stripe and not seen yet"})
    unknown_refunds = fields.Integer(metadata={"description": "nobody knows whether Stripe made them"})
    jobs = fields.List(fields.Nested(JobSchema))
    redis = fields.Nested(QueuesSchema, allow_none=True, metadata={"description": "null: Redis does not answer"})


@blueprint.get("/overview")
@blueprint.arguments(Wire, location="query")
@blueprint.response(200, OverviewSchema)
@requires("customer:read")
def overview(query: dict[str, Any]) -> dict[str, Any]:
    """Show in a few figures whether all is well."""
    now = runtime.clock()
    return {
        "at": now,
        "version": __version__,
        "plans": runtime.plans.sha256,
        "stripe": _stripe(),
        "events": figures.describe_events(now),
        "hours": figures.count_by_hour(now),
        "open_findings": figures.count_findings(),
        "unknown_operations": figures.count_unknown(),
        "unknown_refunds": figures.count_unknown_refunds(),
        "jobs": [_job(row) for row in SCHEDULE],
        "redis": describe_queues(),
    }


def _stripe() -> dict[str, Any]:
    settings = runtime.settings
    mode = "none" if not settings.stripe_secret_key else "live" if settings.livemode else "test"
    return {"mode": mode, "account": figures.account(), "circuit": runtime.stripe.circuit.state}


def _job(row: Row) -> dict[str, Any]:
    return {"job": row.job, "next_at": row.next_slot(runtime.clock()), "last": figures.last_run(row.job)}
