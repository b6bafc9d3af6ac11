"""Refunds: asked for once (requests), sent and looked for (asking, refunding), settled by whoever learns what became of
them (settling): the answer, the sweep (follow_up), an event (events). Charges: whose they are, what is left of them.
"""

from .charges import find_charge, list_charges, owner_of
from .events import follow, told_by
from .follow_up import follow_up_refunds
from .refunding import foretell, refund
from .requests import MARKER, Wanted, find_requests
from .settling import Seen

__all__ = [
    "MARKER",
    "Seen",
    "Wanted",
    "find_charge",
    "find_requests",
    "follow",
    "follow_up_refunds",
    "foretell",
    "list_charges",
    "owner_of",
    "refund",
    "told_by",
]
