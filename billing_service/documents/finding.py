"""What does not fit between Stripe and us, remembered until it is resolved."""

from datetime import datetime, timedelta
from typing import Any

from mongoengine import DateTimeField, DictField, Document, IntField, ListField, ObjectIdField, StringField

from .store import IS_TIME

STATES = ("open", "acknowledged", "resolved")
OPEN_STATES = ("open", "acknowledged")
SEVERITIES = ("critical", "high", "medium", "low", "info")
RESOLVED_KEPT = timedelta(days=365)


def resolved(by: str, now: datetime) -> dict[str, Any]:
    """What an update writes to a finding that is resolved: from then on it has its last year."""
    ended = {"set__state": "resolved", "set__resolved_at": now, "set__resolved_by": by}
    return ended | {"set__expires_at": now + RESOLVED_KEPT}


class Finding(Document):
    """One divergence; `fingerprint` (kind and ids) is unique while it is open or acknowledged."""

    fingerprint = StringField(required=True)
    kind = StringField(required=True)
    severity = StringField(required=True, choices=SEVERITIES)
    cause = StringField(required=True, default="unknown")
    organization = ObjectIdField()
    stripe_customer_id = StringField()
    stripe_subscription_ids = ListField(StringField())
    stored = DictField()
    live = DictField()
    # Per currency what Stripe bills in a month and we do not grant, or the reverse; minor units.
    money_at_risk = ListField(DictField())
    # The last reconciliation that saw it; others note findings, too.
    run = ObjectIdField()
    first_seen_at = DateTimeField(required=True)
    last_seen_at = DateTimeField(required=True)
    times_seen = IntField(required=True, default=1)
    state = StringField(required=True, choices=STATES)
    acknowledged_until = DateTimeField()
    acknowledged_at = DateTimeField()
    acknowledged_by = StringField()
    acknowledged_note = StringField()
    resolved_at = DateTimeField()
    resolved_by = StringField()
    expires_at = DateTimeField()

    meta = {
        "collection": "findings",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {
                "fields": ["fingerprint"],
                "name": "open_fingerprint",
                "unique": True,
                "partialFilterExpression": {"state": {"$in": list(OPEN_STATES)}},
            },
            {"fields": ["organization", "state", "-last_seen_at"], "name": "organization_state"},
            {"fields": ["state", "severity"], "name": "state_severity"},
            # Listed by the time that does not change while somebody turns the pages.
            {"fields": ["-first_seen_at", "-id"], "name": "newest"},
            {"fields": ["state", "-first_seen_at", "-id"], "name": "state_first_seen"},
            {"fields": ["kind", "-first_seen_at", "-id"], "name": "kind_first_seen"},
            {"fields": ["severity", "-first_seen_at", "-id"], "name": "severity_first_seen"},
            {"fields": ["organization", "-first_seen_at", "-id"], "name": "organization_first_seen"},
            {"fields": ["run", "-first_seen_at", "-id"], "name": "run_first_seen"},
            {
                "fields": ["organization", "-resolved_at", "-id"],
                "name": "organization_resolved",
                "partialFilterExpression": {"resolved_at": IS_TIME},
            },
            {
                "fields": ["acknowledged_until"],
                "name": "acknowledged_until",
                "partialFilterExpression": {"state": "acknowledged"},
            },
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }

    def describe(self) -> dict[str, Any]:
        """The finding as plain values, as answers show it."""
        return {name: getattr(self, name) for name in self._fields if name not in ("fingerprint", "expires_at")} | {
            "id": str(self.pk),
            "stored": dict(self.stored),
            "live": dict(self.live),
            "stripe_subscription_ids": list(self.stripe_subscription_ids),
            "money_at_risk": [dict(each) for each in self.money_at_risk],
        }
