"""A pack that was paid for by a Checkout Session: what it gives, and why it cannot be said."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId

from ..documents import LedgerEntry
from ..plans import Plans
from ..stripe_gateway import LiveCheckoutSession
from .booking import Booked, enter

TOPUP = "topup:"


class PackRefused(Exception):
    """Nobody can say what was bought; nothing was credited. `reason` is pack_unknown or pack_mismatch."""

    def __init__(self, reason: str, words: str, session: LiveCheckoutSession):
        super().__init__(words)
        self.reason = reason
        self.session = session


@dataclass(frozen=True)
class TopUp:
    """The units that a session bought; `amount` (minor units of `currency`) is what was paid, after discounts."""

    organization: ObjectId
    session: str
    pack: str
    units: int
    amount: int | None
    currency: str | None
    payment_intent: str | None
    expires_at: datetime

    @property
    def ref(self) -> str:
        return TOPUP + self.session


def read_top_up(session: LiveCheckoutSession, organization: ObjectId, *, plans: Plans, paid_at: datetime) -> TopUp:
    """What a paid session bought, by the plan file. Raises PackRefused."""
    pack_id = session.metadata.get("packId")
    pack = plans.pack(pack_id)
    if pack is None:
        named = f"names the pack {pack_id!r}, which is not in the plan file" if pack_id else "names no packId"
        words = f"{session.id} {named}. Nothing was credited. Add the pack to the file of BILLING_PLANS, then replay."
        raise PackRefused("pack_unknown", words, session)
    # Discounts and taxes are Stripe's own account of the difference; another price or a second piece are not.
    if (session.amount_subtotal, session.currency) != (pack.amount, pack.currency.lower()):
        raise PackRefused(
            "pack_mismatch",
            f"{session.id} is over {session.amount_subtotal} {session.currency} before discounts, and one {pack.id} "
            f"costs {pack.amount} {pack.currency} by the plan file. Nothing was credited. If the price in the plan "
            "file is wrong correct it, then replay; else refund the payment at Stripe.",
            session,
        )
    return TopUp(
        organization,
        session.id,
        pack.id,
        pack.units,
        session.amount_total,
        session.currency,
        session.payment_intent,
        paid_at + timedelta(days=pack.expires_after_days),
    )


def book_top_up(bought: TopUp, now: datetime) -> Booked:
    """Credit a pack inside the caller's transaction, once for its session."""
    return enter(
        {
            "organization": bought.organization,
            "kind": "topup",
            "units": bought.units,
            "ref": bought.ref,
            "amount": bought.amount,
            "currency": bought.currency,
            "session": bought.session,
            "payment_intent": bought.payment_intent,
            "memo": bought.pack,
            "at": now,
            "expires_at": bought.expires_at,
        }
    )


def find_top_up(payment_intent: str | None) -> LedgerEntry | None:
    """The entry that a payment topped up by."""
    return LedgerEntry.objects(payment_intent=payment_intent, kind="topup").first() if payment_intent else None
