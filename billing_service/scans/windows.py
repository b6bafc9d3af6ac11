"""Windows of Stripe's list, read side by side, a page at a time. What becomes of a page is its reader's."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

from ..documents import ScanWindow
from ..errors import StripeMissing
from ..stripe_gateway import Read
from ..stripe_gateway.translation import malformed
from .holding import Hold, Stop

BEAT_SECONDS = 0.25
SECOND = timedelta(seconds=1)

Page = TypeVar("Page")


def windows_between(edges: Iterable[datetime]) -> list[ScanWindow]:
    """The windows between edges, the newest first; an edge belongs to the window that begins with it."""
    spans = list(pairwise(sorted(set(edges))))
    until = spans[-1][1]
    ends = [high if high == until else high - SECOND for _, high in spans]
    return [ScanWindow(since=low, until=end, at=end) for (low, _), end in zip(spans, ends, strict=True)][::-1]


def next_page(window: ScanWindow, ask: Callable[..., Read[Page]]) -> Read[Page]:
    """The next page of a window; if the object of its cursor is gone, the same place by its time, some of it again."""
    upper = window.until if window.after else window.at
    created = {"gte": int(window.since.timestamp()), "lte": int(upper.timestamp())}
    try:
        return ask(created=created, starting_after=window.after)
    except StripeMissing:
        if window.after is None:
            raise
    window.after = None
    return next_page(window, ask)


def cursor_after(window: ScanWindow, ids: Sequence[str], *, more: bool) -> str | None:
    """The cursor behind a page that shows these ids.

    Raises StripeUnavailable of a list that does not go on: that is not its end, and must not be read for ever.
    """
    last = str(ids[-1]) if ids else window.after
    if more and last == window.after:
        raise malformed("its list says there is more and does not go on", writes=False)
    return last


def read_windows(hold: Hold[Any, Any], read: Callable[[int, Stop], None], stop: Stop, threads: int) -> bool:
    """Read all windows, some at a time, each by `read` in a thread until it is done or has to halt; whether all are.

    Raises what a reader raises.
    """
    halt = threading.Event()

    def read_one(number: int) -> None:
        # Said in each thread: the class of a request belongs to the thread that makes it.
        with hold.desk.stripe.background():
            read(number, halt.is_set)

    left = [number for number, window in enumerate(hold.run.windows) if not window.done]
    with ThreadPoolExecutor(threads, thread_name_prefix=hold.noun) as pool:
        attend(hold, [pool.submit(read_one, number) for number in left], halt.set, stop)
    return all(window.done for window in hold.run.windows)


def attend(
    hold: Hold[Any, Any], threads: Sequence[Future[None]], halt: Callable[[], Any], stop: Stop = lambda: False
) -> None:
    """Keep the lease while threads work; when one has failed, or it is time to stop, `halt` ends the others.

    Raises what failed.
    """
    try:
        while wait(threads, timeout=BEAT_SECONDS).not_done:
            hold.pulse()
            if stop() or any(map(_has_failed, threads)):
                halt()
    finally:
        halt()
    for each in threads:
        if not each.cancelled():
            each.result()


def _has_failed(thread: Future[None]) -> bool:
    return thread.done() and not thread.cancelled() and thread.exception() is not None
