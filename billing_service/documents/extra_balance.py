"""How many prepaid extras an organization has."""

from mongoengine import Document, LongField, ObjectIdField


class ExtraBalance(Document):
    """Always the sum of the organization's ledger entries, with which it moves; negative: owed.

    `claimed` is the part of what is owed that refunds and disputes caused: units were used whose money went back. A
    new week's quota does not pay for it.
    """

    organization = ObjectIdField(primary_key=True)
    units = LongField(required=True, default=0)
    claimed = LongField(default=0)

    meta = {"collection": "extra_balances", "auto_create_index": False, "strict": False}
