"""The states of an event, and the only code that moves it from one to another.

Every transition names the lease owner and the attempt it was made under; a holder whose condition fails has
lost the event and writes nothing. Times are the database's clock (`$$NOW`): the processes' clocks differ.
"""

from .claims import (
    LEASE_LOSSES,
    claim,
    claim_replay,
    count_due,
    has_due,
    oldest_due,
    release,
    renew,
    return_expired,
    seconds_to_next,
)
from .ends import (
    OUTAGE_LIMIT,
    UNKNOWN_OWNER,
    LeaseLost,
    Settlement,
    ask_replay,
    bury,
    close,
    defer,
    fail,
    settle,
    settle_all,
    wake_unknown,
)
from .lines import HISTORY, KEPT, LEASE, Trial, trial_of

__all__ = [
    "HISTORY",
    "KEPT",
    "LEASE",
    "LEASE_LOSSES",
    "OUTAGE_LIMIT",
    "UNKNOWN_OWNER",
    "LeaseLost",
    "Settlement",
    "Trial",
    "ask_replay",
    "bury",
    "claim",
    "claim_replay",
    "close",
    "count_due",
    "defer",
    "fail",
    "has_due",
    "oldest_due",
    "release",
    "renew",
    "return_expired",
    "seconds_to_next",
    "settle",
    "settle_all",
    "trial_of",
    "wake_unknown",
]
