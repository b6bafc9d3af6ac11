"""One import of an existing Stripe account: how far it is, who is at it, and what it came to."""

from typing import Any

from mongoengine import BooleanField, DictField, IntField, StringField

from .scan_run import ScanRun

IMPORT_STATES = ("running", "interrupted", "completed", "failed", "discarded")
# In this order: Stripe's list is read, customers with several subscriptions are made out, rows are written.
IMPORT_PHASES = ("planned", "listing", "customers", "organizations")


class ImportRun(ScanRun):
    """An import; without `apply` it writes items, and nothing else."""

    apply = BooleanField(required=True)
    # Whether canceled subscriptions are listed, too.
    canceled = BooleanField(required=True, default=False)
    actor = StringField(required=True)
    note = StringField()
    state = StringField(required=True, choices=IMPORT_STATES)
    phase = StringField(required=True, default="planned", choices=IMPORT_PHASES)
    # How far the phase of the customers is.
    place = StringField()
    listed = IntField(required=True, default=0)
    # Subscriptions of which it is known what becomes of them, by state; unmapped ones by reason.
    settled = IntField(required=True, default=0)
    states = DictField()
    reasons = DictField()
    # Organizations that got a row, and those of them that had another plan before.
    organizations = IntField(required=True, default=0)
    plans_changed = IntField(required=True, default=0)

    meta = {"collection": "import_runs"}

    def describe(self) -> dict[str, Any]:
        """The import as plain values."""
        return self.plain("lease_until") | {"states": dict(self.states), "reasons": dict(self.reasons)}
