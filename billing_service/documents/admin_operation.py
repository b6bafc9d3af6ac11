"""One record per admin mutation: the memory behind Idempotency-Key and behind what is still unknown."""

from mongoengine import BooleanField, DateTimeField, DictField, Document, IntField, StringField

from .store import IS_TEXT


class AdminOperation(Document):
    """A mutation an admin asked for. `state` unknown means: the effect at Stripe could not be seen yet."""

    kind = StringField(required=True)
    target = StringField(required=True)
    actor = StringField(required=True)
    route = StringField(required=True)
    idempotency_key = StringField()
    body_hash = StringField(required=True)
    parameters = DictField()
    state = StringField(required=True, choices=("started", "done", "failed", "unknown"))
    attempt = IntField(required=True, default=1)
    lease_until = DateTimeField(required=True)
    answer_status = IntField()
    answer = DictField()
    # The answer must be given again as it was; without it the next call with the key resumes the operation.
    stored = BooleanField(required=True, default=False)
    created_at = DateTimeField(required=True)
    first_unknown_at = DateTimeField()
    next_check_at = DateTimeField()
    expires_at = DateTimeField()

    meta = {
        "collection": "admin_operations",
        "auto_create_index": False,
        "indexes": [
            {
                "fields": ["actor", "route", "idempotency_key"],
                "name": "idempotency_key",
                "unique": True,
                "partialFilterExpression": {"idempotency_key": IS_TEXT},
            },
            {
                "fields": ["next_check_at"],
                "name": "unknown",
                "partialFilterExpression": {"state": "unknown"},
            },
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
