"""Usage: what was recorded of it (recording), what it leaves (entitlement), and the new week (reset)."""

from .entitlement import ALLOWED, CODES, Entitlement, entitlement_of
from .measured import KEPT
from .recording import record
from .reset import Place, Reset, find_due, reset_due
from .settlement import settle

__all__ = [
    "ALLOWED",
    "CODES",
    "KEPT",
    "Entitlement",
    "Place",
    "Reset",
    "entitlement_of",
    "find_due",
    "record",
    "reset_due",
    "settle",
]
