"""One import of an existing Stripe account: how far it is, who is at it, and what it came to."""

from typing import Any

from mongoengine import (
    BooleanField,
    DateTimeField,
    DictField,
    Document,
    EmbeddedDocumentListField,
    IntField,
    StringField,
)

from .reconciliation_run import ScanWindow

IMPORT_STATES = ("running", "interrupted", "completed", "failed", "discarded")
# In this order: Stripe's list is read, customers with several subscriptions are made out, rows are written.
IMPORT_PHASES = ("planned", "listing", "customers", "organizations")


class ImportRun(Document):
    """An import; `fence` counts its holders, and no holder but the last can write.

    `active` is there until it is over, so that the index allows one at a time. Without `apply` it writes items, and
    nothing else.
    """

    active = BooleanField()
    apply = BooleanField(required=True)
    # Whether canceled subscriptions are listed, too.
    canceled = BooleanField(required=True, default=False)
    actor = StringField(required=True)
    note = StringField()
    state = StringField(required=True, choices=IMPORT_STATES)
    phase = StringField(required=True, default="planned", choices=IMPORT_PHASES)
    windows = EmbeddedDocumentListField(ScanWindow)
    # How far the phase of the customers is.
    place = StringField()
    lease_owner = StringField()
    lease_until = DateTimeField()
    fence = IntField(required=True, default=0)
    # Holders that died or failed since something was last done.
    failures = IntField(required=True, default=0)
    outages = IntField(required=True, default=0)
    next_at = DateTimeField()
    started_at = DateTimeField(required=True)
    finished_at = DateTimeField()
    # Stripe's clock at the start: what is made later is told by its events.
    until = DateTimeField()
    listed = IntField(required=True, default=0)
    # Subscriptions of which it is known what becomes of them, by state; unmapped ones by reason.
    settled = IntField(required=True, default=0)
    stripe_requests = IntField(required=True, default=0)
    states = DictField()
    reasons = DictField()
    # Organizations that got a row, and those of them that had another plan before.
    organizations = IntField(required=True, default=0)
    plans_changed = IntField(required=True, default=0)
    error = StringField()
    expires_at = DateTimeField()

    meta = {
        "collection": "import_runs",
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

    def describe(self) -> dict[str, Any]:
        """The import as plain values."""
        left_out = ("active", "windows", "place", "lease_owner", "lease_until", "fence", "failures", "outages")
        plain = {name: getattr(self, name) for name in self._fields if name not in (*left_out, "expires_at")}
        return plain | {"id": str(self.pk), "states": dict(self.states), "reasons": dict(self.reasons)}
