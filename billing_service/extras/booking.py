"""The one way an entry gets into the ledger of extras: once for its reference, and the balance moves with it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from bson import ObjectId
from mongoengine import Q
from mongoengine.errors import NotUniqueError
from pymongo.errors import DuplicateKeyError

from ..documents import ExtraBalance, LedgerEntry, in_transaction
from ..errors import Conflict

TRIES = 8
GIVES = frozenset({"topup", "refund_reversed", "settlement"})
TAKES = frozenset({"debit", "refund", "expiration"})
# Booked although it moves nothing: that it was seen, and its money, count for the next one.
EMPTY_TOO = frozenset({"refund", "refund_reversed", "debit"})
NEVER = datetime.max.replace(tzinfo=UTC)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Booked:
    """The entry in the ledger, and the balance in units before and now. `applied`: it was not there before."""

    entry: LedgerEntry
    applied: bool
    before: int
    balance: int


def book(fields: Mapping[str, Any], also: Callable[[Booked], None] | None = None) -> Booked:
    """Book an entry in a transaction of its own, which `also` joins; `fields` as in `enter`.

    What `also` raises undoes all of it. Raises Conflict if others were first every time.
    """

    def write() -> Booked:
        booked = enter(fields)
        if also:
            also(booked)
        return booked

    return in_turn(write, f"The extras of {fields['organization']}")


def in_turn(work: Callable[[], Result], what: str) -> Result:
    """Run `work`, which enters bookings, in a transaction: anew when somebody else was first. Raises Conflict."""
    for attempt in range(TRIES):
        try:
            return in_transaction(work)
        except (DuplicateKeyError, NotUniqueError):
            # Booked by somebody else meanwhile, or the organization's first two entries at once.
            time.sleep(0.01 * 2**attempt)
    raise Conflict(f"{what} were changed by others {TRIES} times. Try again.")


def enter(fields: Mapping[str, Any]) -> Booked:
    """Book an entry inside the caller's transaction: what was booked before for the same reference stands.

    `fields` are the entry's but `remaining`; `units` are signed, an expiration takes at most what remains of its lot.
    Raises DuplicateKeyError or NotUniqueError when somebody else was first: then the transaction is to be run again.
    """
    entry = LedgerEntry(**fields)
    known = find_entry(entry.ref, entry.refund_request_id)
    if entry.kind == "expiration":
        entry.units = -min(-entry.units, _remaining_of(entry.lot))
    if known or (entry.units == 0 and entry.kind not in EMPTY_TOO):
        balance = balance_of(entry.organization)
        return Booked(known or entry, False, balance, balance)
    if (entry.units > 0 and entry.kind in TAKES) or (entry.units < 0 and entry.kind in GIVES):
        raise ValueError(f"{entry.ref}: {entry.units} units are none of a {entry.kind}")
    # Before the lots are read: whoever else books for this organization conflicts here, and one of the two starts over.
    moved = ExtraBalance.objects(organization=entry.organization).modify(upsert=True, new=True, inc__units=entry.units)
    before, balance = moved.units - entry.units, moved.units
    if min(before, balance) < 0:
        _write_claimed(entry, moved.claimed, before, balance)
    # What is owed is paid first; only what is above nothing can be used, or expire.
    usable = max(0, balance) - max(0, before)
    if usable < 0:
        _take_from_lots(entry, -usable)
    elif entry.units > 0:
        entry.remaining = usable
    entry.save(force_insert=True)
    return Booked(entry, True, before, balance)


def _write_claimed(entry: LedgerEntry, claimed: int, before: int, balance: int) -> None:
    """Of what is owed, what refunds and disputes caused; money that comes back undoes that first, other units last."""
    moved = max(0, -balance) - max(0, -before)
    takes_money = entry.kind == "refund" or entry.ref.startswith("dispute:")
    returns_money = entry.kind == "refund_reversed" or entry.ref.startswith("dispute_credit:")
    wanted = claimed + moved if (takes_money and moved > 0) or (returns_money and moved < 0) else claimed
    now_claimed = min(max(0, wanted), max(0, -balance))
    if now_claimed != claimed:
        ExtraBalance.objects(organization=entry.organization).update_one(set__claimed=now_claimed)


def overflow_owed(org_id: ObjectId) -> int:
    """The units that usage beyond the quotas of past weeks owes; what refunds and disputes took is not among them."""
    found = ExtraBalance.objects(organization=org_id, units__lt=0).first()
    return max(0, -found.units - found.claimed) if found else 0


def find_entry(ref: str, refund_request_id: str | None = None) -> LedgerEntry | None:
    """The entry with this reference, or asked for by this id."""
    wanted = Q(ref=ref) | Q(refund_request_id=refund_request_id) if refund_request_id else Q(ref=ref)
    return LedgerEntry.objects(wanted).first()


def balance_of(org_id: ObjectId) -> int:
    """The organization's extras in units; negative: owed."""
    return ExtraBalance.objects(organization=org_id).scalar("units").first() or 0


def _remaining_of(lot: ObjectId | None) -> int:
    return LedgerEntry.objects(id=lot).scalar("remaining").first() or 0


def _take_from_lots(entry: LedgerEntry, units: int) -> None:
    """Take from the lot that the entry is about, what came back of its payment, then from what expires first.

    So a payment's lots never hold more than it gave less what was taken of it, whatever came back in between.
    """
    names = ("remaining", "expires_at", "at", "payment_intent")

    def place(lot: LedgerEntry) -> tuple:
        own = entry.payment_intent is not None and lot.payment_intent == entry.payment_intent
        return lot.pk != entry.lot, not own, lot.expires_at or NEVER, lot.at, lot.pk

    lots = LedgerEntry.objects(organization=entry.organization, remaining__gt=0).only(*names)
    for lot in sorted(lots, key=place):
        taken = min(units, lot.remaining)
        LedgerEntry.objects(id=lot.pk).update_one(inc__remaining=-taken)
        units -= taken
        if units == 0:
            return
    raise ArithmeticError(f"{entry.ref}: the lots of {entry.organization} are short of {units} units")
