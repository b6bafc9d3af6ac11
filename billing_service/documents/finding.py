"""What does not fit between Stripe and us, remembered until it is resolved."""

from mongoengine import DateTimeField, DictField, Document, IntField, ListField, ObjectIdField, StringField

OPEN_STATES = ("open", "acknowledged")


class Finding(Document):
    """One divergence; `fingerprint` (kind and ids) is unique while it is open or acknowledged."""

    fingerprint = StringField(required=True)
    kind = StringField(required=True)
    severity = StringField(required=True, choices=("critical", "high", "medium", "low", "info"))
    cause = StringField(required=True, default="unknown")
    organization = ObjectIdField()
    stripe_customer_id = StringField()
    stripe_subscription_ids = ListField(StringField())
    stored = DictField()
    live = DictField()
    first_seen_at = DateTimeField(required=True)
    last_seen_at = DateTimeField(required=True)
    times_seen = IntField(required=True, default=1)
    state = StringField(required=True, choices=("open", "acknowledged", "resolved"))
    acknowledged_until = DateTimeField()
    resolved_at = DateTimeField()
    resolved_by = StringField()
    expires_at = DateTimeField()

    meta = {
        "collection": "findings",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {
                "fields": ["fingerprint"],
                "name": "open_fingerprint",
                "unique": True,
                "partialFilterExpression": {"state": {"$in": list(OPEN_STATES)}},
            },
            {"fields": ["organization", "state", "-last_seen_at"], "name": "organization_state"},
            {"fields": ["state", "-last_seen_at"], "name": "state_newest"},
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
