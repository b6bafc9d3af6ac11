"""Rows for an existing Stripe account: all is listed, whose it is is made out, each organization gets its row.

Nothing is written at Stripe, nothing is guessed: what cannot be mapped is listed with its reason.
"""

from .holding import Desk
from .reading import find_import, items_of
from .reasons import REASONS
from .run import Wanted, go_on, interrupt, running, start

__all__ = ["REASONS", "Desk", "Wanted", "find_import", "go_on", "interrupt", "items_of", "running", "start"]
