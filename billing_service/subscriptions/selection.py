"""Which of several subscriptions is the organization's."""

from collections.abc import Iterable

from ..stripe_gateway.shapes import LiveSubscription
from .statuses import ENDED, LIVE, PAID_UP, SUSPENDED


def choose(found: Iterable[LiveSubscription]) -> LiveSubscription | None:
    """The first by active or trialing, past due, suspended, ended.

    Within a class live ones go oldest first (a second one is the surplus), others newest first. So the end of
    an abandoned trial cannot lock out a paying customer.
    """
    return min(found, key=_order, default=None)


def live_ones(found: Iterable[LiveSubscription]) -> tuple[LiveSubscription, ...]:
    """Those that are billed, oldest first."""
    return tuple(sorted((each for each in found if each.status in LIVE), key=lambda each: (each.created, each.id)))


def _order(found: LiveSubscription) -> tuple[int, float, tuple[int, ...]]:
    born = found.created.timestamp()
    letters = tuple(found.id.encode())
    if found.status in LIVE:
        return (0 if found.status in PAID_UP else 1), born, letters
    rank = 2 if found.status in SUSPENDED else 3 if found.status in ENDED else 4
    return rank, -born, tuple(-letter for letter in letters)
