"""Who may sign in, and how long what they were given stands."""

from .passwords import LONGEST, SHORTEST, digest
from .sessions import SESSION, SESSION_LASTS, USER, VERSION, is_revoked, refreshing, revoke, use_once
from .throttle import Attempt, claim, forget_email, succeeded
from .users import change, create, find_by_email, foretell_change, foretell_create, sign_in

__all__ = [
    "LONGEST",
    "SESSION",
    "SESSION_LASTS",
    "SHORTEST",
    "USER",
    "VERSION",
    "Attempt",
    "change",
    "claim",
    "create",
    "digest",
    "find_by_email",
    "foretell_change",
    "foretell_create",
    "forget_email",
    "is_revoked",
    "refreshing",
    "revoke",
    "sign_in",
    "succeeded",
    "use_once",
]
