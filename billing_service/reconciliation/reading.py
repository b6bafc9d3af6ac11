"""Looking at runs: lists, one run with the difference to the one before, what a run would cost."""

from typing import Any

from bson import ObjectId
from mongoengine import QuerySet

from ..documents import EPOCH, ReconciliationRun, Subscription
from ..errors import ReconciliationNotFound
from .listing import WINDOWS

PAGE = 100


def count_rows() -> int:
    """How many rows there are, counted in an index; MongoDB's own estimate is wrong after a crash."""
    return Subscription._get_collection().count_documents({}, hint="organization")


def find_runs() -> QuerySet:
    """All runs."""
    # The bound makes the index of the order count.
    return ReconciliationRun.objects(started_at__gte=EPOCH)


def find_run(run_id: ObjectId) -> ReconciliationRun:
    """The run; raises ReconciliationNotFound."""
    run = ReconciliationRun.objects(id=run_id).first()
    if run is None:
        raise ReconciliationNotFound(f"There is no reconciliation {run_id}.")
    return run


def active_run() -> ReconciliationRun | None:
    """The run that is not over."""
    return ReconciliationRun.objects(active=True).first()


def described(run: ReconciliationRun) -> dict[str, Any]:
    """The run as plain values, with `previous`: the completed run before it, and the difference to that."""
    before = previous_of(run)
    previous = (
        {"id": str(before.pk), "finished_at": before.finished_at, "difference": difference(run, before)}
        if before
        else None
    )
    return run.describe() | {"previous": previous}


def estimate(organization: ObjectId | None, requests_per_second: float) -> dict[str, Any]:
    """What a run would cost: subscriptions, requests to Stripe without those for candidates, seconds."""
    if organization:
        return {"expected": 1, "stripe_requests": 2, "seconds": 1}
    count = count_rows()
    requests = -(-count // PAGE) + WINDOWS + 1
    # The background has half of the budget.
    return {"expected": count, "stripe_requests": requests, "seconds": round(requests / (requests_per_second / 2) + 1)}


def previous_of(run: ReconciliationRun) -> ReconciliationRun | None:
    """The completed run of the same extent before this one."""
    before = ReconciliationRun.objects(organization=run.organization, state="completed", started_at__lt=run.started_at)
    return before.order_by("-started_at").first()


def difference(run: ReconciliationRun, before: ReconciliationRun) -> dict[str, int]:
    """How many more findings of each kind than in an earlier run, those aside of which there are as many."""
    kinds = sorted({*run.findings, *before.findings})
    found = {kind: run.findings.get(kind, 0) - before.findings.get(kind, 0) for kind in kinds}
    return {kind: count for kind, count in found.items() if count}
