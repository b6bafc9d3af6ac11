"""The ledger of prepaid extras: entries are added and never changed, but for what is left of those that gave units, and
what a top-up remembers of its refunds.
"""

from mongoengine import DateTimeField, Document, IntField, ListField, LongField, ObjectIdField, StringField

from .store import IS_TEXT

ENTRY_KINDS = ("topup", "debit", "refund", "refund_reversed", "expiration", "adjustment", "settlement")


class LedgerEntry(Document):
    """Units that an organization got (positive) or lost (negative).

    `ref` says what happened, so that it is booked once: `topup:cs_…`, `refund:re_…`, `dispute:dp_…`. An entry that
    gave units is a lot: `remaining` of them are still there, until `expires_at`; `lot` is the one that an entry is
    about. `amount` (minor units of `currency`) is the money that moved with the units.
    """

    organization = ObjectIdField(required=True)
    kind = StringField(required=True, choices=ENTRY_KINDS)
    units = LongField(required=True)
    ref = StringField(required=True)
    remaining = LongField()
    lot = ObjectIdField()
    amount = LongField()
    currency = StringField()
    session = StringField()
    payment_intent = StringField()
    charge = StringField()
    # The id that an admin asked by.
    refund_request_id = StringField()
    actor = StringField()
    memo = StringField()
    at = DateTimeField(required=True)
    expires_at = DateTimeField()
    # Of a top-up: refunds of its payment that Stripe has shown as failed or canceled (they stay so), and how often the
    # payment was looked at, so that of two looks at once one starts over.
    failed_refunds = ListField(StringField())
    looks = IntField()

    meta = {
        "collection": "ledger_entries",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["ref"], "name": "ref", "unique": True},
            {
                "fields": ["refund_request_id"],
                "name": "refund_request_id",
                "unique": True,
                "partialFilterExpression": {"refund_request_id": IS_TEXT},
            },
            {
                "fields": ["payment_intent"],
                "name": "payment_intent",
                "partialFilterExpression": {"payment_intent": IS_TEXT},
            },
            # All entries of an organization, which reconciliation adds up; the others have a part of them each.
            {"fields": ["organization", "at"], "name": "organization_at"},
            {
                "fields": ["organization"],
                "name": "lots",
                "partialFilterExpression": {"remaining": {"$gt": 0}},
            },
            {
                "fields": ["expires_at", "id"],
                "name": "expiring",
                "partialFilterExpression": {"remaining": {"$gt": 0}},
            },
            {
                # All but usage and what settles it, which are too many to be listed.
                "fields": ["organization", "-at", "-id"],
                "name": "organization_newest",
                "partialFilterExpression": {"amount": {"$gte": 0}},
            },
        ],
    }
