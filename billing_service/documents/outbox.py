"""Signals of transitions, stored with the transition itself and sent at least once later."""

from mongoengine import DateTimeField, DictField, Document, IntField, ListField, ObjectIdField, StringField

from .store import IS_ID, IS_TIME


class OutboxSignal(Document):
    """One signal. `key` says what happened, so that it is told of once: `<subscription>:<version>:<name>` for a
    transition of a row, the name and Stripe's id for what happens only once there.

    `sent_to` are those that have been told: listeners, event, alert. From `next_attempt_at` on anybody may send it,
    the first time and again, also when a sender that held the lease (`lease_owner`) has died; without it nothing is
    left to do: `sent_at` is when all had been told, or it was given up for `last_error`.
    """

    key = StringField(required=True)
    name = StringField(required=True)
    organization = ObjectIdField()
    subscription = ObjectIdField()
    version = IntField()
    facts = DictField()
    created_at = DateTimeField(required=True)
    sent_to = ListField(StringField())
    sent_at = DateTimeField()
    attempts = IntField(required=True, default=0)
    last_error = StringField()
    failing_since = DateTimeField()
    lease_owner = StringField()
    next_attempt_at = DateTimeField()
    expires_at = DateTimeField()

    meta = {
        "collection": "outbox",
        "auto_create_index": False,
        # While a new version is rolled out the old one reads rows with fields that it does not know.
        "strict": False,
        "indexes": [
            {"fields": ["key"], "name": "key", "unique": True},
            {
                "fields": ["next_attempt_at"],
                "name": "unsent",
                "partialFilterExpression": {"next_attempt_at": IS_TIME},
            },
            {
                "fields": ["organization", "-created_at", "-id"],
                "name": "organization_newest",
                "partialFilterExpression": {"organization": IS_ID},
            },
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
