"""The ledger of webhooks: an event is recorded once and keeps its whole story."""

import json
from typing import Any

from mongoengine import (
    BooleanField,
    DateTimeField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    ObjectIdField,
    StringField,
)

from .store import IS_ID

STATES = ("received", "processing", "failed", "succeeded", "dead", "closed")
FINAL_STATES = ("succeeded", "dead", "closed")
# An index over these serves a query only if the query names the same two.
PENDING_STATES = ("received", "failed")
UNSETTLED_STATES = ("received", "processing", "failed")
SOURCES = ("delivery", "missed", "replay")
OUTCOMES = ("applied", "superseded", "ignored")


class Attempt(EmbeddedDocument):
    """One line of an event's history."""

    meta = {"strict": False}

    at = DateTimeField()
    source = StringField()
    actor = StringField()
    job_id = StringField()
    code_version = StringField()
    milliseconds = IntField()
    outcome = StringField(choices=OUTCOMES)
    error_class = StringField()
    error_message = StringField()


class Replay(EmbeddedDocument):
    """A replay that was asked for and has not come to an end."""

    meta = {"strict": False}

    job_id = StringField()
    actor = StringField()
    asked_at = DateTimeField()


class Closed(EmbeddedDocument):
    """Who closed a dead letter, when and why."""

    meta = {"strict": False}

    by = StringField()
    at = DateTimeField()
    note = StringField()


class WebhookEvent(Document):
    """A Stripe event as verified; `state`, `attempts` and `lease_owner` together guard each transition."""

    event_id = StringField(required=True)
    type = StringField(required=True)
    api_version = StringField()
    livemode = BooleanField()
    created = DateTimeField(required=True)
    # The text that was signed. BSON could not hold every event: metadata keys have dots and dollars, numbers
    # have any size, nesting any depth.
    payload = StringField()
    # Personal data were erased from the payload; what is left does not tell a row's next state.
    erased_at = DateTimeField()
    received_at = DateTimeField(required=True)
    source = StringField(required=True)
    # The place of the secret that verified it, then, and its mark.
    secret_index = IntField()
    secret_mark = StringField()
    state = StringField(required=True, choices=STATES)
    outcome = StringField(choices=OUTCOMES)
    reason = StringField()
    attempts = IntField(required=True, default=0)
    history = EmbeddedDocumentListField(Attempt)
    fingerprint = StringField()
    lease_owner = StringField()
    lease_until = DateTimeField()
    lease_losses = IntField(default=0)
    deferred_since = DateTimeField()
    deferrals = IntField(default=0)
    # Absent: at once, whatever any clock says.
    next_attempt_at = DateTimeField()
    # Where a failed replay goes back to; absent unless a replay is under way.
    returns_to = StringField(choices=FINAL_STATES)
    replay = EmbeddedDocumentField(Replay)
    # How many replays were asked for; each has its number in its job id.
    replays = IntField(default=0)
    organization = ObjectIdField()
    # Whose it is, said by the attach of its subscription or customer to an event that names nobody.
    learned = ObjectIdField()
    stripe_customer_id = StringField()
    stripe_subscription_id = StringField()
    dead_at = DateTimeField()
    # The version of the code that the attempt it died of was made with.
    dead_version = StringField()
    closed = EmbeddedDocumentField(Closed)
    expires_at = DateTimeField()

    meta = {
        "collection": "webhook_events",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["event_id"], "name": "event_id", "unique": True},
            {
                "fields": ["created", "next_attempt_at"],
                "name": "due",
                "partialFilterExpression": {"state": {"$in": list(PENDING_STATES)}},
            },
            {
                "fields": ["next_attempt_at"],
                "name": "next_due",
                "partialFilterExpression": {"state": "failed"},
            },
            {
                "fields": ["lease_until"],
                "name": "leased",
                "partialFilterExpression": {"state": "processing"},
            },
            {
                "fields": ["-dead_at", "-id"],
                "name": "dead_newest",
                "partialFilterExpression": {"state": "dead"},
            },
            {
                "fields": ["type", "-dead_at", "-id"],
                "name": "dead_type",
                "partialFilterExpression": {"state": "dead"},
            },
            {
                # Groups of dead letters are counted in it alone, so it holds all that they are told by. The state,
                # too: the planner does not take it from the filter.
                "fields": ["fingerprint", "-dead_at", "-id", "type", "reason", "dead_version", "state"],
                "name": "dead_alike",
                "partialFilterExpression": {"state": "dead"},
            },
            {
                "fields": ["reason", "-dead_at", "-id"],
                "name": "dead_reason",
                "partialFilterExpression": {"state": "dead"},
            },
            {
                "fields": ["organization", "-dead_at", "-id"],
                "name": "dead_organization",
                "partialFilterExpression": {"state": "dead"},
            },
            {
                "fields": ["organization", "state", "-created"],
                "name": "organization_unsettled",
                "partialFilterExpression": {"state": {"$in": ["dead", "failed"]}},
            },
            {"fields": ["stripe_customer_id", "-created"], "name": "customer_created"},
            {"fields": ["stripe_subscription_id", "-created"], "name": "subscription_created"},
            {"fields": ["-received_at", "-id"], "name": "newest"},
            {"fields": ["state", "-received_at", "-id"], "name": "state_newest"},
            {"fields": ["type", "-received_at", "-id"], "name": "type_newest"},
            {
                "fields": ["organization", "-received_at", "-id"],
                "name": "organization_newest",
                "partialFilterExpression": {"organization": IS_ID},
            },
            {
                # Nearly all are deliveries: those are found by `newest`.
                "fields": ["source", "-received_at", "-id"],
                "name": "source_newest",
                "partialFilterExpression": {"source": {"$gt": "delivery"}},
            },
            {
                # Only these: one that is being replayed, or died of it, keeps the time of its first end.
                "fields": ["expires_at"],
                "name": "expires",
                "expireAfterSeconds": 0,
                "partialFilterExpression": {"state": {"$in": ["succeeded", "closed"]}},
            },
        ],
    }

    @property
    def event(self) -> dict[str, Any]:
        """The event as Stripe's JSON."""
        return json.loads(self.payload)
