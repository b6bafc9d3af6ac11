"""Prepaid extras: the ledger that holds them (booking), and disputed ones given back (dispute_credit)."""

from .booking import Booked, balance_of, book, enter, find_entry, overflow_owed
from .dispute_credit import Wanted, credit_dispute, foretell_credit

__all__ = [
    "Booked",
    "Wanted",
    "balance_of",
    "book",
    "credit_dispute",
    "enter",
    "find_entry",
    "foretell_credit",
    "overflow_owed",
]
