"""The cheap look: what certainly fits, on both sides as they were read. Whatever it doubts is diagnosed."""

from collections.abc import Mapping
from typing import Any

from ..plans import Plans
from ..stripe_gateway import Glance
from ..stripe_gateway.answers import UNREADABLE
from ..stripe_gateway.shapes import at
from ..subscriptions.observation import MARKER
from ..subscriptions.statuses import LIVE

_COMPARED = (
    "stripe_subscription_id",
    "stripe_customer_id",
    "status",
    "price_id",
    "quantity",
    "current_period_start",
    "current_period_end",
    "cancel_at_period_end",
    "cancel_at",
    "stripe_plan",
    "plan",
    "override",
    "suspended_at",
)


def meanings_of(plans: Plans) -> dict[str, str]:
    """The id of the plan that each price of the plan file means."""
    return {price: plan.id for plan in plans.plans for price in plan.prices}


def certainly_fits(live: Glance | None, stored: Mapping[str, Any], plan: str | None, meanings: dict) -> bool:
    """Whether `diagnose` would find nothing: the common case only, one item with a price of the plan file.

    `stored` is the raw row, `plan` its organization's. Most subscriptions are in step, and the values and pictures
    that a diagnosis needs cost twenty times this look.
    """
    if live is None or len(live.items.data) != 1:
        return False
    [item] = live.items.data
    due = meanings.get(item.price.id)
    # Without a period of its own the item would have the subscription's.
    if due is None or plan != due or item.current_period_start is None or item.current_period_end is None:
        return False
    try:
        shown = (
            live.id,
            live.customer,
            live.status,
            item.price.id,
            item.quantity,
            at(item.current_period_start),
            at(item.current_period_end),
            live.cancel_at_period_end,
            at(live.cancel_at),
            due,
            due,
            None,
            None,
        )
    except UNREADABLE:  # no time that there is
        return False
    named = live.metadata.get(MARKER)
    return (
        live.status in LIVE
        and shown == tuple(map(stored.get, _COMPARED))
        and (named is None or named == str(stored["organization"]))
    )
