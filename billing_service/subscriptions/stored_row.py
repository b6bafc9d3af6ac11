"""A stored row as MongoDB has it, for what compares thousands: a MongoEngine document costs ten times as much."""

from typing import Any

from ..documents import Override

FIELDS = (
    "organization",
    "stripe_customer_id",
    "stripe_subscription_id",
    "stripe_created_at",
    "status",
    "stripe_plan",
    "override",
    "suspended_at",
    "plan",
    "price_id",
    "quantity",
    "current_period_start",
    "current_period_end",
    "cancel_at_period_end",
    "cancel_at",
    "verify_at",
    "as_of",
    "candidates",
    "version",
)
PROJECTION = dict.fromkeys(FIELDS, 1)


class StoredRow:
    """Its attributes are those of `Subscription` that are compared; what is not stored is None."""

    __slots__ = ("_override", "_raw")

    def __init__(self, raw: dict[str, Any]):
        self._raw = raw
        told = raw.get("override")
        self._override = Override(**{name: told.get(name) for name in ("plan", "actor", "until")}) if told else None

    def __getattr__(self, name: str) -> Any:
        if name not in PROJECTION:
            raise AttributeError(name)
        return self._raw.get(name)

    @property
    def override(self) -> Override | None:
        """The plan that an admin set, in force or not."""
        return self._override
