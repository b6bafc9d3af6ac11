"""What a failure of an event is worth: whether it counts, what is told of it, and what it has in common with others."""

import re

from .. import errors
from ..documents import STORE_ERRORS, driver_error
from ..observability import mask

# Not the event's fault: it waits without using an attempt. A bad or missing key is among them, because every
# event of an hour would be dead before somebody has corrected it.
OUTAGES: tuple[type[Exception], ...] = (
    errors.StripeUnavailable,
    errors.StripeRateLimited,
    errors.StripeCircuitOpen,
    errors.StripeIdempotencyConflict,
    errors.StripeMisconfigured,
    errors.StripeNotConfigured,
    errors.Conflict,
    errors.StoreUnavailable,
    *STORE_ERRORS,
)

MESSAGE_LENGTH = 1000
_ADDRESS = re.compile(r"[^\s@<>\"'(),:;]+@[^\s@<>\"'(),:;]+")
_VARIABLE = re.compile(
    r"\b[a-z]{2,12}(?:_test|_live)?_[A-Za-z0-9]{6,}\b"  # Stripe's ids
    r"|\b[0-9a-f]{24}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\d+"
)


def is_outage(error: Exception) -> bool:
    """Whether something else than the event or its handler failed."""
    if isinstance(error, OUTAGES) or isinstance(driver_error(error), STORE_ERRORS):
        return True
    # A transaction that collided until the driver gave up carries this label.
    return any(
        getattr(each, "has_error_label", lambda label: False)("TransientTransactionError")
        for each in (error, driver_error(error))
    )


def message_of(error: BaseException) -> str:
    """The error's words, without secrets and e-mail addresses and of bounded length."""
    # A lone surrogate in a message could not be stored.
    text = str(error).encode("utf-8", "replace").decode()
    return _ADDRESS.sub("[e-mail]", mask(text))[:MESSAGE_LENGTH]


def fingerprint_of(error: BaseException) -> str:
    """The same for failures that differ in ids and numbers only."""
    return f"{type(error).__name__}: {_VARIABLE.sub('#', message_of(error))}"[:200]
