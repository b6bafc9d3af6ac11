"""Signals of transitions, stored with the transition itself and sent at least once later."""

from mongoengine import DateTimeField, DictField, Document, IntField, ObjectIdField, StringField

from .store import IS_TIME


class OutboxSignal(Document):
    """One signal; a transition of one version of one subscription makes each signal once."""

    subscription = ObjectIdField(required=True)
    version = IntField(required=True)
    name = StringField(required=True)
    organization = ObjectIdField(required=True)
    facts = DictField()
    created_at = DateTimeField(required=True)
    sent_at = DateTimeField()
    attempts = IntField(required=True, default=0)
    next_attempt_at = DateTimeField()
    expires_at = DateTimeField()

    meta = {
        "collection": "outbox",
        "auto_create_index": False,
        "indexes": [
            {"fields": ["subscription", "version", "name"], "name": "transition", "unique": True},
            {
                "fields": ["next_attempt_at"],
                "name": "unsent",
                "partialFilterExpression": {"next_attempt_at": IS_TIME},
            },
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
