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
from .expiry import expire_ended, find_ended
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


def settle_payment(payment: Payment, now: datetime, *, metered: bool = False) -> list[Booked]:
    """Book what refunds and disputes of a payment take and give back, inside the caller's transaction.

    What was booked before stands, so a payment can be settled by every event of it, in any order. `metered`
    (METER_MODE): what is over by `now` has expired, and is not taken.
    """
    # Written by every look: of two at once one starts over and reads what the other has booked and learnt. A refund
    # that failed is remembered, because an older look may come later and show it as it was before.
    lot = LedgerEntry.objects(payment_intent=payment.payment_intent, kind="topup").modify(
        new=True, inc__looks=1, add_to_set__failed_refunds=payment.failed
    )
    if metered:
        expire_ended(lot.organization, now)
    account = Account(lot, LedgerEntry.objects(payment_intent=payment.payment_intent), payment)
    booked = []
    for fields in account.due(lot.failed_refunds):
        if fields["kind"] == "refund_reversed":
            took = account.booked[REFUND + fields["ref"].removeprefix(REVERSED)]
            fields["expires_at"] = expiry_of_returned(took, now)
        booked.append(enter(fields | {"at": now}))
    return booked


def account_of(payment: Payment) -> "Account | None":
    """The account of a payment as it is booked; None if it topped up nothing."""
    lot = find_top_up(payment.payment_intent)
    return Account(lot, LedgerEntry.objects(payment_intent=payment.payment_intent), payment) if lot else None


def begin_look(payment_intent: str | None) -> None:
    """Of this transaction and another that looks at the payment one starts over, also if neither moves a unit."""
    if payment_intent:
        LedgerEntry.objects(payment_intent=payment_intent, kind="topup").update_one(inc__looks=1)


def foresee_payment(payment: Payment, now: datetime, *, metered: bool = False) -> int:
    """How many units settling would move, those that are over by `now` among them; nothing is written."""
    lot = LedgerEntry.objects(payment_intent=payment.payment_intent, kind="topup").first()
    account = Account(lot, LedgerEntry.objects(payment_intent=payment.payment_intent), payment)
    ended = list(find_ended([lot.organization], now)) if metered else []
    account.expired += sum(each.remaining for each in ended if each.payment_intent == payment.payment_intent)
    moved = sum(fields["units"] for fields in account.due([*lot.failed_refunds, *payment.failed]))
    return moved - sum(each.remaining for each in ended)


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
            covered = self.gone + dispute.amount > self.payment.amount and not self._goes_with(dispute.amount)
            if DISPUTE + dispute.id not in self.booked and not covered:
                found.append(self._take("debit", DISPUTE + dispute.id, dispute.amount))
        return found

    def back_with(self, amount: int) -> int:
        """The units that are taken too many once this money is back."""
        return max(0, self.taken - self._target(self.gone - amount))

    def credit(self, amount: int, withdrawn: int) -> int:
        """The units that come back with `amount` of what a dispute has withdrawn; less than its share of what all of
        it would give back, if other money that is gone has a claim on them.
        """
        return min(self.share_of(amount, withdrawn), self.back_with(amount))

    def share_of(self, amount: int, withdrawn: int) -> int:
        """The part of the units which come back with all of a dispute's money, rounded down."""
        return self.back_with(withdrawn) * amount // withdrawn

    def _goes_with(self, amount: int) -> int:
        """The units that go with so much more money: no more than are left after what expired of them."""
        wanted = self._target(self.gone + amount) - self.taken
        return max(0, min(wanted, self.lot.units - self.taken - self.expired))

    def _target(self, gone: int) -> int:
        return self.lot.units * min(gone, self.payment.amount) // self.payment.amount

    def _take(self, kind: str, ref: str, amount: int) -> dict[str, Any]:
        units = self._goes_with(amount)
        self.gone += amount
        self.taken += units
        return self._fields(kind, ref, -units, amount)

    def _give_back(self, refund: Refund) -> list[dict[str, Any]]:
        """The units of a refund that failed; those that a dispute could not take for its money become the dispute's."""
        entry = self.booked[REFUND + refund.id]
        wanting = self.gone > self.payment.amount or self.taken < self._target(self.gone)
        units = self.back_with(refund.amount)
        self.gone -= refund.amount
        self.taken -= units
        held = max(0, -entry.units - units)
        dispute = self._open_dispute() if wanting and held else None
        moved = held if dispute else 0
        found = [self._fields("refund_reversed", REVERSED + refund.id, units + moved, refund.amount)]
        if dispute:
            found.append(self._fields("debit", f"{dispute.ref}:{refund.id}", -moved, 0))
        return found

    def _open_dispute(self) -> LedgerEntry | None:
        """A dispute whose money is gone and that was not credited."""
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
