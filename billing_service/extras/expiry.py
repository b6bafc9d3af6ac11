"""Units that are over: what remains of a lot at its end is booked out, once: each night, or before somebody takes."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bson import ObjectId
from mongoengine import Q

from ..documents import STORE_ERRORS, LedgerEntry
from ..observability import log
from .booking import balance_of, book, enter

PAGE = 100
FIRST = ObjectId("0" * 24)


@dataclass
class Expired:
    """How far expiry has come: the end and the id of the last lot; `complete`: none is left.

    `counts`: expired (lots), units, failed (lots; named in the log).
    """

    since: datetime
    last: ObjectId = FIRST
    complete: bool = False
    counts: Counter = field(default_factory=Counter)


def find_expired(now: datetime, *, since: datetime, last: ObjectId = FIRST) -> Any:
    """Lots that are over and hold units, the earliest end first, after the given place."""
    after = Q(expires_at__gt=since) | Q(expires_at=since, id__gt=last)
    lots = LedgerEntry.objects(Q(remaining__gt=0, expires_at__gte=since, expires_at__lte=now) & after)
    return lots.order_by("expires_at", "id")


def expire(done: Expired, *, now: datetime, stop: Callable[[], bool]) -> Expired:
    """Book out what is over, from where `done` ends, until none is left or `stop()`. Raises STORE_ERRORS."""
    while not done.complete:
        lots = list(find_expired(now, since=done.since, last=done.last).limit(PAGE))
        done.complete = len(lots) < PAGE
        for position, lot in enumerate(lots):
            _expire(lot, now, done.counts)
            done.since, done.last = lot.expires_at, lot.pk
            if stop():
                done.complete = done.complete and position == len(lots) - 1
                return done
    return done


def find_ended(org_ids: Iterable[ObjectId], now: datetime) -> Any:
    """Lots of organizations that are over and hold units: nobody may use them, though they are not booked out yet."""
    return LedgerEntry.objects(organization__in=list(org_ids), remaining__gt=0, expires_at__lte=now)


def expire_ended(org_id: ObjectId, now: datetime) -> None:
    """Book out what is over of an organization, inside the caller's transaction, which is about to take from it."""
    for lot in find_ended([org_id], now):
        enter(_expiration(lot, now))


def spendable_of(org_id: ObjectId, now: datetime) -> int:
    """The balance without what is over, in units; negative: owed."""
    balance = balance_of(org_id)
    return balance - sum(find_ended([org_id], now).scalar("remaining")) if balance > 0 else balance


def _expiration(lot: LedgerEntry, now: datetime) -> dict[str, Any]:
    about = {name: getattr(lot, name) for name in ("organization", "payment_intent", "charge")}
    what = {"kind": "expiration", "units": -lot.remaining, "ref": f"expiration:{lot.pk}", "lot": lot.pk}
    return about | what | {"amount": 0, "at": now}


def _expire(lot: LedgerEntry, now: datetime, counts: Counter) -> None:
    """Whatever was spent since the lot was read stays spent: the entry takes at most what remains by then."""
    try:
        booked = book(_expiration(lot, now))
    except STORE_ERRORS:
        raise
    except Exception as error:
        # One lot must not hold up the others; it is over tomorrow, too.
        log.error("expiry_failed", alert=True, organization=str(lot.organization), lot=str(lot.pk), exc_info=error)
        counts["failed"] += 1
        return
    counts["expired"] += booked.applied
    counts["units"] += -booked.entry.units if booked.applied else 0
