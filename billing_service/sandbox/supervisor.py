"""Several children as one: started together, restarted when they die, stopped in reverse order.

It runs in one thread, the main one, because the kernel's death signal is tied to the thread that forks.
"""

import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from billing_service.sandbox import dev_orphans
from billing_service.sandbox.dev_child import POLL_SECONDS, CannotStart, Child

DEATHS_ALLOWED = 5
DEATHS_WITHIN_SECONDS = 60.0
RESTART_DELAYS = (0.0, 1.0, 2.0, 4.0)
TICK_SECONDS = 0.1
HOUSEKEEPING_SECONDS = 5.0
PATIENCE_SECONDS = 1.0


class Interrupted(BaseException):
    """Somebody asked us to stop."""


@dataclass(eq=False)
class _Watched:
    child: Child
    deaths: deque[float] = field(default_factory=deque)
    start_at: float | None = None
    ready_by: float | None = None


class Supervisor:
    """`say` is told, in words, what becomes of the children."""

    def __init__(self, say: Callable[[str], None]):
        self.say = say
        self.stopping = False
        self._watched: list[_Watched] = []
        self._tidied_at = 0.0
        self._patient_until = 0.0

    def take_signals(self) -> None:
        """SIGTERM raises Interrupted wherever we are; another one later, while stopping, kills what still runs."""
        signal.signal(signal.SIGTERM, self._interrupt)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def _interrupt(self, signum: int, frame: object) -> None:
        now = time.monotonic()
        if not self.stopping:
            self.stopping, self._patient_until = True, now + PATIENCE_SECONDS
            raise Interrupted
        # One wish to stop may arrive twice at once, from the process in front and from its sender.
        if now > self._patient_until:
            for each in self._watched:
                if each.child.process:
                    each.child.process.kill()

    def start(self, *children: Child) -> None:
        """Start all, return when all answer; raises CannotStart for the first that dies or stays silent."""
        waiting = {}
        for child in children:
            child.rotate_log()
            self._watched.append(_Watched(child))
            child.start()
            waiting[child] = time.monotonic() + child.ready_seconds
        while waiting:
            for child in list(waiting):
                if child.check_ready(deadline=waiting[child]):
                    del waiting[child]
                    self.say(f"{child.name} is up (pid {child.pid})")
            time.sleep(POLL_SECONDS)

    def run_once(self, child: Child) -> None:
        """Run a child that ends by itself; raises CannotStart when it fails or takes longer than its ready_seconds."""
        child.rotate_log()
        self._watched.append(once := _Watched(child))
        child.start()
        deadline = time.monotonic() + child.ready_seconds
        while child.is_running and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if child.is_running:
            raise CannotStart(f"{child.name} took longer than {child.ready_seconds:.0f} seconds.", child.log_tail())
        if child.process and child.process.returncode != 0:
            raise CannotStart(f"{child.name} {child.death()}.", child.log_tail())
        self._watched.remove(once)

    def watch(self, changed: Callable[[], None], look_around: Callable[[], None]) -> None:
        """Keep them running for ever; raises CannotStart after five deaths of one within a minute.

        `changed` is called when one is back, `look_around` every few seconds.
        """
        while True:
            for each in self._watched:
                self._look_at(each, changed)
            self._tidy(look_around)
            time.sleep(TICK_SECONDS)

    def _look_at(self, each: _Watched, changed: Callable[[], None]) -> None:
        child, now = each.child, time.monotonic()
        if each.start_at is not None:
            if now >= each.start_at:
                child.start()
                each.start_at, each.ready_by = None, now + child.ready_seconds
        elif not child.is_running:
            self._note_death(each, now)
        elif each.ready_by is not None and child.is_ready():
            each.ready_by = None
            self.say(f"{child.name} is back (pid {child.pid})")
            changed()
        elif each.ready_by is not None and now > each.ready_by:
            self.say(f"{child.name} does not answer, so it is killed")
            child.kill()

    def _note_death(self, each: _Watched, now: float) -> None:
        each.deaths.append(now)
        while each.deaths[0] < now - DEATHS_WITHIN_SECONDS:
            each.deaths.popleft()
        how = f"{each.child.name} {each.child.death()}"
        if len(each.deaths) >= DEATHS_ALLOWED:
            raise CannotStart(f"{how}, for the fifth time within a minute.", each.child.log_tail())
        self._end_orphans()
        delay = RESTART_DELAYS[len(each.deaths) - 1]
        each.start_at = now + delay
        self.say(f"{how}; it is started again" + (f" in {delay:.0f} s" if delay else ""))

    def _tidy(self, look_around: Callable[[], None]) -> None:
        if time.monotonic() < self._tidied_at + HOUSEKEEPING_SECONDS:
            return
        self._tidied_at = time.monotonic()
        self._end_orphans()
        for each in self._watched:
            each.child.bound_log()
        look_around()

    def _end_orphans(self) -> None:
        dev_orphans.end_all(but=[each.child.pid for each in self._watched if each.child.pid])

    def stop(self) -> None:
        """Stop all in reverse order, each with its grace, then whatever they left."""
        self.stopping = True
        for each in reversed(self._watched):
            each.child.stop()
        dev_orphans.end_all()
