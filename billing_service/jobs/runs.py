"""The runs of periodic jobs: a slot is claimed once, run at most three times, and given up aloud."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from mongoengine.errors import NotUniqueError

from .. import outbox
from ..documents import JobRun, database_now, in_transaction
from ..documents.job_run import OPEN_JOB_STATES
from ..observability import log
from ..webhooks.failures import message_of

START_WITHIN = timedelta(minutes=2)
# RQ ends a job at its timeout; past that its process is gone.
OVERTIME = timedelta(seconds=30)
ATTEMPTS = 3
KEPT = timedelta(days=30)


@dataclass(frozen=True)
class Part:
    """What one go of a long job did, and where the next one begins; without a cursor it was the last.

    With a `pause`, longer than START_WITHIN, the next one is left to the sweep, so long after this one.
    """

    summary: dict[str, Any]
    cursor: dict[str, Any] | None = None
    pause: timedelta | None = None


def slot_name(slot: datetime) -> str:
    """A slot's name, as in `20261122T0300`."""
    return slot.strftime("%Y%m%dT%H%M")


def claim(job: str, slot: str, *, kept: timedelta = KEPT) -> bool:
    """Claim a slot for its first attempt; False if another process has it."""
    now = database_now()
    row = JobRun(
        job=job, slot=slot, state="claimed", claimed_at=now, lease_until=now + START_WITHIN, expires_at=now + kept
    )
    try:
        row.save(force_insert=True)
    except NotUniqueError:
        return False
    return True


def carry_out(
    job: str, slot: str, attempt: int, timeout: int, work: Callable[[dict[str, Any]], Any], *, part: int = 0
) -> Any:
    """Do the work if the slot is claimed for this attempt; its end is recorded either way.

    `work` gets the cursor. If it returns a Part that is not the last, the next one is claimed here.
    """
    now = database_now()
    # Rows of an earlier version have no part.
    mine = JobRun.objects(job=job, slot=slot, attempt=attempt, part__in=[part] if part else [0, None])
    lease_until = now + timedelta(seconds=timeout) + OVERTIME
    row = mine.filter(state="claimed").modify(
        set__state="running", set__started_at=now, set__lease_until=lease_until, new=True
    )
    if row is None:
        log.info("job_run_not_ours", slot=slot, attempt=attempt)
        return None
    try:
        result = work(row.cursor)
    except Exception as error:
        _end(mine, "failed", set__error=f"{type(error).__name__}: {message_of(error)}")
        raise
    if not isinstance(result, Part):
        _end(mine, "succeeded", set__summary=result if isinstance(result, dict) else {}, unset__error=True)
    elif result.cursor is None:
        _end(mine, "succeeded", set__summary=added_up(row.summary, result.summary), unset__error=True)
    else:
        _go_on(mine, row, result)
    return result


def added_up(before: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The summary of two parts: counts are added, of everything else the later one is told."""
    return before | {name: before.get(name, 0) + value if type(value) is int else value for name, value in more.items()}


def _go_on(mine: Any, row: JobRun, done: Part) -> None:
    """Claim the next part, for its first attempt: who gets ahead is not given up for its number of parts."""
    now = database_now()
    written = mine.filter(state="running").update_one(
        set__state="claimed",
        set__part=(row.part or 0) + 1,
        set__attempt=1,
        set__cursor=done.cursor,
        set__summary=added_up(row.summary, done.summary),
        set__lease_until=now + (done.pause or START_WITHIN),
        unset__error=True,
    )
    if not written:
        log.warning("job_run_lost", state="claimed")


def take_up_lost(jobs: frozenset[str]) -> list[JobRun]:
    """Claim, for their next attempt, the runs of `jobs` that failed or whose process is gone.

    A run that used up its attempts is given up, and logged for an alert.
    """
    now = database_now()
    taken = []
    for row in JobRun.objects(job__in=jobs, state__in=OPEN_JOB_STATES).order_by("lease_until"):
        if row.state != "failed" and row.lease_until > now:
            continue
        as_read = JobRun.objects(id=row.pk, state=row.state, attempt=row.attempt, lease_until=row.lease_until)
        if row.attempt >= ATTEMPTS:
            in_transaction(partial(_give_up, row, as_read, now))
        elif as_read.update_one(set__state="claimed", inc__attempt=1, set__lease_until=now + START_WITHIN):
            row.attempt += 1
            taken.append(row)
    return taken


def _give_up(row: JobRun, as_read: Any, now: datetime) -> None:
    if as_read.update_one(set__state="given_up", set__finished_at=now):
        facts = {"job": row.job, "slot": row.slot, "error": row.error}
        outbox.put([outbox.signal("job_given_up", f"job_given_up:{row.job}:{row.slot}", now=now, facts=facts)])
        log.error("job_run_given_up", alert=True, job_name=row.job, slot=row.slot, error=row.error)


def abandon(jobs: frozenset[str]) -> int:
    """Mark runs of `jobs` as given up whose process is gone and whose work the next slot does anyway."""
    lost = JobRun.objects(job__in=jobs, state__in=OPEN_JOB_STATES, lease_until__lte=database_now())
    return lost.update(set__state="given_up", set__finished_at=database_now())


def _end(mine: Any, state: str, **fields: Any) -> None:
    if not mine.filter(state="running").update_one(set__state=state, set__finished_at=database_now(), **fields):
        log.warning("job_run_lost", state=state)
