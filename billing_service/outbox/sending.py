"""Telling everybody of the signals that are due: listeners, people, the SaaS's backend; each at least once."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from ..documents import OutboxSignal
from ..observability import SIGNALS, log
from . import leases, listeners
from .audiences import KINDS, LISTENERS, names_for
from .messages import message_of
from .receivers import Receiver, rests, tell

UNKNOWN_NAME = "this version knows no signal of this name"


class Turn:
    """One slice: who is still told in it.

    A receiver is left out for the rest of it after it was found to be away, or when it has used up its share of
    the time: a slow one must not hold up the others.
    """

    def __init__(self, receivers: Iterable[Receiver], clock: Callable[[], datetime], share_seconds: float):
        self.receivers = tuple(receivers)
        self.clock = clock
        self.share_seconds = share_seconds
        self._left_out: set[str] = set()
        self._seconds: dict[str, float] = defaultdict(float)

    def asks(self, receiver: Receiver) -> bool:
        return receiver.name not in self._left_out and not rests.left(receiver)

    def tell(self, receiver: Receiver, row: OutboxSignal) -> str | None:
        """Send the signal to one receiver; returns what went wrong."""
        answer = tell(receiver, row, now=self.clock())
        self._seconds[receiver.name] += answer.seconds
        if answer.away_seconds:
            rests.begin(receiver, answer.away_seconds)
        if answer.away_seconds or self._seconds[receiver.name] >= self.share_seconds:
            self._left_out.add(receiver.name)
        SIGNALS.labels(row.name, receiver.name, "failed" if answer.error else "sent").inc()
        return answer.error


def send_due(
    receivers: Iterable[Receiver],
    *,
    clock: Callable[[], datetime],
    stop: Callable[[], bool],
    share_seconds: float = math.inf,
) -> Counter:
    """Send what is due until nothing is left that can be sent now, or `stop()`; returns how many came to which end.

    `share_seconds` is how much of the time one receiver may use. Raises STORE_ERRORS.
    """
    ends: Counter = Counter()
    turn = Turn(receivers, clock, share_seconds)
    while not stop():
        row = leases.claim(_only_waiting(turn.receivers, turn.asks))
        if row is None:
            break
        ends[_send(row, turn, stop)] += 1
    return ends


def seconds_to_next(receivers: Sequence[Receiver]) -> float | None:
    """How long until something can be sent, 0 if it can now; None if nothing waits."""
    waits = [leases.seconds_to_next(_only_waiting(receivers, lambda each: not rests.left(each)))]
    waits += [seconds for each in receivers if (seconds := rests.left(each))]
    return min((seconds for seconds in waits if seconds is not None), default=None)


def _send(row: OutboxSignal, turn: Turn, stop: Callable[[], bool]) -> str:
    """Tell everybody who was not told yet; returns the end of this attempt."""
    kind = KINDS.get(row.name)
    if kind is None:  # not lost: a newer version that is being rolled out may have stored it
        return _failed(row, UNKNOWN_NAME)
    if LISTENERS not in row.sent_to:
        listeners.tell(message_of(row))
        if not leases.mark(row, LISTENERS):
            return "lease_lost"
    failures, waiting = [], False
    for receiver in turn.receivers:
        if receiver.name not in kind.audiences or receiver.name in row.sent_to:
            continue
        if stop() or not turn.asks(receiver):
            waiting = True
            continue
        error = turn.tell(receiver, row)
        if error:
            failures.append(error)
        elif not leases.mark(row, receiver.name):
            return "lease_lost"
    if failures:
        return _failed(row, "; ".join(failures))
    return leases.release(row) if waiting else leases.settle(row)


def _failed(row: OutboxSignal, error: str) -> str:
    end = leases.back_off(row, error)
    about = {"signal": row.name, "signal_id": str(row.pk), "attempt": row.attempts + 1, "error": error}
    if end == "given_up":
        log.error("signal_given_up", alert=True, **about)
    else:
        log.warning("signal_not_sent", **about)
    return end


def _only_waiting(receivers: Sequence[Receiver], asks: Callable[[Receiver], bool]) -> dict[str, Any]:
    """A filter that leaves out the signals which wait for nobody but receivers that are not asked now."""
    absent = [_needed_by(each) for each in receivers if not asks(each)]
    if not absent:
        return {}
    present = [_needed_by(each) for each in receivers if asks(each)]
    waiting: dict[str, Any] = {"sent_to": LISTENERS, "$or": absent}
    return {"$nor": [waiting | ({"$nor": present} if present else {})]}


def _needed_by(receiver: Receiver) -> dict[str, Any]:
    return {"name": {"$in": names_for(receiver.name)}, "sent_to": {"$ne": receiver.name}}
