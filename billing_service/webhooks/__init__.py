"""Stripe's webhooks: recorded once (intake), kept in a ledger (ledger), handled later (dispatch, handlers).

Whose event it is stands in ownership; what a failure is worth in failures.
"""

from .dispatch import handle, handle_due
from .handlers import HANDLERS, Desk
from .intake import Receipt, receive
from .ownership import wake_attached, wake_organization

__all__ = ["HANDLERS", "Desk", "Receipt", "handle", "handle_due", "receive", "wake_attached", "wake_organization"]
