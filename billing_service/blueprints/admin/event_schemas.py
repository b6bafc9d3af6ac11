"""The shapes of webhook events and dead letters, as endpoints and command line show them."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from ...documents.webhook_event import SOURCES, STATES
from ...runtime import runtime
from ...webhooks import groups, masking, reading
from ..naming import OrgName
from ..wire import DryRunQuery, FieldName, Instant, OrgId, Page, PageQuery, Wire, one_of, text
from .schemas import EventSchema

FARTHEST_PAGE = 100_000


class Words(fields.String):
    """An error's words, which may quote a payload: without secrets and addresses."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return masking.words(value)


class Age(fields.Integer):
    """Seconds since a time."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> int:
        return reading.age_seconds(value, runtime.clock())


class AtStripe(fields.Boolean):
    """Whether Stripe still has what it created at a time."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> bool:
        return reading.is_at_stripe(value, runtime.clock())


class LastError(fields.Nested):
    """The newest error of a history."""

    def _serialize(self, *args: Any, **kwargs: Any) -> Any:
        history, *rest = args
        return super()._serialize(reading.last_error(history), *rest, **kwargs)


class ErrorSchema(Wire):
    at = Instant()
    error_class = fields.String()
    message = Words(attribute="error_message", allow_none=True)


class AttemptSchema(Wire):
    at = Instant()
    source = fields.String(allow_none=True)
    actor = fields.String(allow_none=True)
    code_version = fields.String(allow_none=True)
    milliseconds = fields.Integer(allow_none=True)
    job_id = fields.String(allow_none=True, metadata={"description": "of a replay"})
    outcome = fields.String(allow_none=True)
    error_class = fields.String(allow_none=True)
    error_message = Words(allow_none=True)


class AskedReplaySchema(Wire):
    job_id = fields.String()
    actor = fields.String(allow_none=True)
    asked_at = Instant(allow_none=True)


class ClosedSchema(Wire):
    by = fields.String()
    at = Instant()
    note = fields.String(allow_none=True)


class ListedEventSchema(EventSchema):
    """An event in a list; never its payload."""

    source = fields.String()
    org_id = OrgId(attribute="organization", allow_none=True)
    org_name = OrgName()
    stripe_customer_id = fields.String(allow_none=True)
    stripe_subscription_id = fields.String(allow_none=True)
    next_attempt_at = Instant(allow_none=True)
    dead_at = Instant(allow_none=True)
    last_error = LastError(ErrorSchema, attribute="history", dump_only=True, allow_none=True)


class EventDetailSchema(ListedEventSchema):
    """All that is stored of an event."""

    api_version = fields.String(allow_none=True)
    livemode = fields.Boolean(allow_none=True)
    at_stripe = AtStripe(
        attribute="created", dump_only=True, metadata={"description": "by age: Stripe keeps events for 30 days"}
    )
    fingerprint = fields.String(allow_none=True)
    dead_version = fields.String(allow_none=True, metadata={"description": "code of the attempt that it died of"})
    history = fields.List(fields.Nested(AttemptSchema), metadata={"description": "the last 20 attempts"})
    lease_until = Instant(allow_none=True)
    lease_losses = fields.Integer(allow_none=True)
    deferrals = fields.Integer(allow_none=True, metadata={"description": "waits for an outage; they use no attempt"})
    deferred_since = Instant(allow_none=True)
    replay = fields.Nested(
        AskedReplaySchema, allow_none=True, metadata={"description": "asked for, not yet at its end"}
    )
    replays = fields.Integer(allow_none=True, metadata={"description": "how many were asked for"})
    secret_index = fields.Integer(allow_none=True, metadata={"description": "which webhook secret verified it"})
    closed = fields.Nested(ClosedSchema, allow_none=True)
    expires_at = Instant(allow_none=True)
    erased_at = Instant(allow_none=True, metadata={"description": "personal data were erased from the payload"})
    payload_masked = fields.Boolean(metadata={"description": "personal data are masked; payload:read shows them"})
    payload = fields.Raw(allow_none=True, metadata={"description": "as Stripe sent it; null: it was erased"})


class EventsQuery(PageQuery):
    state = one_of(STATES)
    type = text(most=200)
    org_id = OrgId()
    source = one_of(SOURCES)
    since = Instant(data_key="from", metadata={"description": "received at this time or later"})
    until = Instant(data_key="to", metadata={"description": "received before this time"})


class EventsPage(Page):
    items = fields.List(fields.Nested(ListedEventSchema))


class DeadLetterSchema(Wire):
    event_id = fields.String()
    type = fields.String()
    created = Instant()
    age = Age(attribute="created", dump_only=True, metadata={"description": "seconds since Stripe created it"})
    attempts = fields.Integer()
    last_error = LastError(ErrorSchema, attribute="history", dump_only=True, allow_none=True)
    org_id = OrgId(attribute="organization", allow_none=True)
    org_name = OrgName()
    reason = fields.String(allow_none=True)
    fingerprint = fields.String(allow_none=True)
    dead_at = Instant()
    at_stripe = AtStripe(
        attribute="created", dump_only=True, metadata={"description": "by age: Stripe keeps events for 30 days"}
    )


class DeadLettersFilter(Wire):
    type = text(most=200)
    fingerprint = text(most=200)
    org_id = OrgId()
    reason = text(most=100)
    since = Instant(data_key="from", metadata={"description": "dead at this time or later"})
    until = Instant(data_key="to", metadata={"description": "dead before this time"})


class DeadLettersQuery(PageQuery, DeadLettersFilter):
    page = fields.Integer(
        validate=validate.Range(min=1, max=FARTHEST_PAGE),
        metadata={"description": "instead of a cursor; the first is 1"},
    )

    @validates_schema
    def _one_way(self, query: dict[str, Any], **kwargs: Any) -> None:
        if "page" in query and "cursor" in query:
            raise ValidationError("use page or cursor, not both", "page")


class DeadLettersPage(Page):
    items = fields.List(fields.Nested(DeadLetterSchema))
    page = fields.Integer(allow_none=True, metadata={"description": "null when a cursor was used"})


class GroupsQuery(DeadLettersFilter):
    sort = one_of(groups.ORDERS, load_default="count", metadata={"description": "the largest first, or the newest"})
    limit = fields.Integer(load_default=20, validate=validate.Range(min=1, max=100))


class GroupSchema(Wire):
    """Dead letters of one type whose last errors differ in ids and numbers only."""

    fingerprint = fields.String(allow_none=True)
    type = fields.String()
    count = fields.Integer()
    first_at = Instant(metadata={"description": "when the first of them died"})
    last_at = Instant(metadata={"description": "when the last of them died"})
    sample_event_id = fields.String(allow_none=True, metadata={"description": "the one that died last"})
    reasons = fields.List(fields.String())
    code_versions = fields.List(fields.String(), metadata={"description": "that made their last attempts"})


class GroupsSchema(Wire):
    items = fields.List(fields.Nested(GroupSchema))
    total = fields.Integer(metadata={"description": "of groups"})
    letters = fields.Integer(metadata={"description": "dead letters in all groups"})
    is_capped = fields.Boolean(metadata={"description": "only the first 500,000 dead letters were counted"})
    limit = fields.Integer()


class CloseQuery(DryRunQuery):
    note = text(most=1000, metadata={"description": "why; kept with the event and in the audit log"})


class ClosedDeadLetterSchema(Wire):
    purged = fields.Boolean()
    event_id = fields.String()
    state = fields.String()
    closed = fields.Nested(ClosedSchema, allow_none=True, metadata={"description": "by whom; of the first closing"})
    expires_at = Instant(allow_none=True, metadata={"description": "until then the payload is kept"})
    changed = fields.List(FieldName())
    dry_run = fields.Boolean()
