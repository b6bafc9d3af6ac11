"""Giving disputed extras back: once for each dispute, after it was won at Stripe, at most what it had taken."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from ..documents import LedgerEntry
from ..errors import (
    BillingError,
    ChargeUnknown,
    CreditRequestMismatch,
    DisputeNotWon,
    InvalidRequest,
    NothingToCredit,
    SeveralDisputes,
)
from ..operations import Outcome
from ..stripe_gateway import LiveCharge, LiveDispute, StripeGateway
from ..subscriptions import named_organization, require_organization, stored_row
from .booking import Booked, balance_of, enter, find_entry, in_turn
from .lifetimes import expiry_of_returned
from .payments import CREDIT, Account, Payment, account_of, begin_look
from .payments import DISPUTE as DEBIT


@dataclass(frozen=True)
class Wanted:
    """What the admin asked for: `amount` in minor units; without a dispute the charge's only one that can be credited.

    The same `refund_request_id` is always the same credit.
    """

    charge_id: str
    amount: int
    refund_request_id: str
    dispute_id: str | None = None


def credit_dispute(
    org_id: ObjectId,
    wanted: Wanted,
    *,
    stripe: StripeGateway,
    now: datetime,
    actor: str,
    note: str | None,
    also: Callable[[Outcome], None],
) -> Outcome:
    """Give the units of a won dispute back; one that was credited before is left as it is.

    `also` joins the transaction. Raises OrganizationNotFound, ChargeUnknown, DisputeNotWon, NothingToCredit,
    SeveralDisputes, CreditRequestMismatch, InvalidRequest (too much, or less than a unit), and what the gateway raises.
    """
    require_organization(org_id)
    known = LedgerEntry.objects(refund_request_id=wanted.refund_request_id).first()
    if known:
        return _unchanged(known, org_id, wanted)
    told = {"actor": actor, "memo": note}
    charge, disputes = _look(org_id, wanted, stripe)

    def write() -> Booked:
        # Here, because refunds that are booked meanwhile change how much comes back.
        begin_look(charge.payment_intent)
        booked = enter(_credit(org_id, wanted, charge, disputes, now) | told)
        also(_outcome(booked, org_id, wanted))
        return booked

    return _outcome(in_turn(write, f"The extras of {org_id}"), org_id, wanted)


def foretell_credit(org_id: ObjectId, wanted: Wanted, *, stripe: StripeGateway, now: datetime) -> Outcome:
    """What a credit would book, with the same refusals; nothing is written."""
    require_organization(org_id)
    known = LedgerEntry.objects(refund_request_id=wanted.refund_request_id).first()
    if known:
        return _unchanged(known, org_id, wanted)
    entry = LedgerEntry(**_credit(org_id, wanted, *_look(org_id, wanted, stripe), now))
    known, balance = find_entry(entry.ref), balance_of(org_id)
    if known:
        return _unchanged(known, org_id, wanted)
    return _outcome(Booked(entry, True, balance, balance + entry.units), org_id, wanted)


def _look(org_id: ObjectId, wanted: Wanted, stripe: StripeGateway) -> tuple[LiveCharge, tuple[LiveDispute, ...]]:
    """The charge and its disputes at Stripe."""
    charge = stripe.charge(wanted.charge_id).value
    _refuse_foreign(org_id, charge)
    return charge, stripe.disputes_of(charge.id).value


def _credit(
    org_id: ObjectId, wanted: Wanted, charge: LiveCharge, disputes: Iterable[LiveDispute], now: datetime
) -> dict[str, Any]:
    """The fields of the entry that the credit comes to."""
    account = account_of(Payment(org_id, charge.payment_intent or "", charge.id, charge.amount_paid, charge.currency))
    debit = _find_debit(org_id, wanted, disputes, account)
    return {
        "organization": org_id,
        "kind": "adjustment",
        "units": _units(debit, wanted, account),
        "ref": CREDIT + debit.ref.removeprefix(DEBIT),
        "amount": wanted.amount,
        "currency": debit.currency,
        "charge": charge.id,
        "payment_intent": charge.payment_intent,
        "refund_request_id": wanted.refund_request_id,
        "lot": debit.lot,
        "at": now,
        "expires_at": expiry_of_returned(debit, now),
    }


def _refuse_foreign(org_id: ObjectId, charge: LiveCharge) -> None:
    """Raise ChargeUnknown unless the ledger, the organization's customers or the charge itself say that it paid it."""
    row = stored_row(org_id)
    customers = {row.stripe_customer_id, *(each.stripe_customer_id for each in row.candidates)} if row else set()
    if (charge.customer and charge.customer in customers) or named_organization(charge.metadata) == org_id:
        return
    paid = charge.payment_intent and LedgerEntry.objects(payment_intent=charge.payment_intent, organization=org_id)
    if not paid or not paid.first():
        raise ChargeUnknown(f"{charge.id} was not paid by organization {org_id}. Nothing was credited.")


def _find_debit(
    org_id: ObjectId, wanted: Wanted, disputes: Iterable[LiveDispute], account: Account | None
) -> LedgerEntry:
    """The entry of the dispute that was won and gives something back, or has done so."""
    named = [each for each in disputes if wanted.dispute_id in (None, each.id)]
    won = [each.id for each in named if each.status == "won"]
    if not won:
        shown = ", ".join(f"{each.id} ({each.status})" for each in named) or "none"
        raise DisputeNotWon(
            f"Stripe shows no won dispute of {wanted.charge_id}: {shown}. Nothing was credited. Only money that came "
            "back is credited; the signal dispute_reinstated tells of it."
        )
    refs = [DEBIT + each for each in won]
    found = LedgerEntry.objects(ref__in=refs, organization=org_id, amount__gt=0)
    debits = [each for each in found if _credit_of(each) or _comes_back(each, each.amount, account)]
    if not debits and any(_taken(each) for each in found):
        raise _paid_out(wanted)
    if not debits:
        raise NothingToCredit(
            f"The dispute {', '.join(won)} took no extras of organization {org_id} here, so there are none to give "
            "back. If it did at Stripe, its event charge.dispute.funds_withdrawn was not handled yet: replay it."
        )
    if len(debits) > 1:
        raise SeveralDisputes(
            f"More than one dispute of {wanted.charge_id} was won. Nothing was credited. Name one as disputeId.",
            disputes=[{"id": each.ref.removeprefix(DEBIT), "amountCents": each.amount} for each in debits],
        )
    return debits[0]


def _credit_of(debit: LedgerEntry) -> LedgerEntry | None:
    return find_entry(CREDIT + debit.ref.removeprefix(DEBIT))


def _comes_back(debit: LedgerEntry, amount: int, account: Account | None) -> int:
    """The units that go with so much of the money; the debit's own, if it is in no top-up's account."""
    if account and debit.ref in account.booked:
        return account.credit(amount, debit.amount)
    return _taken(debit) * amount // debit.amount


def _taken(debit: LedgerEntry) -> int:
    """The units that a dispute took, those of a refund that failed while it held the money as well."""
    of_payment = LedgerEntry.objects(payment_intent=debit.payment_intent) if debit.payment_intent else ()
    return -debit.units - sum(each.units for each in of_payment if each.ref.startswith(f"{debit.ref}:"))


def _units(debit: LedgerEntry, wanted: Wanted, account: Account | None) -> int:
    """The units that come back with the amount; of a dispute that was credited before it does not matter."""
    amount = wanted.amount
    if amount > debit.amount:
        most = f"is more than the {debit.amount} that the dispute withdrew"
        raise InvalidRequest(f"{amount} {most}. Nothing was credited.", errors={"amountCents": [most]})
    units = _comes_back(debit, amount, account)
    if units or _credit_of(debit):
        return units
    if account and account.share_of(amount, debit.amount):
        raise _paid_out(wanted)
    raise InvalidRequest(
        f"{amount} of the {debit.amount} withdrawn is less than one unit. Nothing was credited.",
        errors={"amountCents": ["is less than one unit"]},
    )


def _paid_out(wanted: Wanted) -> BillingError:
    return NothingToCredit(
        f"Refunds or other disputes of {wanted.charge_id} have taken away what the dispute gave back, so its units are "
        "gone. Nothing was credited."
    )


def _unchanged(entry: LedgerEntry, org_id: ObjectId, wanted: Wanted) -> Outcome:
    balance = balance_of(org_id)
    return _outcome(Booked(entry, False, balance, balance), org_id, wanted)


def _outcome(booked: Booked, org_id: ObjectId, wanted: Wanted) -> Outcome:
    """The answer of endpoint 4.9. Raises CreditRequestMismatch if the id was used for another credit."""
    entry = booked.entry
    dispute_id = entry.ref.removeprefix(CREDIT)
    same = (entry.organization, entry.charge, entry.amount) == (org_id, wanted.charge_id, wanted.amount)
    if entry.refund_request_id == wanted.refund_request_id and not (same and wanted.dispute_id in (None, dispute_id)):
        raise CreditRequestMismatch(
            f"{wanted.refund_request_id} was used for another organization, charge, dispute or amount. Nothing was "
            "credited. Another credit needs an id of its own."
        )
    return Outcome(
        {
            "organization": org_id,
            "dispute_id": dispute_id,
            "charge_id": entry.charge,
            "refund_request_id": entry.refund_request_id,
            "amount_cents": entry.amount,
            "currency": entry.currency,
            "units": entry.units,
            "applied": booked.applied,
            "previous": {"units": booked.before},
            "updated": {"units": booked.balance},
            "changed": ["units"] if booked.applied else [],
        }
    )
