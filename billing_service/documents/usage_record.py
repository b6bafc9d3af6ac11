"""Usage that was recorded, each under the key that the SaaS gave it."""

from mongoengine import DateTimeField, DictField, Document, LongField, ObjectIdField, StringField


class UsageRecord(Document):
    """`units` under a key, once: `within` the week's quota, the others from extras.

    `week`, `quota`, `used`, `extras` are what was answered: of the moment when it was recorded.
    """

    organization = ObjectIdField(required=True)
    key = StringField(required=True)
    units = LongField(required=True)
    breakdown = DictField()
    week = StringField(required=True)
    within = LongField(required=True)
    quota = LongField()
    used = LongField(required=True)
    extras = LongField(required=True)
    at = DateTimeField(required=True)
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "usage_records",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["organization", "key"], "name": "organization_key", "unique": True},
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
