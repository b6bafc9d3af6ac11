"""What an import makes of one of Stripe's subscriptions, and why."""

from typing import Any

from mongoengine import DateTimeField, Document, ListField, ObjectIdField, StringField

# pending: an organization's, not looked at yet; imported: its row's; beside: another one is its row's;
# kept: the organization has a row already; unmapped: nobody's, `reason` says why.
ITEM_STATES = ("pending", "imported", "beside", "kept", "unmapped")


class ImportItem(Document):
    """A subscription as an import met it, once each. `snapshot` is what Stripe listed, kept until it is decided."""

    run = ObjectIdField(required=True)
    stripe_subscription_id = StringField(required=True)
    stripe_customer_id = StringField()
    stripe_created_at = DateTimeField()
    status = StringField()
    price_id = StringField()
    # What the subscription and its customer name, as it stands there.
    named = ListField(StringField())
    organization = ObjectIdField()
    state = StringField(required=True, choices=ITEM_STATES)
    reason = StringField()
    detail = StringField()
    # Of an imported one: the organization's plan before, and now.
    previous_plan = StringField()
    plan = StringField()
    snapshot = StringField()
    as_of = DateTimeField()
    seen_until = DateTimeField()
    expires_at = DateTimeField()

    meta = {
        "collection": "import_items",
        "auto_create_index": False,
        "strict": False,
        "indexes": [
            {"fields": ["run", "stripe_subscription_id"], "name": "run_subscription", "unique": True},
            # A customer's subscriptions, and of which organizations they are, from the index alone.
            {"fields": ["run", "stripe_customer_id", "organization"], "name": "run_customer"},
            {"fields": ["run", "state", "organization"], "name": "run_state_organization"},
            {"fields": ["run", "state", "reason", "stripe_subscription_id"], "name": "run_state_reason"},
            {"fields": ["expires_at"], "name": "expires_at", "expireAfterSeconds": 0},
        ],
    }

    def describe(self) -> dict[str, Any]:
        """The item as plain values."""
        left_out = ("id", "run", "snapshot", "as_of", "seen_until", "expires_at")
        plain = {name: getattr(self, name) for name in self._fields if name not in left_out}
        return plain | {"named": list(self.named)}
