"""Refunds that admins asked for: one row per refundRequestId, stored before Stripe is asked."""

from mongoengine import DateTimeField, DictField, Document, IntField, LongField, ObjectIdField, StringField

from .store import IS_TEXT, IS_TIME

STATES = ("pending", "accepted", "succeeded", "failed", "rejected", "unknown")


class RefundRequest(Document):
    """A refund. `asked` is what the admin named, `parameters` what Stripe is sent, the same each time.

    pending: being sent under a lease; accepted: Stripe has made it and it is under way; rejected: certainly not made;
    unknown: nobody knows. From `next_check_at` on the sweep looks after it. `sent_at` begins the time for which Stripe
    keeps the key; `operation` is the admin's operation that had it sent. Rows are kept: they prove who refunded whom.
    """

    refund_request_id = StringField(required=True)
    organization = ObjectIdField(required=True)
    asked = DictField(required=True)
    parameters = DictField(required=True)
    charge = StringField(required=True)
    amount = LongField(required=True)
    currency = StringField(required=True)
    reason = StringField()
    note = StringField()
    actor = StringField(required=True)
    state = StringField(required=True, choices=STATES)
    stripe_refund_id = StringField()
    stripe_status = StringField()
    failure_reason = StringField()
    error = StringField()
    operation = ObjectIdField(required=True)
    attempt = IntField(required=True, default=1)
    lease_until = DateTimeField(required=True)
    created_at = DateTimeField(required=True)
    updated_at = DateTimeField(required=True)
    sent_at = DateTimeField(required=True)
    next_check_at = DateTimeField()
    unresolved_at = DateTimeField()

    meta = {
        "collection": "refund_requests",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["refund_request_id"], "name": "refund_request_id", "unique": True},
            {
                "fields": ["stripe_refund_id"],
                "name": "stripe_refund_id",
                "partialFilterExpression": {"stripe_refund_id": IS_TEXT},
            },
            {
                "fields": ["next_check_at"],
                "name": "next_check_at",
                "partialFilterExpression": {"next_check_at": IS_TIME},
            },
            {"fields": ["-created_at", "-id"], "name": "newest"},
            {"fields": ["state", "-created_at", "-id"], "name": "state_newest"},
            {"fields": ["organization", "-created_at", "-id"], "name": "organization_newest"},
            {"fields": ["actor", "-created_at", "-id"], "name": "actor_newest"},
            {"fields": ["charge", "-created_at", "-id"], "name": "charge_newest"},
        ],
    }

    @property
    def idempotency_key(self) -> str:
        """What makes of repeated requests one refund at Stripe, for 24 hours."""
        return f"refund_admin_{self.refund_request_id}"
