"""Which Stripe objects an event is about, read from its payload in either API shape."""

import re
from typing import Any, NamedTuple

from ..stripe_gateway.shapes import id_of

_ID = re.compile(r"[A-Za-z0-9_]{1,255}")


class References(NamedTuple):
    """The ids that an event names."""

    customer_id: str | None
    subscription_id: str | None


def references(event: dict[str, Any]) -> References:
    """The customer and the subscription that the event's object is, or belongs to."""
    subject = _member(_member(event, "data"), "object")
    kind = subject.get("object")
    customer = subject.get("id") if kind == "customer" else subject.get("customer")
    subscription = subject.get("id") if kind == "subscription" else _subscription_of(subject)
    return References(_id(customer), _id(subscription))


def _subscription_of(subject: dict[str, Any]) -> Any:
    # Since 2025-03-31 an invoice names it below `parent`.
    details = _member(_member(subject, "parent"), "subscription_details")
    return details.get("subscription") or subject.get("subscription")


def _member(holder: dict[str, Any], name: str) -> dict[str, Any]:
    # Whatever was signed is stored: what cannot be read names nothing.
    found = holder.get(name)
    return found if isinstance(found, dict) else {}


def _id(reference: Any) -> str | None:
    found = id_of(reference)
    return found if isinstance(found, str) and _ID.fullmatch(found) else None
