"""What each long run over Stripe's list keeps: how far it is, who is at it, and what stands in its way."""

from typing import Any

from mongoengine import (
    BooleanField,
    DateTimeField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    StringField,
)


class ScanWindow(EmbeddedDocument):
    """A span of Stripe's `created`, both ends included, read newest first.

    All later than `at` is read; of the second `at` itself only what is `settled`. `after` is the cursor of Stripe's
    list.
    """

    meta = {"strict": False}

    since = DateTimeField()
    until = DateTimeField(required=True)
    at = DateTimeField(required=True)
    after = StringField()
    settled = ListField(StringField())
    done = BooleanField(required=True, default=False)


class ScanRun(Document):
    """A run; `fence` counts its holders, and no holder but the last can write.

    `active` is there until it is over, so that the index allows one of its kind at a time. Interrupted means that its
    process stopped, or was found gone: whoever starts next goes on with it.
    """

    active = BooleanField()
    actor = StringField()
    state = StringField(required=True)
    phase = StringField(required=True, default="planned")
    windows = EmbeddedDocumentListField(ScanWindow)
    lease_owner = StringField()
    lease_until = DateTimeField()
    fence = IntField(required=True, default=0)
    # Holders that died or failed since something was last done.
    failures = IntField(required=True, default=0)
    outages = IntField(required=True, default=0)
    next_at = DateTimeField()
    started_at = DateTimeField(required=True)
    finished_at = DateTimeField()
    # Stripe's clock at the start: what was made later is not listed.
    until = DateTimeField()
    stripe_requests = IntField(required=True, default=0)
    error = StringField()
    expires_at = DateTimeField()

    meta = {
        "abstract": True,
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {
                "fields": ["active"],
                "name": "one_at_a_time",
                "unique": True,
                "partialFilterExpression": {"active": True},
            },
            {"fields": ["-started_at", "-id"], "name": "newest"},
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }

    def plain(self, *left_out: str) -> dict[str, Any]:
        """The run as plain values, without what only its holders need, and what else is to be left out."""
        hidden = {"active", "windows", "place", "lease_owner", "fence", "failures", "outages", "expires_at", *left_out}
        return {name: getattr(self, name) for name in self._fields if name not in hidden} | {"id": str(self.pk)}
