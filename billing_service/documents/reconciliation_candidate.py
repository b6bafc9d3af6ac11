"""What a run suspects: a divergence only if it is seen once more, later."""

from mongoengine import DateTimeField, Document, IntField, ListField, ObjectIdField, StringField

CANDIDATE_STATES = ("waiting", "confirmed", "cleared", "in_flight", "error")


class ReconciliationCandidate(Document):
    """A suspect of a run, once each: an organization, or a subscription that nobody is known to own.

    `seen` is what Stripe said of the fields that differed, each as text; only what it says again counts.
    """

    run = ObjectIdField(required=True)
    subject = StringField(required=True)
    organization = ObjectIdField()
    subscriptions = ListField(StringField())
    seen = ListField(StringField())
    first_seen_at = DateTimeField(required=True)
    due_at = DateTimeField(required=True)
    # How often it was another picture, and how often Stripe failed for this one alone.
    restarts = IntField(required=True, default=0)
    failures = IntField(required=True, default=0)
    state = StringField(required=True, choices=CANDIDATE_STATES)
    error = StringField()
    expires_at = DateTimeField()

    meta = {
        "collection": "reconciliation_candidates",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["run", "subject"], "name": "run_subject", "unique": True},
            {"fields": ["run", "state", "due_at"], "name": "run_state_due"},
            {"fields": ["run", "organization"], "name": "run_organization"},
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
