"""Signals of transitions, stored with the transition itself and sent at least once later."""

from mongoengine import DateTimeField, DictField, Document, IntField, ListField, ObjectIdField, StringField

from .store import IS_TIME


class OutboxSignal(Document):
    """One signal. `key` says what happened, so that it is told of once: `<subscription>:<version>:<name>` for a
    transition of a row, the name and Stripe's id for what happens only once there.

    `sent_to` are the receivers that have answered; without `next_attempt_at` nothing is left to send.
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
    lease_until = DateTimeField()
    next_attempt_at = DateTimeField()
    expires_at = DateTimeField()

    meta = {
        "collection": "outbox",
        "auto_create_index": False,
        "indexes": [
            {"fields": ["key"], "name": "key", "unique": True},
            {
                "fields": ["next_attempt_at"],
                "name": "unsent",
                "partialFilterExpression": {"next_attempt_at": IS_TIME},
            },
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
