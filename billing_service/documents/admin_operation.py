"""One record per admin mutation: the memory behind Idempotency-Key and behind what is still unknown."""

from mongoengine import BooleanField, DateTimeField, DictField, Document, IntField, ObjectIdField, StringField

from .store import IS_TEXT, IS_TIME


class AdminOperation(Document):
    """A mutation an admin asked for. `state` unknown means: the effect at Stripe could not be seen yet.

    `pursued` is set before Stripe is asked: from then on somebody looks until the effect is seen or given up,
    whatever becomes of the process.
    """

    kind = StringField(required=True)
    target = StringField(required=True)
    organization = ObjectIdField()
    actor = StringField(required=True)
    route = StringField(required=True)
    idempotency_key = StringField()
    body_hash = StringField(required=True)
    parameters = DictField()
    role = StringField()
    note = StringField()
    request_id = StringField()
    pursued = BooleanField(required=True, default=False)
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
        "strict": False,
        "indexes": [
            {
                "fields": ["actor", "route", "idempotency_key"],
                "name": "idempotency_key",
                "unique": True,
                "partialFilterExpression": {"idempotency_key": IS_TEXT},
            },
            {
                "fields": ["next_check_at"],
                "name": "next_check_at",
                "partialFilterExpression": {"next_check_at": IS_TIME},
            },
            {
                "fields": ["lease_until"],
                "name": "started",
                "partialFilterExpression": {"state": "started"},
            },
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
