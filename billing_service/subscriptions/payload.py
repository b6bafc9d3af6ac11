"""Whether an event's own picture of a subscription is certainly newer than the row, or certainly older.

Pure. Stripe's `created` is in whole seconds, its reads lag and its clocks differ: what is in doubt is looked up.
"""

from datetime import datetime, timedelta

from ..documents import Subscription
from ..plans import Plans
from ..stripe_gateway.shapes import LiveSubscription
from .decision import DOUBT, Change, decide
from .observation import Observation, belongs
from .statuses import ENDED, PAID_UP

FRESH = timedelta(seconds=60)
# `created` and `seen_until` are cut off to the second: in the same one either may have been first.
SECOND = timedelta(seconds=1)


def is_superseded(row: Subscription, subscription_id: str | None, created: datetime) -> bool:
    """Whether the row was looked up after an event of its subscription, by more than the doubt."""
    return bool(row.as_of) and row.stripe_subscription_id == subscription_id and created < row.as_of - DOUBT


def arrived_fresh(created: datetime, received_at: datetime) -> bool:
    """Whether an event reached us soon after it was created."""
    return -DOUBT <= received_at - created <= FRESH


def is_certain(row: Subscription, sent: LiveSubscription, created: datetime) -> bool:
    """Whether the payload `sent` is the next state of the row, without a look at anything else.

    Only a subscription that is paid up and stands alone is: any other end decides anew which one counts.
    """
    return (
        row.stripe_subscription_id == sent.id
        and row.stripe_customer_id == sent.customer
        and row.seen_until is not None
        and created - row.seen_until >= SECOND
        and row.status not in ENDED
        and row.customer_deleted_at is None
        and not row.candidates
        and sent.status in PAID_UP
        and belongs(sent, row)
    )


def decide_from_payload(
    row: Subscription, sent: LiveSubscription, created: datetime, *, plans: Plans, now: datetime
) -> Change | None:
    """The row's next state from an event's payload; None when it brings to light what wants a look at Stripe."""
    seen = Observation(chosen=sent, as_of=created, seen_until=created, found=(sent,), complete=False)
    change = decide(row, seen, plans=plans, now=now, source="webhook")
    return None if change.noticed else change
