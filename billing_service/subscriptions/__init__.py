"""The organization's subscription: which one it is, what it means, and the one way it is written."""

from .cancel_follow_up import follow_up_cancels
from .cancellation import Wanted, cancel, outcome_of
from .comparison import Live, read_live
from .convergence import converge, stored_row
from .decision import Change, describe
from .synchronization import (
    change_outcome,
    follow,
    lift_expired_overrides,
    link,
    require_organization,
    require_row,
    sync,
    verify_due,
)
from .verdict import Comparison, actions, compare

__all__ = [
    "Change",
    "Comparison",
    "Live",
    "Wanted",
    "actions",
    "cancel",
    "change_outcome",
    "compare",
    "converge",
    "describe",
    "follow",
    "follow_up_cancels",
    "lift_expired_overrides",
    "link",
    "outcome_of",
    "read_live",
    "require_organization",
    "require_row",
    "stored_row",
    "sync",
    "verify_due",
]
