"""Who may send a signal now, and what becomes of it: the only code that moves `next_attempt_at`.

A claim is a lease by the database's clock: it moves `next_attempt_at` to the lease's end, so that a signal whose
sender died is due again by itself. Whatever a sender writes names its lease.
"""

import random
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from mongoengine import QuerySet

from ..documents import EPOCH, OutboxSignal, database_now

# More than two receivers' timeouts.
LEASE = timedelta(seconds=60)
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 3600.0
TRIED_FOR = timedelta(days=3)
COUNTED = 1000

Filter = Mapping[str, Any]


def unsent(but: Filter | None = None) -> QuerySet:
    """Signals that wait or are leased, the longest due first; `but` are those to leave where they are."""
    # The bound is what the partial index is filtered by; without it the index would not be used.
    return OutboxSignal.objects(next_attempt_at__gt=EPOCH, __raw__=dict(but or {})).order_by("next_attempt_at")


def claim(but: Filter | None = None) -> OutboxSignal | None:
    """Lease the signal that has been due for longest; the row as it was before, with the lease's owner."""
    now, owner = database_now(), uuid.uuid4().hex
    row = unsent(but).filter(next_attempt_at__lte=now).modify(set__lease_owner=owner, set__next_attempt_at=now + LEASE)
    if row is not None:
        row.lease_owner = owner
    return row


def mark(row: OutboxSignal, receiver: str) -> bool:
    """Record that a receiver was told; False if another sender holds the signal now."""
    return bool(_held(row).update_one(add_to_set__sent_to=receiver))


def settle(row: OutboxSignal) -> str:
    """Everybody was told."""
    told = _held(row).update_one(
        set__sent_at=database_now(), inc__attempts=1, unset__failing_since=True, unset__last_error=True, **_FREE
    )
    return "sent" if told else "lease_lost"


def back_off(row: OutboxSignal, error: str) -> str:
    """Not everybody could be told: later again, each time later, and after three days no more."""
    now = database_now()
    since = row.failing_since or now
    failed = {"set__last_error": error, "set__failing_since": since, "inc__attempts": 1}
    if now - since > TRIED_FOR:
        return "given_up" if _held(row).update_one(**failed, **_FREE) else "lease_lost"
    seconds = min(FIRST_PAUSE * 2 ** min(row.attempts, 12), LONGEST_PAUSE) * random.uniform(0.8, 1.2)  # noqa: S311
    again = now + timedelta(seconds=seconds)
    held = _held(row).update_one(**failed, set__next_attempt_at=again, unset__lease_owner=True)
    return "failed" if held else "lease_lost"


def release(row: OutboxSignal) -> str:
    """Give a signal back as it was: those that it still waits for are left alone at the moment."""
    held = _held(row).update_one(set__next_attempt_at=row.next_attempt_at, unset__lease_owner=True)
    return "waiting" if held else "lease_lost"


def count_due() -> int:
    """How many signals are due and not leased; counted to a thousand."""
    return unsent().filter(next_attempt_at__lte=database_now()).limit(COUNTED).count(with_limit_and_skip=True)


def waiting() -> tuple[int, datetime | None]:
    """How many signals wait, counted to a thousand, and since when the first of those cannot be sent."""
    rows = unsent().only("failing_since").limit(COUNTED)
    since = [row.failing_since for row in rows]
    return len(since), min((each for each in since if each), default=None)


def seconds_to_next(but: Filter | None = None) -> float | None:
    """How long until the next signal is due or its lease ends, 0 if one is due; None if none waits."""
    row = unsent(but).only("next_attempt_at").first()
    return None if row is None else max(0.0, (row.next_attempt_at - database_now()).total_seconds())


_FREE = {"unset__next_attempt_at": True, "unset__lease_owner": True}


def _held(row: OutboxSignal) -> QuerySet:
    return OutboxSignal.objects(id=row.pk, lease_owner=row.lease_owner)
