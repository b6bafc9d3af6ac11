"""One comparison of all subscriptions with Stripe: how far it is, who is at it, and what it came to."""

from typing import Any

from mongoengine import (
    BooleanField,
    DateTimeField,
    DictField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    ObjectIdField,
    StringField,
)

from .store import IS_TEXT

TRIGGERS = ("schedule", "api", "cli")
RUN_STATES = ("running", "interrupted", "completed", "failed")
# In this order; a run of one organization begins with the last but one.
PHASES = ("planned", "listing", "rows", "organizations", "books", "confirming", "resolving")


class ScanWindow(EmbeddedDocument):
    """A span of Stripe's `created`, both ends included, read newest first.

    All later than `at` is compared; of the second `at` itself only what is `settled`. `after` is the cursor of
    Stripe's list.
    """

    meta = {"strict": False}

    since = DateTimeField()
    until = DateTimeField(required=True)
    at = DateTimeField(required=True)
    after = StringField()
    settled = ListField(StringField())
    done = BooleanField(required=True, default=False)


class Unreceived(EmbeddedDocument):
    """An event that Stripe lists and the ledger lacks."""

    meta = {"strict": False}

    event_id = StringField(required=True)
    type = StringField()
    created = DateTimeField()
    subscription = StringField()
    # Of each field that an event can tell: its value, as text.
    told = ListField(StringField())


class ReconciliationRun(Document):
    """A run; `fence` counts its holders, and no holder but the last can write.

    `active` is there until the run is over, so that the index allows one at a time. Interrupted means that its
    process stopped, or was found gone: whoever starts next goes on with it.
    """

    active = BooleanField()
    trigger = StringField(required=True, choices=TRIGGERS)
    slot = StringField()
    # Of the slot: what failed is started anew, with a slot of its own.
    attempt = IntField(required=True, default=1)
    actor = StringField()
    organization = ObjectIdField()
    state = StringField(required=True, choices=RUN_STATES)
    phase = StringField(required=True, default="planned", choices=PHASES)
    windows = EmbeddedDocumentListField(ScanWindow)
    # How far the phase that reads our own side is.
    place = ObjectIdField()
    lease_owner = StringField()
    lease_until = DateTimeField()
    fence = IntField(required=True, default=0)
    # Holders that died or failed since something was last done.
    failures = IntField(required=True, default=0)
    outages = IntField(required=True, default=0)
    next_at = DateTimeField()
    started_at = DateTimeField(required=True)
    finished_at = DateTimeField()
    # Stripe's clock at the start: what was made later is left to the next run.
    until = DateTimeField()
    expected = IntField(required=True, default=0)
    checked = IntField(required=True, default=0)
    rows = IntField(required=True, default=0)
    unshown = IntField(required=True, default=0)
    key_trusted = BooleanField(required=True, default=False)
    foreign = IntField(required=True, default=0)
    stripe_requests = IntField(required=True, default=0)
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
    error = StringField()
    # Whether extras and usage were compared, too.
    metered = BooleanField(required=True, default=False)
    events_listed = BooleanField(required=True, default=False)
    unreceived = EmbeddedDocumentListField(Unreceived)
    expires_at = DateTimeField()

    meta = {
        "collection": "reconciliation_runs",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {
                "fields": ["active"],
                "name": "one_at_a_time",
                "unique": True,
                "partialFilterExpression": {"active": True},
            },
            {
                "fields": ["slot"],
                "name": "slot",
                "unique": True,
                "partialFilterExpression": {"slot": IS_TEXT},
            },
            {"fields": ["-started_at", "-id"], "name": "newest"},
            {"fields": ["organization", "state", "-started_at"], "name": "organization_state"},
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }

    @property
    def divergences(self) -> int:
        """How many findings this run confirmed, those aside that only inform."""
        return sum(count for kind, count in self.findings.items() if kind != "overridden")

    def describe(self) -> dict[str, Any]:
        """The run as plain values, as answers show it."""
        left_out: tuple[str, ...] = (
            "active",
            "windows",
            "place",
            "lease_owner",
            "fence",
            "failures",
            "outages",
            "unreceived",
        )
        left_out += ("told", "told_kinds", "told_severities", "told_money", "metered")
        plain = {name: getattr(self, name) for name in self._fields if name not in (*left_out, "expires_at")}
        return plain | {
            "id": str(self.pk),
            "findings": dict(self.findings),
            "divergences": self.divergences,
            "error_sample": [dict(each) for each in self.error_sample],
        }
