"""Replays of many events: the batch with its progress, and its items, one document each."""

from mongoengine import BooleanField, DateTimeField, DictField, Document, IntField, ObjectIdField, StringField

from .store import IS_TEXT

BATCH_STATES = ("queued", "running", "cancelling", "succeeded", "partly_failed", "stopped", "cancelled")
OPEN_BATCH_STATES = ("queued", "running", "cancelling")
ITEM_STATES = ("pending", "asked", "succeeded", "failed", "skipped", "refused", "left")
# An index over these serves a query only if the query names the same two.
OPEN_ITEM_STATES = ("pending", "asked")


class ReplayBatch(Document):
    """`attempt` numbers those who held it: each write names it, so that one who lost it writes nothing.

    From `next_at` on anybody may take it up: at once, when an outage may be over, or when the lease of a holder
    (`held`) has run out. Ended ones have none.
    """

    filter = DictField()
    # Of filter and time: running the same selection again is the same batch.
    selection = StringField(required=True)
    selected_at = DateTimeField(required=True)
    total = IntField(required=True)
    state = StringField(required=True, choices=BATCH_STATES)
    stop_reason = StringField()
    stop_after = IntField(required=True)
    succeeded = IntField(default=0)
    failed = IntField(default=0)
    skipped = IntField(default=0)
    refused = IntField(default=0)
    failures_in_row = IntField(default=0)
    # The item that was asked for last.
    position = IntField()
    actor = StringField(required=True)
    note = StringField()
    operation = ObjectIdField()
    attempt = IntField(required=True, default=0)
    held = BooleanField(default=False)
    lease_losses = IntField(default=0)
    next_at = DateTimeField()
    waiting_for = StringField()
    waits = IntField(default=0)
    created_at = DateTimeField(required=True)
    started_at = DateTimeField()
    ended_at = DateTimeField()
    cancelled_by = StringField()
    expires_at = DateTimeField()

    meta = {
        "collection": "replay_batches",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["selection"], "name": "selection", "unique": True},
            {"fields": ["-created_at", "-id"], "name": "newest"},
            {"fields": ["state", "-created_at", "-id"], "name": "state_newest"},
            {
                "fields": ["next_at"],
                "name": "open",
                "partialFilterExpression": {"state": {"$in": list(OPEN_BATCH_STATES)}},
            },
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }


class ReplayItem(Document):
    """One event of a batch. It is asked for once: in one transaction with the change of its state to `asked`."""

    batch = ObjectIdField(required=True)
    position = IntField(required=True)
    event_id = StringField(required=True)
    type = StringField(required=True)
    organization = ObjectIdField()
    created = DateTimeField()
    state = StringField(required=True, choices=ITEM_STATES)
    # Why it was skipped or refused.
    code = StringField()
    job_id = StringField()
    outcome = StringField()
    error_class = StringField()
    error_message = StringField()
    begun_at = DateTimeField()
    ended_at = DateTimeField()
    expires_at = DateTimeField()

    meta = {
        "collection": "replay_items",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["batch", "position"], "name": "batch_position", "unique": True},
            {"fields": ["batch", "state", "position"], "name": "batch_state"},
            # Erasing what an error quoted of an event's payload.
            {
                "fields": ["event_id"],
                "name": "event_failed",
                "partialFilterExpression": {"error_message": IS_TEXT},
            },
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
