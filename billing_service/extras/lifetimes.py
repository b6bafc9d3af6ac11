"""How long units last that are given back."""

from datetime import datetime

from ..documents import LedgerEntry


def expiry_of_returned(taking: LedgerEntry, now: datetime) -> datetime | None:
    """As long as they would have lasted when `taking` took them; those of a lot that was over do not expire."""
    expires_at = LedgerEntry.objects(id=taking.lot).scalar("expires_at").first() if taking.lot else None
    return now + (expires_at - taking.at) if expires_at and expires_at > taking.at else None
