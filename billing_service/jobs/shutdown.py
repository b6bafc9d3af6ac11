"""Whether this process was asked to stop, for loops that must end soon and in good order."""

import contextlib
import select
import signal
import socket
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Requests:
    """Signals seen so far. RQ replaces handlers of ours by its own; the wake-up descriptor hears all the same."""

    def __init__(self) -> None:
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._seen = False

    def listen(self) -> None:
        """Hear SIGTERM and SIGINT from now on; from the main thread only, and again after RQ has had its way."""
        if self._pair is None:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)
            signal.set_wakeup_fd(self._pair[1].fileno(), warn_on_full_buffer=False)
        for each in STOPPING:
            signal.signal(each, _ignore)

    def seen(self) -> bool:
        """Whether a stop was requested; never, where nobody listens."""
        if self._pair:
            with contextlib.suppress(BlockingIOError):
                self._seen |= any(each in STOPPING for each in self._pair[0].recv(4096))
        return self._seen

    def wait(self, seconds: float) -> bool:
        """Wait, at most until a stop is requested; returns whether it was."""
        if self._pair and not self.seen():
            select.select([self._pair[0]], [], [], seconds)
        return self.seen()


_requests = Requests()

listen = _requests.listen
requested = _requests.seen
wait = _requests.wait


def _ignore(signum: int, frame: FrameType | None) -> None:
    """The descriptor has it."""
