"""What the calendar owes: one row per job and slot, the truth behind retry and catch-up."""

from mongoengine import DateTimeField, DictField, Document, IntField, StringField

JOB_STATES = ("claimed", "running", "succeeded", "failed", "given_up")
OPEN_JOB_STATES = ("claimed", "running", "failed")


class JobRun(Document):
    """A job's run for one slot (`20261122T0300`, UTC). `attempt`, `part` and `state` together guard each transition.

    A job that is too long for one go is done in parts: `cursor` is where the next one begins, `summary` adds up.
    """

    job = StringField(required=True)
    slot = StringField(required=True)
    attempt = IntField(required=True, default=1)
    part = IntField(default=0)
    state = StringField(required=True, choices=JOB_STATES)
    # Until then a claimed run may wait for a worker, and a running one may run.
    lease_until = DateTimeField(required=True)
    claimed_at = DateTimeField(required=True)
    started_at = DateTimeField()
    finished_at = DateTimeField()
    cursor = DictField()
    summary = DictField()
    error = StringField()
    expires_at = DateTimeField()

    meta = {
        "collection": "job_runs",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["job", "slot"], "name": "job_slot", "unique": True},
            {
                "fields": ["lease_until"],
                "name": "open",
                "partialFilterExpression": {"state": {"$in": list(OPEN_JOB_STATES)}},
            },
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }
