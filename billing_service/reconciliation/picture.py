"""Both truths of one organization, what does not fit between them, and how that is said as evidence."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId

from ..stripe_gateway import LiveSubscription
from ..subscriptions.stored_row import StoredRow
from .books import Books

UNLISTED = "is not listed"


@dataclass(frozen=True)
class Picture:
    """What is known of one organization, or of one subscription whose organization is not known.

    `plan` is the organization's own, which access control reads; `exists`: it is known here. `found` are
    subscriptions as Stripe shows them, `gone` those that are proven not to exist. Without `looked` nobody asked
    Stripe: only our own side is judged. `books` are None where nobody looked at them.
    """

    organization: ObjectId | None
    row: StoredRow | None
    plan: str | None = None
    exists: bool = False
    found: tuple[LiveSubscription, ...] = ()
    gone: frozenset[str] = frozenset()
    looked: bool = True
    books: Books | None = None


@dataclass(frozen=True)
class Divergence:
    """One thing that does not fit. `evidence` is what Stripe said of it, as text, to be compared with the next look;
    `told` is all that differs by field, as an event can tell it.
    """

    kind: str
    severity: str
    organization: ObjectId | None
    customer: str | None
    subscriptions: tuple[str, ...]
    stored: dict[str, Any]
    live: dict[str, Any]
    evidence: frozenset[str]
    told: frozenset[str] = frozenset()
    money_at_risk: tuple[dict[str, Any], ...] = ()

    @property
    def fingerprint(self) -> str:
        """As all writers of findings make it: kind, organization, subscriptions."""
        return ":".join((self.kind, str(self.organization), *sorted(self.subscriptions)))


def value_text(value: Any) -> str:
    """A value as evidence: the same text for the same value, wherever it was read."""
    if isinstance(value, datetime):
        return str(int(value.astimezone(UTC).timestamp()))
    return str(value)


def unlisted(subscription_id: str) -> str:
    """The evidence that a subscription is canceled or does not exist: Stripe's list leaves out both."""
    return f"{subscription_id} {UNLISTED}"


def live_evidence(subscription_id: str) -> str:
    """The evidence that Stripe bills a subscription that is not the row's."""
    return f"{subscription_id} is live"
