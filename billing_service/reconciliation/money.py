"""What subscriptions cost in a month, per currency, in minor units."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..stripe_gateway import LiveItem, LiveSubscription

# A month of a price that is billed each of these: numerator and denominator, years of 12 months, 52 weeks, 365 days.
MONTHLY = {"month": (1, 1), "year": (1, 12), "week": (52, 12), "day": (365, 12)}


def money_of(found: Iterable[LiveSubscription]) -> tuple[dict[str, Any], ...]:
    """The monthly amounts of all items; what has no fixed price (tiers, metered use) is left out."""
    sums: Counter[str] = Counter()
    for subscription in found:
        for item in subscription.items:
            if item.currency:
                sums[item.currency] += _monthly(item)
    return tuple({"currency": currency, "amount": amount} for currency, amount in sorted(sums.items()) if amount)


def _monthly(item: LiveItem) -> int:
    amount = item.exact_amount if item.unit_amount is None else item.unit_amount
    if amount is None or item.quantity is None or item.interval not in MONTHLY:
        return 0
    times, of = MONTHLY[item.interval]
    return int(amount * item.quantity * times // (of * item.interval_count))
