"""Money of a top-up that went back, by refunds and disputes, and the units that go with it.

Units taken = units of the top-up x money gone / money paid, rounded down over all of it together: whatever the order
and the number of refunds and disputes, all of the money takes exactly all of the units, and never more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from ..documents import LedgerEntry
from .booking import Booked, enter
from .lifetimes import expiry_of_returned
from .topups import find_top_up

REFUND, REVERSED, DISPUTE, CREDIT = "refund:", "refund_reversed:", "dispute:", "dispute_credit:"


@dataclass(frozen=True)
class Refund:
    """A refund at Stripe; `failed` says that its money stayed here, which never changes again."""

    id: str
    amount: int
    created: datetime
    failed: bool


@dataclass(frozen=True)
class Dispute:
    """A dispute that took its money."""

    id: str
    amount: int
    created: datetime


@dataclass(frozen=True)
class Payment:
    """A charge that paid for a top-up, as Stripe shows it; amounts are minor units of `currency`."""

    organization: ObjectId
    payment_intent: str
    charge: str
    amount: int
    currency: str
    refunds: tuple[Refund, ...] = ()
    disputes: tuple[Dispute, ...] = ()

    @property
    def failed(self) -> list[str]:
        return [each.id for each in self.refunds if each.failed]


def settle_payment(payment: Payment, now: datetime) -> list[Booked]:
    """Book what refunds and disputes of a payment take and give back, inside the caller's transaction.

    What was booked before stands, so a payment can be settled by every event of it, in any order.
    """
    # Written by every look: of two at once one starts over and reads what the other has booked and learnt. A refund
    # that failed is remembered, because an older look may come later and show it as it was before.
    lot = LedgerEntry.objects(payment_intent=payment.payment_intent, kind="topup").modify(
        new=True, inc__looks=1, add_to_set__failed_refunds=payment.failed
    )
    account = Account(lot, LedgerEntry.objects(payment_intent=payment.payment_intent), payment)
    booked = []
    for fields in account.due(lot.failed_refunds):
        if fields["kind"] == "refund_reversed":
            took = account.booked[REFUND + fields["ref"].removeprefix(REVERSED)]
            fields["expires_at"] = expiry_of_returned(took, now)
        booked.append(enter(fields | {"at": now}))
    return booked


def left_to_credit(payment: Payment, amount: int) -> int | None:
    """How many units at most come back with so much money of a dispute; None: no refund is about the same money.

    What a refund has paid out as well is gone whoever won: its units do not come back.
    """
    lot = find_top_up(payment.payment_intent)
    if lot is None:
        return None
    account = Account(lot, LedgerEntry.objects(payment_intent=payment.payment_intent), payment)
    return account.left_to_credit(amount) if account.gone > payment.amount else None


def foresee_payment(payment: Payment) -> int:
    """How many units settling would move; nothing is written."""
    lot = LedgerEntry.objects(payment_intent=payment.payment_intent, kind="topup").first()
    account = Account(lot, LedgerEntry.objects(payment_intent=payment.payment_intent), payment)
    return sum(fields["units"] for fields in account.due([*lot.failed_refunds, *payment.failed]))


class Account:
    """One payment: the money that is gone, the units that it took, and what is still to be booked."""

    def __init__(self, lot: LedgerEntry, entries: Iterable[LedgerEntry], payment: Payment):
        self.lot, self.payment = lot, payment
        self.booked = {each.ref: each for each in entries if each.kind != "topup"}
        self.gone = sum(_money_gone(each) for each in self.booked.values())
        self.taken = -sum(each.units for each in self.booked.values() if each.kind != "expiration")
        self.expired = -sum(each.units for each in self.booked.values() if each.kind == "expiration")

    def due(self, failed: Sequence[str]) -> list[dict[str, Any]]:
        """The fields of the entries that are missing: what failed first, which makes room for others."""
        found = []
        refunds = sorted(self.payment.refunds, key=lambda each: (each.created, each.id))
        for each in refunds:
            if each.id in failed and REFUND + each.id in self.booked and REVERSED + each.id not in self.booked:
                found += self._give_back(each)
        for each in refunds:
            if each.id not in failed and REFUND + each.id not in self.booked:
                found.append(self._take("refund", REFUND + each.id, each.amount))
        for dispute in sorted(self.payment.disputes, key=lambda each: (each.created, each.id)):
            # While others have taken all that it could take it is not booked: if theirs comes back it takes it.
            covered = self.gone + dispute.amount > self.payment.amount and not self._share(dispute.amount)
            if DISPUTE + dispute.id not in self.booked and not covered:
                found.append(self._take("debit", DISPUTE + dispute.id, dispute.amount))
        return found

    def left_to_credit(self, amount: int) -> int:
        """The units that are taken too many once this money is back."""
        return max(0, self.taken - self._target(self.gone - amount))

    def _share(self, amount: int) -> int:
        """The units that go with so much more money: no more than are left after what expired of them."""
        wanted = self._target(self.gone + amount) - self.taken
        return max(0, min(wanted, self.lot.units - self.taken - self.expired))

    def _target(self, gone: int) -> int:
        return self.lot.units * min(gone, self.payment.amount) // self.payment.amount

    def _take(self, kind: str, ref: str, amount: int) -> dict[str, Any]:
        units = self._share(amount)
        self.gone += amount
        self.taken += units
        return self._fields(kind, ref, -units, amount)

    def _give_back(self, refund: Refund) -> list[dict[str, Any]]:
        """The units of a refund that failed; those whose money a dispute has taken meanwhile become the dispute's."""
        entry = self.booked[REFUND + refund.id]
        overlaps = self.gone > self.payment.amount
        self.gone -= refund.amount
        units = max(0, self.taken - self._target(self.gone))
        self.taken -= units
        held = max(0, -entry.units - units)
        dispute = self._open_dispute() if overlaps and held else None
        moved = held if dispute else 0
        found = [self._fields("refund_reversed", REVERSED + refund.id, units + moved, refund.amount)]
        if dispute:
            found.append(self._fields("debit", f"{dispute.ref}:{refund.id}", -moved, 0))
        return found

    def _open_dispute(self) -> LedgerEntry | None:
        """A dispute that took units and was not credited: a credit gives back all that is under its name."""
        open_ones = (
            entry
            for ref, entry in self.booked.items()
            if ref.startswith(DISPUTE) and entry.amount and CREDIT + ref.removeprefix(DISPUTE) not in self.booked
        )
        return next(open_ones, None)

    def _fields(self, kind: str, ref: str, units: int, amount: int) -> dict[str, Any]:
        return {
            "organization": self.lot.organization,
            "kind": kind,
            "units": units,
            "ref": ref,
            "lot": self.lot.pk,
            "amount": amount,
            "currency": self.payment.currency,
            "payment_intent": self.payment.payment_intent,
            "charge": self.payment.charge,
        }


def _money_gone(entry: LedgerEntry) -> int:
    """What an entry says of the money: it went, or it is back."""
    back = entry.kind in ("refund_reversed", "adjustment")
    counts = back or entry.kind in ("refund", "debit")
    return (-1 if back else 1) * (entry.amount or 0) if counts else 0
