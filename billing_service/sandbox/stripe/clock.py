"""The sandbox's own clock: real time plus an offset that only grows, or stopped, for who wants the same times again.

Billing may hold it still at a past due time.
"""

from __future__ import annotations

import time
from contextlib import contextmanager


class Clock:
    def __init__(self, store):
        self.store = store
        self.held_at: int | None = None
        self.reload()

    def reload(self):
        self.offset = self.store.value("clock_offset") or 0
        self.stopped_at: float | None = None

    def now(self) -> int:
        return self.held_at if self.held_at is not None else int(self.exact())

    def exact(self) -> float:
        return (time.time() if self.stopped_at is None else self.stopped_at) + self.offset

    def stop(self):
        self.stopped_at = time.time()

    def move(self, seconds: float):
        if seconds < 0:
            raise ValueError("the clock moves forward only")
        self.offset += seconds
        self.store.keep("clock_offset", self.offset)

    @contextmanager
    def held(self, at: int):
        """Work that was due at `at` is stamped with that time, as with Stripe's test clocks."""
        before, self.held_at = self.held_at, at
        try:
            yield
        finally:
            self.held_at = before
