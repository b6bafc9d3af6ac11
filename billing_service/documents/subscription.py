"""The thin copy of an organization's subscription: one row per organization."""

from typing import Any

from mongoengine import (
    BooleanField,
    DateTimeField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    LongField,
    ObjectIdField,
    StringField,
)

from .store import IS_TEXT, IS_TIME


class Override(EmbeddedDocument):
    """A plan set by an admin; it wins until `until` (None: until it is lifted)."""

    meta = {"strict": False}

    plan = StringField(required=True)
    note = StringField()
    actor = StringField()
    at = DateTimeField()
    until = DateTimeField()

    def describe(self) -> dict[str, Any]:
        """The override as plain values."""
        return {name: getattr(self, name) for name in ("plan", "note", "actor", "at", "until")}


class Candidate(EmbeddedDocument):
    """Another subscription seen for this organization that had not ended."""

    meta = {"strict": False}

    stripe_subscription_id = StringField(required=True)
    stripe_customer_id = StringField()

    def describe(self) -> dict[str, Any]:
        """The candidate as plain values."""
        return {"stripe_subscription_id": self.stripe_subscription_id, "stripe_customer_id": self.stripe_customer_id}


class Subscription(Document):
    """What we believe of the organization's subscription; `version` counts writes and guards each one."""

    organization = ObjectIdField(required=True)
    stripe_customer_id = StringField()
    stripe_subscription_id = StringField()
    stripe_created_at = DateTimeField()
    status = StringField()
    stripe_plan = StringField()
    override = EmbeddedDocumentField(Override)
    suspended_at = DateTimeField()
    plan = StringField(required=True)
    price_id = StringField()
    quantity = LongField()
    current_period_start = DateTimeField()
    current_period_end = DateTimeField()
    cancel_at_period_end = BooleanField()
    cancel_at = DateTimeField()
    past_due_since = DateTimeField()
    last_reset_at = DateTimeField()
    customer_deleted_at = DateTimeField()
    as_of = DateTimeField()
    # Stripe's clock when the snapshot had been read for sure; between the two it may have been read at any time.
    seen_until = DateTimeField()
    verify_at = DateTimeField()
    candidates = EmbeddedDocumentListField(Candidate)
    synced_at = DateTimeField()
    synced_from = StringField()
    version = IntField(required=True, default=0)

    meta = {
        "collection": "subscriptions",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["organization"], "name": "organization", "unique": True},
            {
                "fields": ["stripe_customer_id"],
                "name": "stripe_customer_id",
                "unique": True,
                "partialFilterExpression": {"stripe_customer_id": IS_TEXT},
            },
            {
                "fields": ["stripe_subscription_id"],
                "name": "stripe_subscription_id",
                "unique": True,
                "partialFilterExpression": {"stripe_subscription_id": IS_TEXT},
            },
            {"fields": ["stripe_created_at"], "name": "stripe_created_at"},
            # The id makes each place in it one row, where the scan can go on.
            {"fields": ["status", "last_reset_at", "id"], "name": "weekly_reset_due"},
            {"fields": ["status", "past_due_since", "suspended_at"], "name": "dunning"},
            {
                "fields": ["verify_at"],
                "name": "verify_at",
                "partialFilterExpression": {"verify_at": IS_TIME},
            },
            {
                "fields": ["candidates.stripe_customer_id"],
                "name": "candidate_customers",
                "partialFilterExpression": {"candidates.stripe_customer_id": IS_TEXT},
            },
            {
                "fields": ["candidates.stripe_subscription_id"],
                "name": "candidate_subscriptions",
                "partialFilterExpression": {"candidates.stripe_subscription_id": IS_TEXT},
            },
            {
                "fields": ["override.until"],
                "name": "override_until",
                "partialFilterExpression": {"override.until": IS_TIME},
            },
        ],
    }

    def describe(self) -> dict[str, Any]:
        """The row as plain values: the subscription object of answers and of the audit log."""
        plain = {name: getattr(self, name) for name in self._fields if name not in ("id", "override", "candidates")}
        plain["override"] = self.override.describe() if self.override else None
        plain["candidates"] = [each.describe() for each in self.candidates]
        return plain
