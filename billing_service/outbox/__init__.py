"""What others are told: the SaaS's backend, people, listeners in the process. Stored first, sent later."""

from . import listeners
from .audiences import PEOPLE
from .leases import count_due, waiting
from .receivers import Receiver, receivers_of, rests
from .sending import seconds_to_next, send_due
from .storing import KEPT, put, signal

__all__ = [
    "KEPT",
    "PEOPLE",
    "Receiver",
    "count_due",
    "listeners",
    "put",
    "receivers_of",
    "rests",
    "seconds_to_next",
    "send_due",
    "signal",
    "waiting",
]
