"""The calendar as data, all times UTC, and what to change so that it is what Redis holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from crontab import CronTab

ENTRY = "cron-"


@dataclass(frozen=True)
class Row:
    """A periodic job. `catch_up`: a slot that nobody ran is run once, later; else the next slot does its work."""

    job: str
    cron: str
    function: str
    catch_up: bool = True

    def latest_slot(self, now: datetime) -> datetime:
        """The last time at or before `now` that the job was due."""
        whole = now.astimezone(UTC).replace(microsecond=0, tzinfo=None)
        # The library's `previous` is strictly before.
        slot = CronTab(self.cron).previous(now=whole + timedelta(seconds=1), default_utc=True, return_datetime=True)
        return slot.replace(tzinfo=UTC)

    def next_slot(self, now: datetime) -> datetime:
        """The first time after `now` that the job is due."""
        whole = now.astimezone(UTC).replace(microsecond=0, tzinfo=None)
        return CronTab(self.cron).next(now=whole, default_utc=True, return_datetime=True).replace(tzinfo=UTC)


SCHEDULE: tuple[Row, ...] = (
    Row("sweep", "* * * * *", "billing_service.jobs.sweep.sweep", catch_up=False),
    # Not on the hour, when everybody's jobs ask Stripe.
    Row("missed_events", "7 * * * *", "billing_service.jobs.missed_events.missed_events"),
    Row("weekly_reset", "0 1 * * *", "billing_service.jobs.weekly_reset.weekly_reset"),
    Row("extras_expiry", "0 2 * * *", "billing_service.jobs.extras_expiry.extras_expiry"),
    Row("dunning", "0 3 * * *", "billing_service.jobs.dunning.dunning"),
    Row("reconcile", "0 3 * * 0", "billing_service.jobs.reconcile.reconcile"),
)


@dataclass(frozen=True)
class Entry:
    """What Redis holds of a row: the tick that claims the row's slots."""

    cron: str
    function: str
    args: tuple[str, ...]
    queue: str
    timeout: int


@dataclass(frozen=True)
class Difference:
    """What to add, to replace and to remove, by the entries' ids."""

    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def row_of(job: str) -> Row | None:
    """The row of a job, None if the calendar does not have it any more."""
    return next((row for row in SCHEDULE if row.job == job), None)


def difference(wanted: Mapping[str, Entry], found: Mapping[str, Entry | None]) -> Difference:
    """Compare what should be registered with what is; None is an entry that could not be read.

    Only ids of ours are looked at: what else is scheduled there belongs to somebody else.
    """
    return Difference(
        missing=tuple(sorted(wanted.keys() - found.keys())),
        changed=tuple(sorted(key for key in wanted.keys() & found.keys() if wanted[key] != found[key])),
        gone=tuple(sorted(key for key in found.keys() - wanted.keys() if key.startswith(ENTRY))),
    )
