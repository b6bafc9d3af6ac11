"""The organization's subscription: which one it is, what it means, and the one way it is written."""

from .cancel_follow_up import follow_up_cancels
from .cancel_target import Wanted
from .cancellation import cancel, foretell, outcome_of
from .comparison import Live, read_live
from .convergence import LostRace, commit_all, converge, stored_row
from .decision import Change
from .dunning import Dunned, find_overdue, suspend_overdue
from .observation import MARKER, named_organization
from .override import bump
from .synchronization import (
    OF_STRIPE,
    change_outcome,
    follow,
    lift_expired_overrides,
    link,
    next_verify_at,
    require_organization,
    require_row,
    sync,
    verify_due,
)
from .verdict import Comparison, actions, compare

__all__ = [
    "MARKER",
    "OF_STRIPE",
    "Change",
    "Comparison",
    "Dunned",
    "Live",
    "LostRace",
    "Wanted",
    "actions",
    "bump",
    "cancel",
    "change_outcome",
    "commit_all",
    "compare",
    "converge",
    "find_overdue",
    "follow",
    "follow_up_cancels",
    "foretell",
    "lift_expired_overrides",
    "link",
    "named_organization",
    "next_verify_at",
    "outcome_of",
    "read_live",
    "require_organization",
    "require_row",
    "stored_row",
    "suspend_overdue",
    "sync",
    "verify_due",
]
