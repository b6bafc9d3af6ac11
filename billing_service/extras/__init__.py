"""Prepaid extras: the ledger that holds them (booking), packs that were bought (topups), money that went back
(payments), units that are over (expiry), and disputed ones given back (dispute_credit).
"""

from .booking import Booked, balance_of, book, enter, find_entry, in_turn, overflow_owed
from .dispute_credit import Wanted, credit_dispute, foretell_credit
from .expiry import Expired, expire, expire_ended, find_ended, find_expired, spendable_of
from .payments import Dispute, Payment, Refund, foresee_payment, settle_payment
from .topups import PackRefused, TopUp, book_top_up, find_top_up, read_top_up

__all__ = [
    "Booked",
    "Dispute",
    "Expired",
    "PackRefused",
    "Payment",
    "Refund",
    "TopUp",
    "Wanted",
    "balance_of",
    "book",
    "book_top_up",
    "credit_dispute",
    "enter",
    "expire",
    "expire_ended",
    "find_ended",
    "find_entry",
    "find_expired",
    "find_top_up",
    "foresee_payment",
    "foretell_credit",
    "in_turn",
    "overflow_owed",
    "read_top_up",
    "settle_payment",
    "spendable_of",
]
