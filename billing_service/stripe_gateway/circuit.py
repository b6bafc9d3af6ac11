"""The circuit to Stripe: after failures in a row, calls are refused at once instead of waiting for timeouts.

One per process; it knows successes and failures, not what they are about.
"""

import threading
import time
from collections.abc import Callable
from typing import Literal

from ..errors import StripeCircuitOpen
from ..observability import CIRCUIT_OPEN

FAILURES_TO_OPEN = 5
PROBE_SECONDS = 1.0

State = Literal["closed", "open", "half_open"]


class Circuit:
    """Closed until five failures in a row; open, it admits one probe a second; the first success closes it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic):
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures = 0
        self._last_probe_at: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        """`half_open` while a probe is under way and not older than a second."""
        with self._lock:
            if self._last_probe_at is None:
                return "closed"
            return "half_open" if self._probing and not self._probe_is_due() else "open"

    def admit(self) -> None:
        """Let a request through, or raise StripeCircuitOpen."""
        with self._lock:
            if self._last_probe_at is None:
                return
            if not self._probe_is_due():
                raise StripeCircuitOpen(
                    f"Stripe failed {FAILURES_TO_OPEN} times in a row; calls are paused and one a second is tried."
                    " Try again.",
                    retry_after=PROBE_SECONDS,
                )
            # By time, not by the probe's end: a probe that was killed must not hold the circuit open.
            self._last_probe_at = self._monotonic()
            self._probing = True

    def succeeded(self) -> None:
        """Stripe answered, be it with a refusal."""
        with self._lock:
            if self._last_probe_at is not None:
                CIRCUIT_OPEN.set(0)
            self._failures = 0
            self._last_probe_at = None
            self._probing = False

    def failed(self) -> None:
        """A timeout, a broken connection, a 5xx or an answer that is not Stripe's."""
        with self._lock:
            self._failures += 1
            self._probing = False
            if self._failures >= FAILURES_TO_OPEN and self._last_probe_at is None:
                self._last_probe_at = self._monotonic()
                CIRCUIT_OPEN.set(1)

    def _probe_is_due(self) -> bool:
        assert self._last_probe_at is not None
        return self._monotonic() - self._last_probe_at >= PROBE_SECONDS
