"""The audit log: two rows per operation, its intent and its outcome; rows are only ever added."""

from mongoengine import DateTimeField, DictField, Document, ObjectIdField, StringField

OUTCOMES = ("pending", "succeeded", "failed", "unknown")


class AdminAction(Document):
    """Who wanted or did what, to whom, when and why; `before` and `after` are subscription objects."""

    operation = ObjectIdField(required=True)
    phase = StringField(required=True, choices=("intent", "outcome"))
    at = DateTimeField(required=True)
    actor = StringField(required=True)
    role = StringField()
    action = StringField(required=True)
    target = StringField(required=True)
    organization = ObjectIdField()
    note = StringField()
    request_id = StringField()
    outcome = StringField(choices=OUTCOMES)
    parameters = DictField()
    before = DictField()
    after = DictField()
    error = StringField()
    expires_at = DateTimeField()

    meta = {
        "collection": "admin_actions",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["-at", "-id"], "name": "newest"},
            {"fields": ["organization", "-at", "-id"], "name": "organization_newest"},
            {"fields": ["actor", "-at", "-id"], "name": "actor_newest"},
            {"fields": ["action", "-at", "-id"], "name": "action_newest"},
            {"fields": ["target", "-at", "-id"], "name": "target_newest"},
            {"fields": ["outcome", "-at", "-id"], "name": "outcome_newest"},
            {"fields": ["request_id"], "name": "request_id"},
            {"fields": ["operation"], "name": "operation"},
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
