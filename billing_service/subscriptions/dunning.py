"""Dunning: who has not paid for too long loses the plan, and Stripe is asked before that.

Nothing here brings a plan back: a payment does (whatever look sees it), or an override.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bson import ObjectId

from ..documents import EPOCH, STORE_ERRORS, Subscription
from ..errors import StripeMissing
from ..observability import log
from ..plans import Plans
from ..stripe_gateway import StripeGateway
from .convergence import converge
from .observation import Observation, observe
from .synchronization import OF_STRIPE, tell_of

PAGE = 100


@dataclass
class Dunned:
    """How far dunning has come: `seen` are the rows at the time `since` that are done; `complete`: none is left.

    `counts`: suspended, kept (paid, or decided otherwise, by now), failed (could not be decided; named in the log).
    """

    since: datetime
    seen: list[ObjectId] = field(default_factory=list)
    complete: bool = False
    outage: bool = False
    counts: Counter = field(default_factory=Counter)

    def passed(self, row: Subscription) -> None:
        """The row is done; the next one is at the same time or later."""
        if row.past_due_since > self.since:
            self.since, self.seen = row.past_due_since, []
        self.seen.append(row.pk)


def find_overdue(overdue_since: datetime, *, since: datetime = EPOCH, but: list[ObjectId] | None = None) -> Any:
    """Rows past due since then or before and not suspended, the longest first, without their other fields."""
    found = Subscription.objects(
        status="past_due", past_due_since__gte=since, past_due_since__lte=overdue_since, suspended_at=None
    )
    return (
        (found.filter(id__nin=but) if but else found).only("organization", "past_due_since").order_by("past_due_since")
    )


def suspend_overdue(
    done: Dunned,
    *,
    overdue_since: datetime,
    stripe: StripeGateway,
    plans: Plans,
    now: datetime,
    stop: Callable[[], bool],
) -> Dunned:
    """Suspend, from where `done` ends, until none is left, `stop()`, or Stripe or the key fails.

    At least one row is looked at. Raises STORE_ERRORS.
    """
    while not done.complete:
        rows = list(find_overdue(overdue_since, since=done.since, but=done.seen).limit(PAGE))
        done.complete = not rows
        for row in rows:
            try:
                done.counts[_suspend(row.organization, overdue_since, stripe=stripe, plans=plans, now=now)] += 1
            except OF_STRIPE as error:
                log.warning("dunning_waits", organization=str(row.organization), code=error.code)
                done.outage = True
                return done
            except STORE_ERRORS:
                raise
            except Exception as error:
                # One row that cannot be decided must not hold up the others; nothing is taken from it.
                tell_of("dunning_postponed", row, error)
                done.counts["failed"] += 1
            done.passed(row)
            if stop():
                return done
    return done


def _suspend(org_id: ObjectId, overdue_since: datetime, *, stripe: StripeGateway, plans: Plans, now: datetime) -> str:
    """Decide which subscription is the organization's and whether it is still overdue; "suspended" or "kept"."""

    def look(row: Subscription) -> Observation:
        seen = observe(stripe, row)
        if seen.chosen is None:
            raise StripeMissing(f"Stripe shows no subscription of organization {org_id}; nothing was written.")
        return seen

    change = converge(org_id, look, plans=plans, now=now, source="dunning", overdue_since=overdue_since)
    if change.updated["suspended_at"] is None:
        return "kept"
    log.info("subscription_suspended", organization=str(org_id), plan=change.updated["plan"])
    return "suspended"
