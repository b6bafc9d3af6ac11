"""Keeping a lease while work goes on: one slow answer of Stripe takes longer than any of them."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from ..observability import log


@contextlib.contextmanager
def renewed(renew: Callable[[], object], *, every: float, what: str) -> Iterator[None]:
    """Call `renew` every so many seconds until the block ends; one that fails is logged, the next may succeed."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(every):
            try:
                renew()
            except Exception as error:
                log.warning("lease_not_renewed", what=what, error=type(error).__name__)

    thread = threading.Thread(target=keep, name=f"{what}-renewal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
