"""How often signing in has failed lately, and when it may be tried again."""

from mongoengine import DateTimeField, Document, IntField, StringField


class LoginThrottle(Document):
    """Attempts by one `key`: a digest of an e-mail, of an address, or of both. `known_until`: that address has signed
    in with that e-mail before."""

    key = StringField(primary_key=True)
    failures = IntField(required=True)
    next_at = DateTimeField(required=True)
    known_until = DateTimeField()
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "login_throttles",
        "auto_create_index": False,
        "strict": False,
        "indexes": [{"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0}],
    }
