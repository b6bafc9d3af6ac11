"""What each type of event asks for: one function per kind, registered by type."""

from . import checkout, customers, money, subscriptions  # noqa: F401  (handlers register themselves)
from .registry import HANDLERS, Desk, Errand, handles

__all__ = ["HANDLERS", "Desk", "Errand", "handles"]
