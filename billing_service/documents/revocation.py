"""Tokens that are no longer taken although they have not expired."""

from mongoengine import DateTimeField, Document, StringField


class Revocation(Document):
    """A token by its `jti`, or a whole session by its id; the row outlives the last token that it ends."""

    jti = StringField(primary_key=True)
    reason = StringField(required=True, choices=("signed_out", "used", "reused"))
    at = DateTimeField(required=True)
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "revocations",
        "auto_create_index": False,
        "strict": False,
        "indexes": [{"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0}],
    }
