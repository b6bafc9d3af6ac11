"""An attempt of ours that stops half way, as a slow process does, or one that died there and keeps its leases."""

import threading
from collections.abc import Callable
from typing import Any

from billing_service.errors import BillingError


class Died(BaseException):
    """The end of an attempt that nobody lets go on."""


class Gate:
    """Counts what an attempt meets, stops it at the n-th thing, until somebody opens."""

    def __init__(self, stops_at: int):
        self.left = stops_at
        self.dead = False
        self.stopped = threading.Event()
        self.opened = threading.Event()

    def meet(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.stopped.set()
            if not self.opened.wait(60):
                raise AssertionError("nobody opened the gate")
            if self.dead:
                raise Died


class Gated:
    """Stripe's door with the gate before each request, and between its answer and whoever waits for that."""

    def __init__(self, stripe: Any, gate: Gate):
        self._stripe, self._gate = stripe, gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stripe, name)
        return self._around(found) if callable(found) else found

    def _around(self, request: Callable) -> Callable:
        def asked(*arguments: Any, **named: Any) -> Any:
            self._gate.meet()
            answer = request(*arguments, **named)
            self._gate.meet()
            return answer

        return asked


class Attempt:
    """`work(stripe, clock)` in a thread of its own, which is left behind where it stops."""

    def __init__(self, work: Callable, stripe: Any, clock: Callable, stops_at: int):
        self.error: BaseException | None = None
        self.gate = Gate(stops_at)
        self._work = lambda: work(Gated(stripe, self.gate), self._gated(clock))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        while self._thread.is_alive() and not self.gate.stopped.wait(0.002):
            pass

    def _gated(self, clock: Callable) -> Callable:
        def read() -> Any:
            self.gate.meet()
            return clock()

        return read

    def _run(self) -> None:
        try:
            self._work()
        except (BillingError, Died):
            pass  # refused by name; nothing was written
        except BaseException as error:
            self.error = error

    def die(self) -> None:
        """End it where it stands."""
        self.gate.dead = True
        self.go_on()

    def go_on(self) -> None:
        """Let it run to its end, whatever has happened meanwhile."""
        self.gate.opened.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error
