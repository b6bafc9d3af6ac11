"""One comparison of all subscriptions with Stripe: how far it is, who is at it, and what it came to."""

from typing import Any

from mongoengine import (
    BooleanField,
    DateTimeField,
    DictField,
    EmbeddedDocument,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    ObjectIdField,
    StringField,
)

from .scan_run import ScanRun
from .store import IS_TEXT

TRIGGERS = ("schedule", "api", "cli")
RUN_STATES = ("running", "interrupted", "completed", "failed")
# In this order; a run of one organization begins with the last but one.
PHASES = ("planned", "listing", "rows", "organizations", "books", "confirming", "resolving")


class Unreceived(EmbeddedDocument):
    """An event that Stripe lists and the ledger lacks."""

    meta = {"strict": False}

    event_id = StringField(required=True)
    type = StringField()
    created = DateTimeField()
    subscription = StringField()
    # Of each field that an event can tell: its value, as text.
    told = ListField(StringField())


class ReconciliationRun(ScanRun):
    """A comparison of everything, or of one organization."""

    trigger = StringField(required=True, choices=TRIGGERS)
    slot = StringField()
    # Of the slot: what failed is started anew, with a slot of its own.
    attempt = IntField(required=True, default=1)
    organization = ObjectIdField()
    state = StringField(required=True, choices=RUN_STATES)
    phase = StringField(required=True, default="planned", choices=PHASES)
    # How far the phase that reads our own side is.
    place = ObjectIdField()
    expected = IntField(required=True, default=0)
    checked = IntField(required=True, default=0)
    rows = IntField(required=True, default=0)
    unshown = IntField(required=True, default=0)
    key_trusted = BooleanField(required=True, default=False)
    foreign = IntField(required=True, default=0)
    candidates = IntField(required=True, default=0)
    in_flight = IntField(required=True, default=0)
    findings = DictField()
    new = IntField(required=True, default=0)
    changed = IntField(required=True, default=0)
    # Of what is new or changed: how many, by kind, by severity, and the money at risk by currency.
    told = IntField(required=True, default=0)
    told_kinds = DictField()
    told_severities = DictField()
    told_money = DictField()
    acknowledged = IntField(required=True, default=0)
    resolved = IntField(required=True, default=0)
    errors = IntField(required=True, default=0)
    error_sample = ListField(DictField())
    # Whether extras and usage were compared, too.
    metered = BooleanField(required=True, default=False)
    events_listed = BooleanField(required=True, default=False)
    unreceived = EmbeddedDocumentListField(Unreceived)

    meta = {
        "collection": "reconciliation_runs",
        "indexes": [
            {
                "fields": ["slot"],
                "name": "slot",
                "unique": True,
                "partialFilterExpression": {"slot": IS_TEXT},
            },
            {"fields": ["organization", "state", "-started_at"], "name": "organization_state"},
        ],
    }

    @property
    def divergences(self) -> int:
        """How many findings this run confirmed, those aside that only inform."""
        return sum(count for kind, count in self.findings.items() if kind != "overridden")

    def describe(self) -> dict[str, Any]:
        """The run as plain values, as answers show it."""
        left_out = ("unreceived", "told", "told_kinds", "told_severities", "told_money", "metered")
        return self.plain(*left_out) | {
            "findings": dict(self.findings),
            "divergences": self.divergences,
            "error_sample": [dict(each) for each in self.error_sample],
        }
