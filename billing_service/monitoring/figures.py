"""What is stored, in figures for metrics: each read by index and bounded, so that a scrape costs the same always."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from .. import outbox, overview
from ..documents import JobRun, OpenAlert, ReconciliationRun, ServiceState, WebhookEvent, database_now
from ..documents.webhook_event import UNSETTLED_STATES

COUNTED = 10_000
# Groups of dead letters that are told by name; whatever else there is, is one more.
GROUPS = 20
OTHERS = ("other", "other", "other")


def describe(jobs: Iterable[str]) -> dict[str, Any]:
    """All figures by name, for the jobs of the calendar. Raises STORE_ERRORS."""
    now = database_now()
    events = overview.describe_events(now)
    oldest, last, paused = events["oldest_unhandled"], events["last_delivery_at"], events["paused"]
    unsent, failing_since = outbox.waiting()
    return {
        "unhandled": {state: _count_in(state) for state in UNSETTLED_STATES},
        "oldest_unhandled_seconds": oldest["age"] if oldest else 0,
        "last_delivery_seconds": _seconds(last, now),
        "dead_letters": events["dead_letters"],
        "dead_groups": dead_groups(),
        "pauses": len(paused),
        "paused_seconds": max((_seconds(each["since"], now) or 0.0 for each in paused), default=0.0),
        "signals_unsent": unsent,
        "signals_failing_seconds": _seconds(failing_since, now) or 0.0,
        "findings": overview.count_findings(),
        "unknown_operations": overview.count_unknown(),
        "unknown_refunds": overview.count_unknown_refunds(),
        "job_seconds": {job: _seconds(last_success(job), now) for job in jobs},
        "alerts": Counter(each.condition for each in OpenAlert.objects(name__gt="", told=True).only("condition")),
    }


def dead_groups() -> dict[tuple[str, str, str], int]:
    """How many of the newest dead letters are of which (event type, error class, group), the rest as one.

    The group is a short hash of the fingerprint: the text itself has no bound.
    """
    steps: list[dict[str, Any]] = [
        {"$match": {"state": "dead"}},
        {"$sort": {"dead_at": -1, "_id": -1}},
        {"$limit": COUNTED},
        {"$group": {"_id": {"type": "$type", "fingerprint": "$fingerprint"}, "count": {"$sum": 1}}},
        {"$sort": {"count": -1, "_id": 1}},
    ]
    found = WebhookEvent._get_collection().aggregate(steps, hint="dead_newest")
    groups: Counter = Counter()
    for place, each in enumerate(found):
        groups[_group(each["_id"]) if place < GROUPS else OTHERS] += each["count"]
    return groups


def last_success(job: str) -> datetime | None:
    """When a job of the calendar last came to its good end; if it never did, since when it is due here."""
    if job == "reconcile":  # its slot only starts a run, of everything
        run = ReconciliationRun.objects(organization=None, state="completed").order_by("-started_at")
        ended = run.only("finished_at").first()
    else:
        ended = JobRun.objects(job=job, state="succeeded").order_by("-slot").only("finished_at").first()
    if ended:
        return ended.finished_at
    since = ServiceState.objects(name=f"scheduled_since:{job}").first()
    return since.at if since else None


def _count_in(state: str) -> int:
    return WebhookEvent.objects(state=state).limit(COUNTED).count(with_limit_and_skip=True)


def _seconds(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max(0.0, (now - since).total_seconds())


def _group(key: dict[str, Any]) -> tuple[str, str, str]:
    fingerprint = key.get("fingerprint") or "none"
    digest = hashlib.sha256(fingerprint.encode()).hexdigest()[:8]
    return key.get("type") or "none", fingerprint.partition(":")[0][:60], digest
