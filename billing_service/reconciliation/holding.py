"""A run that this process holds: what it suspects and what it could not compare are kept with its place."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne

from .. import scans
from ..documents import ReconciliationCandidate, ReconciliationRun
from ..observability import log
from . import telling

SAMPLE = 20
CANDIDATES_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class Desk(scans.Desk):
    """What comparing needs of the running process. `confirm` is how long a difference must last; `meter_mode`: extras
    and usage are compared, too.
    """

    confirm: timedelta
    meter_mode: bool = False


@dataclass(frozen=True)
class Suspect:
    """An organization, or a subscription of nobody we know, of which something may not fit.

    `evidence` is what Stripe said; without `subscriptions` Stripe need not be asked again.
    """

    organization: ObjectId | None
    subscriptions: tuple[str, ...] = ()
    evidence: frozenset[str] = frozenset()

    @property
    def subject(self) -> str:
        return str(self.organization) if self.organization else self.subscriptions[0]


@dataclass(frozen=True)
class Trouble:
    """Something that could not be compared, and why."""

    subject: str
    code: str
    detail: str

    def facts(self) -> dict[str, str]:
        return {"subject": self.subject, "code": self.code, "detail": self.detail[:300]}


class Hold(scans.Hold[ReconciliationRun, Desk]):
    """A run that this process holds."""

    document = ReconciliationRun
    noun = "reconciliation"
    retry_pause = timedelta(seconds=30)

    def commit(
        self,
        also: Callable[[], dict[str, int] | None] | None = None,
        *,
        inc: dict[str, int] | None = None,
        suspects: Iterable[Suspect] = (),
        troubles: Sequence[Trouble] = (),
        **step: Any,
    ) -> None:
        """Record a step, what it suspects and could not compare, and carry out `also`, or nothing. Raises LostLease."""
        suspected = list(suspects)

        def write() -> dict[str, int]:
            return {"candidates": _suspect(self.run.pk, suspected, self.desk)} | ((also and also()) or {})

        if troubles:
            inc = (inc or {}) | {"errors": len(troubles)}
            step["push"] = {"error_sample": {"$each": [each.facts() for each in troubles], "$slice": SAMPLE}}
        super().commit(write, inc=inc, **step)
        for each in troubles:
            log.warning("reconciliation_not_compared", run=str(self.run.pk), **each.facts())

    def end(self, state: str, error: str | None = None, **facts: Any) -> None:
        """The run is over. Raises LostLease."""
        super().end(state, error, **facts)
        if state == "failed":
            log.error("reconciliation_failed", alert=True, run=str(self.run.pk), error=error)

    def ended(self, state: str, error: str | None) -> None:
        """People are told of what they were not told of singly, and that it failed."""
        now = self.desk.clock()
        telling.sum_up(self.run, state, now)
        if state == "failed":
            telling.give_up(self.run, error, now)

    def summary(self) -> dict[str, Any]:
        """What it came to, for the log."""
        return summary_of(self.run)


def summary_of(run: ReconciliationRun) -> dict[str, int]:
    """What a run came to, in numbers."""
    names = ("checked", "divergences", "errors", "new", "changed", "acknowledged", "resolved", "in_flight")
    return {name: getattr(run, name) for name in (*names, "stripe_requests", "candidates")}


def _suspect(run_id: ObjectId, suspects: Sequence[Suspect], desk: Desk) -> int:
    """Store suspects, each subject once; returns how many are new."""
    if not suspects:
        return 0
    now = desk.clock()
    fresh = {
        "first_seen_at": now,
        "due_at": now + desk.confirm,
        "restarts": 0,
        "failures": 0,
        "state": "waiting",
        "expires_at": now + CANDIDATES_KEPT,
    }
    writes = [
        UpdateOne(
            {"run": run_id, "subject": each.subject},
            {
                "$setOnInsert": fresh | {"organization": each.organization},
                "$addToSet": {
                    "seen": {"$each": sorted(each.evidence)},
                    "subscriptions": {"$each": list(each.subscriptions)},
                },
            },
            upsert=True,
        )
        for each in suspects
    ]
    return ReconciliationCandidate._get_collection().bulk_write(writes).upserted_count
