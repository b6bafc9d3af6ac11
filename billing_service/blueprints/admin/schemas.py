"""The shapes of the admin toolkit's customers, subscriptions and audit rows."""

from typing import Any

from marshmallow import fields

from ...documents.admin_action import OUTCOMES
from ..export import ExportQuery
from ..naming import OrgName
from ..wire import FieldName, Instant, NoteBody, OrgId, Page, Wire, one_of, stripe_id, text


class OverrideSchema(Wire):
    plan = fields.String()
    note = fields.String(allow_none=True)
    actor = fields.String(allow_none=True)
    at = Instant(allow_none=True)
    until = Instant(allow_none=True)


class CandidateSchema(Wire):
    stripe_subscription_id = fields.String()
    stripe_customer_id = fields.String(allow_none=True)


class SubscriptionSchema(Wire):
    """The subscription object: every field of the stored row."""

    org_id = OrgId(attribute="organization")
    stripe_customer_id = fields.String(allow_none=True)
    stripe_subscription_id = fields.String(allow_none=True)
    stripe_created_at = Instant(allow_none=True)
    status = fields.String(allow_none=True)
    stripe_plan = fields.String(allow_none=True)
    override = fields.Nested(OverrideSchema, allow_none=True)
    suspended_at = Instant(allow_none=True)
    plan = fields.String()
    price_id = fields.String(allow_none=True)
    quantity = fields.Integer(allow_none=True)
    current_period_start = Instant(allow_none=True)
    current_period_end = Instant(allow_none=True)
    cancel_at_period_end = fields.Boolean(allow_none=True)
    cancel_at = Instant(allow_none=True)
    past_due_since = Instant(allow_none=True)
    last_reset_at = Instant(allow_none=True)
    customer_deleted_at = Instant(allow_none=True)
    as_of = Instant(allow_none=True)
    seen_until = Instant(allow_none=True)
    verify_at = Instant(allow_none=True)
    candidates = fields.List(fields.Nested(CandidateSchema))
    synced_at = Instant(allow_none=True)
    synced_from = fields.String(allow_none=True)
    version = fields.Integer()


class OrganizationSchema(Wire):
    id = OrgId()
    name = fields.String(allow_none=True)
    slug = fields.String(allow_none=True)
    plan = fields.String(allow_none=True)
    created_at = Instant(allow_none=True)


class LiveCustomerSchema(Wire):
    id = fields.String()
    email = fields.String(allow_none=True)
    name = fields.String(allow_none=True)
    deleted = fields.Boolean()
    delinquent = fields.Boolean(allow_none=True)
    balance = fields.Integer(allow_none=True, metadata={"description": "minor units; negative: credit"})
    currency = fields.String(allow_none=True)


class LiveSubscriptionSchema(Wire):
    id = fields.String()
    customer = fields.String()
    status = fields.String()
    plan = fields.String(allow_none=True)
    price_id = fields.String(allow_none=True)
    quantity = fields.Integer(allow_none=True)
    unit_amount = fields.Integer(allow_none=True)
    currency = fields.String(allow_none=True)
    interval = fields.String(allow_none=True)
    created = Instant()
    current_period_start = Instant(allow_none=True)
    current_period_end = Instant(allow_none=True)
    cancel_at_period_end = fields.Boolean()
    cancel_at = Instant(allow_none=True)
    canceled_at = Instant(allow_none=True)
    ended_at = Instant(allow_none=True)
    schedule = fields.String(allow_none=True)


class PaymentSchema(Wire):
    id = fields.String()
    amount = fields.Integer()
    amount_refunded = fields.Integer()
    amount_refundable = fields.Integer()
    currency = fields.String()
    status = fields.String()
    created = Instant()
    disputed = fields.Boolean()
    refunded = fields.Boolean()
    failure_code = fields.String(allow_none=True)
    failure_message = fields.String(allow_none=True)


class LiveSchema(Wire):
    customer = fields.Nested(LiveCustomerSchema, allow_none=True)
    subscriptions = fields.List(fields.Nested(LiveSubscriptionSchema))
    payments = fields.List(fields.Nested(PaymentSchema))


class DifferenceSchema(Wire):
    field = FieldName()
    stored = fields.Raw(allow_none=True)
    live = fields.Raw(allow_none=True)
    severity = fields.String()


class ActionSchema(Wire):
    name = fields.String()
    permission = fields.String()
    allowed = fields.Boolean()
    reason = fields.String(allow_none=True)


class EventSchema(Wire):
    event_id = fields.String()
    type = fields.String()
    created = Instant()
    received_at = Instant()
    state = fields.String()
    outcome = fields.String(allow_none=True)
    reason = fields.String(allow_none=True)
    attempts = fields.Integer()


class MoneySchema(Wire):
    currency = fields.String()
    amount = fields.Integer(metadata={"description": "minor units, a month"})


class FindingSchema(Wire):
    id = fields.String()
    kind = fields.String()
    severity = fields.String()
    cause = fields.String()
    state = fields.String()
    org_id = OrgId(attribute="organization", allow_none=True)
    org_name = OrgName()
    stripe_customer_id = fields.String(allow_none=True)
    stripe_subscription_ids = fields.List(fields.String())
    stored = fields.Dict(keys=FieldName(), values=fields.Raw(allow_none=True))
    live = fields.Dict(keys=FieldName(), values=fields.Raw(allow_none=True))
    money_at_risk = fields.List(
        fields.Nested(MoneySchema), metadata={"description": "billed and not granted, or granted and not billed"}
    )
    reconciliation_id = fields.String(
        attribute="run", allow_none=True, metadata={"description": "the last run that saw it; null: a webhook noted it"}
    )
    first_seen_at = Instant()
    last_seen_at = Instant()
    times_seen = fields.Integer()
    acknowledged_until = Instant(allow_none=True)
    acknowledged_at = Instant(allow_none=True)
    acknowledged_by = fields.String(allow_none=True)
    acknowledged_note = fields.String(allow_none=True)
    resolved_at = Instant(allow_none=True)
    resolved_by = fields.String(allow_none=True)


class UserSchema(Wire):
    id = fields.String(allow_none=True, metadata={"description": "null where it is not made yet: a dry run"})
    email = fields.String()
    roles = fields.List(fields.String())
    disabled = fields.Boolean()
    created_at = Instant()
    changed_at = Instant()


class Described(fields.Nested):
    """What an action was about, before or after it: a subscription object, or that of an admin user."""

    def _serialize(self, nested_obj: Any, attr: Any, obj: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        if isinstance(nested_obj, dict) and "email" in nested_obj:
            return UserSchema().dump(nested_obj)
        return super()._serialize(nested_obj, attr, obj, **kwargs)


class ActionSummarySchema(Wire):
    id = fields.String()
    operation_id = fields.String(attribute="operation")
    phase = fields.String()
    at = Instant()
    actor = fields.String()
    role = fields.String(allow_none=True)
    action = fields.String()
    target = fields.String()
    org_id = OrgId(attribute="organization", allow_none=True)
    org_name = OrgName()
    note = fields.String(allow_none=True)
    request_id = fields.String(allow_none=True)
    outcome = fields.String()
    parameters = fields.Dict(keys=FieldName(), allow_none=True)
    error = fields.String(allow_none=True)


class AdminActionSchema(ActionSummarySchema):
    """An action with what it was about, before and after it."""

    before = Described(SubscriptionSchema, allow_none=True)
    after = Described(SubscriptionSchema, allow_none=True)


class CustomerSchema(Wire):
    """Both truths of one organization, with the verdict and what can be done."""

    organization = fields.Nested(OrganizationSchema)
    stored = fields.Nested(SubscriptionSchema, allow_none=True)
    live = fields.Nested(LiveSchema, allow_none=True)
    differences = fields.List(fields.Nested(DifferenceSchema))
    verdict = fields.String()
    explanation = fields.String()
    actions = fields.List(fields.Nested(ActionSchema))
    recent_events = fields.List(fields.Nested(EventSchema))
    open_findings = fields.List(fields.Nested(FindingSchema))
    audit = fields.List(fields.Nested(AdminActionSchema))


class ChangeSchema(Wire):
    previous = fields.Nested(SubscriptionSchema, allow_none=True)
    updated = fields.Nested(SubscriptionSchema)
    changed = fields.List(FieldName())
    dry_run = fields.Boolean()


class SyncSchema(ChangeSchema):
    status = fields.String(allow_none=True)
    plan = fields.String()


class LinkBody(NoteBody):
    stripe_subscription_id = stripe_id("sub", required=True)


class CancelBody(NoteBody):
    mode = one_of(("now", "period_end"), load_default="now")
    stripe_subscription_id = stripe_id("sub")
    prorate = fields.Boolean(load_default=False)
    invoice_now = fields.Boolean(load_default=False)


class CancelSchema(ChangeSchema):
    stripe_subscription_id = fields.String(allow_none=True)
    stripe_status = fields.String(allow_none=True)
    verified = fields.Boolean()


class AuditQuery(ExportQuery):
    org_id = OrgId()
    actor = text(most=200)
    action = text(most=50)
    target = text(
        most=300, metadata={"description": "an organization's, an event's, a user's id, or what else was acted on"}
    )
    outcome = one_of(OUTCOMES)
    request_id = text(most=200)
    after = Instant(data_key="from")
    before = Instant(data_key="to")


class AuditPage(Page):
    items = fields.List(fields.Nested(AdminActionSchema))
