"""All windows of Stripe's list, read side by side, and how far each is. Nothing is judged here.

What is suspected for nothing costs one more look; what is not suspected is not seen until the next run.
"""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from .. import scans
from ..documents import EPOCH, ReconciliationCandidate, ScanWindow, Subscription
from ..errors import StripeMissing
from ..subscriptions import OF_STRIPE
from .holding import Hold, Suspect
from .pages import compare, moved, read_page, rows_beside
from .picture import UNLISTED

KEEP_SECONDS = 0.25
WINDOWS = 4
# Below so many rows one list after the other is as fast.
ROWS_FOR_WINDOWS = 1_000
ROWS_FOR_DOUBT = 200
SAMPLE = 5


def windows_until(until: datetime) -> list[ScanWindow]:
    """Spans of equally many stored rows, the newest first."""
    rows = Subscription._get_collection()
    told = {"stripe_created_at": {"$gt": EPOCH, "$lte": until}}
    count = rows.count_documents(told)
    edges: list[datetime] = []
    for number in range(1, WINDOWS if count >= ROWS_FOR_WINDOWS else 1):
        at = rows.find(told, {"stripe_created_at": 1, "_id": 0}).sort("stripe_created_at", 1)
        edge = next(at.skip(count * number // WINDOWS).limit(1))["stripe_created_at"]
        edges.append(edge.replace(microsecond=0))
    return scans.windows_between((EPOCH, *edges, until))


def read_listing(hold: Hold, stop: scans.Stop) -> None:
    """Read all windows, each in a thread, until they are done or it is time to stop. Raises what a reader raises."""
    done = scans.read_windows(hold, lambda number, halted: _read_window(hold, number, halted), stop, WINDOWS)
    if _is_doubtful(hold):
        _ask_of_the_key(hold)
    elif done:
        hold.enter("rows")


def _read_window(hold: Hold, number: int, halted: scans.Stop) -> None:
    reader = _Reader(hold, number)
    try:
        while not (halted() or reader.window.done or _is_doubtful(hold)):
            reader.take_step()
    except OF_STRIPE:
        # What was read before Stripe failed is read.
        reader.keep()
        raise
    reader.keep()


class _Reader:
    """Reads one window. What fits is kept a few times in a second, what is suspected at once.

    Whoever dies in between has read some pages for nothing; counts and place are kept together.
    """

    def __init__(self, hold: Hold, number: int):
        self.hold = hold
        self.number = number
        self.window = hold.run.windows[number]
        self._counts: Counter[str] = Counter()
        self._kept_at = time.monotonic()

    def take_step(self) -> None:
        """Read a page and the rows beside it."""
        hold, window = self.hold, self.window
        page = read_page(hold.desk.stripe, window)
        rows = rows_beside(window, page)
        counts, suspects = compare(window, page, rows, hold.desk)
        self._counts.update(counts | {"stripe_requests": 1})
        self.window = moved(window, page)
        # Whether the key can be trusted is asked after the first rows, not some hundreds later.
        if suspects or not hold.run.key_trusted or time.monotonic() - self._kept_at >= KEEP_SECONDS:
            self.keep(suspects)

    def keep(self, suspects: Sequence[Suspect] = ()) -> None:
        """Write down how far it is. Raises LostLease."""
        hold, window = self.hold, self.window
        if not self._counts:
            return
        fields = {name: getattr(window, name) for name in ("at", "after", "settled", "done")}
        sets = {f"windows.{self.number}.{name}": value for name, value in fields.items()}
        hold.commit(inc=dict(self._counts), sets=sets, suspects=suspects)
        hold.run.windows[self.number] = window
        self._counts.clear()
        self._kept_at = time.monotonic()
        if not hold.run.key_trusted and hold.run.rows >= ROWS_FOR_DOUBT and not _is_doubtful(hold):
            # What is missing later on is missing, whatever key it is.
            hold.commit(sets={"key_trusted": True})


def _is_doubtful(hold: Hold) -> bool:
    run = hold.run
    return not run.key_trusted and run.rows >= ROWS_FOR_DOUBT and run.unshown * 2 > run.rows


def _ask_of_the_key(hold: Hold) -> None:
    """Most rows are not listed: is it the right key? If what is not listed does not exist either, the run fails."""
    suspects = ReconciliationCandidate.objects(run=hold.run.pk, seen__endswith=UNLISTED).limit(SAMPLE)
    hidden = [told.split()[0] for each in suspects for told in each.seen if told.endswith(UNLISTED)]
    missing = asked = 0
    with hold.desk.stripe.background():
        for each in hidden:
            hold.pulse()
            asked += 1
            try:
                hold.desk.stripe.subscription(each)
            except StripeMissing:
                missing += 1
    if missing * 2 > asked:
        words = f"{hold.run.unshown} of {hold.run.rows} stored subscriptions are not at Stripe, of {asked} asked for "
        words += f"{missing} do not exist: STRIPE_SECRET_KEY may be of another account or mode."
        hold.end("failed", error=f"stripe_misconfigured: {words}")
    else:
        hold.commit(inc={"stripe_requests": asked}, sets={"key_trusted": True})
