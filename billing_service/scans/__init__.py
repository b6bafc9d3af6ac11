"""A long run over Stripe's list of subscriptions: one holder at a time, windows with cursors, outages, ends, for
whatever is done with what is listed.
"""

from .holding import Desk, Hold, LostLease, Stop, store_alone
from .turn import Phases, go_on
from .windows import attend, cursor_after, next_page, read_windows, windows_between

__all__ = [
    "Desk",
    "Hold",
    "LostLease",
    "Phases",
    "Stop",
    "attend",
    "cursor_after",
    "go_on",
    "next_page",
    "read_windows",
    "store_alone",
    "windows_between",
]
