"""Writing what arrives at the same time together, as databases commit: one round trip and one flush for all.

Nobody waits for company. Who comes first writes at once, alone; who comes meanwhile is written together next.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Row = TypeVar("Row")
End = TypeVar("End")


class Interrupted(Exception):
    """Whoever wrote for all that waited was stopped; what became of the rows is not known."""


class _Waiting(Generic[Row, End]):
    """A row whose thread sleeps until it is written, or until it is its turn to write for all that wait."""

    def __init__(self, row: Row):
        self.row = row
        self.end: End | None = None
        self.error: BaseException | None = None
        self.leads = False
        # A bare lock: an Event costs several times as much.
        self.gate = threading.Lock()
        self.gate.acquire()


class GroupCommit(Generic[Row, End]):
    """`write` gets all rows that wait and returns the end of each; it is never called by two threads at once."""

    def __init__(self, write: Callable[[Sequence[Row]], Sequence[End]]):
        self._write = write
        self._lock = threading.Lock()
        self._waiting: list[_Waiting[Row, End]] = []
        self._busy = False

    def put(self, row: Row) -> End:
        """The end of the row, once it is written. Raises what `write` raised for all that it wrote together."""
        mine: _Waiting[Row, End] = _Waiting(row)
        with self._lock:
            self._waiting.append(mine)
            leads, self._busy = not self._busy, True
        if not leads:
            self._wait(mine)
        if leads or mine.leads:
            self._write_waiting()
        if mine.error is not None:
            raise mine.error
        return mine.end  # type: ignore[return-value]

    def _wait(self, mine: _Waiting[Row, End]) -> None:
        try:
            mine.gate.acquire()
        except BaseException:
            with self._lock:
                if mine in self._waiting and not mine.leads:
                    self._waiting.remove(mine)
            if mine.leads:  # the others rely on it
                self._write_waiting()
            raise

    def _write_waiting(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        try:
            for each, end in zip(batch, self._write([each.row for each in batch]), strict=True):
                each.end = end
        except Exception as error:
            for each in batch:
                each.error = error
        except BaseException:
            for each in batch:
                each.error = Interrupted()
            raise
        finally:
            self._hand_over(batch)

    def _hand_over(self, batch: list[_Waiting[Row, End]]) -> None:
        with self._lock:
            self._busy = bool(self._waiting)
            if self._busy:
                self._waiting[0].leads = True
                self._waiting[0].gate.release()
        for each in batch:
            each.gate.release()
