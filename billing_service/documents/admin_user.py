"""The people who may sign in, where this service makes its own tokens."""

from typing import Any

from mongoengine import BooleanField, DateTimeField, Document, IntField, ListField, StringField


class AdminUser(Document):
    """An admin; `email` is in lower case. Each change of roles, password or `disabled` raises `version`: tokens name
    the version that they were made for, and end with it."""

    email = StringField(required=True)
    password_hash = StringField(required=True)
    roles = ListField(StringField())
    disabled = BooleanField(required=True, default=False)
    version = IntField(required=True, default=1)
    created_at = DateTimeField(required=True)
    changed_at = DateTimeField(required=True)

    meta = {
        "collection": "admin_users",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["email"], "name": "email", "unique": True},
            {"fields": ["roles", "disabled"], "name": "roles_disabled"},
            {"fields": ["-created_at", "-id"], "name": "newest"},
        ],
    }

    def describe(self) -> dict[str, Any]:
        """What may be shown of it: all but the password's hash."""
        names = ("email", "disabled", "created_at", "changed_at")
        return {"id": self.pk, **{name: getattr(self, name) for name in names}, "roles": list(self.roles)}
