"""Is all well? A few figures of what is stored, each read by index and bounded, however much there is."""

from datetime import datetime, timedelta
from typing import Any

from .documents import EPOCH, AdminOperation, Finding, JobRun, RefundRequest, ServiceState, WebhookEvent
from .documents.finding import SEVERITIES
from .documents.webhook_event import STATES, UNSETTLED_STATES
from .webhooks import pauses

COUNTED = 10_000
HOURS = 24
# So many events of the last hours are counted; past that the answer says that there are more.
MOST_EVENTS = 500_000


def describe_events(now: datetime) -> dict[str, Any]:
    """What waits, what is dead, when a delivery last arrived, and what is paused."""
    oldest = (
        WebhookEvent.objects(state__in=UNSETTLED_STATES).exclude("payload", "history").order_by("received_at").first()
    )
    delivered = WebhookEvent.objects(source="delivery").only("received_at").order_by("-received_at").first()
    dead = WebhookEvent.objects(state="dead")
    newest = dead.only("event_id", "dead_at").order_by("-dead_at", "-id").first()
    letters = dead.limit(COUNTED + 1).count(with_limit_and_skip=True)
    return {
        "oldest_unhandled": _unhandled(oldest, now) if oldest else None,
        "dead_letters": min(letters, COUNTED),
        "dead_letters_are_capped": letters > COUNTED,
        "newest_dead_at": newest.dead_at if newest else None,
        "last_delivery_at": delivered.received_at if delivered else None,
        "paused": [each.facts() | {"waiting": pauses.waiting(each)} for each in pauses.current().entries],
    }


def _unhandled(event: WebhookEvent, now: datetime) -> dict[str, Any]:
    names = ("event_id", "type", "state", "received_at")
    age = max(0, int((now - event.received_at).total_seconds()))
    return {name: getattr(event, name) for name in names} | {"age": age}


def count_by_hour(now: datetime) -> dict[str, Any]:
    """How many events of each hour of the last day are in which state now, the oldest hour first; an index tells."""
    last = now.replace(minute=0, second=0, microsecond=0)
    since = last - timedelta(hours=HOURS - 1)
    steps: list[dict[str, Any]] = [
        {"$match": {"state": {"$in": list(STATES)}, "received_at": {"$gte": since}}},
        {"$project": {"_id": 0, "state": 1, "received_at": 1}},
        {"$limit": MOST_EVENTS},
        {"$group": {"_id": [{"$dateTrunc": {"date": "$received_at", "unit": "hour"}}, "$state"], "count": {"$sum": 1}}},
    ]
    found = {
        (at, state): each["count"]
        for each in WebhookEvent._get_collection().aggregate(steps, hint="state_newest")
        for at, state in (each["_id"],)
    }
    hours = [since + timedelta(hours=number) for number in range(HOURS)]
    items = [{"at": hour} | {state: found.get((hour, state), 0) for state in STATES} for hour in hours]
    return {"items": items, "is_capped": sum(found.values()) >= MOST_EVENTS}


def count_findings() -> dict[str, int]:
    """How many findings are open, by severity; acknowledged ones are not among them."""
    steps = [{"$match": {"state": "open"}}, {"$group": {"_id": "$severity", "count": {"$sum": 1}}}]
    found = {each["_id"]: each["count"] for each in Finding._get_collection().aggregate(steps, hint="state_severity")}
    return {severity: found.get(severity, 0) for severity in SEVERITIES}


def count_unknown() -> int:
    """How many operations of admins asked Stripe for something that nobody has seen yet."""
    return (
        AdminOperation.objects(state="unknown", next_check_at__gt=EPOCH).limit(COUNTED).count(with_limit_and_skip=True)
    )


def count_unknown_refunds() -> int:
    """How many refunds nobody knows of."""
    return RefundRequest.objects(state="unknown").limit(COUNTED).count(with_limit_and_skip=True)


def last_run(job: str) -> JobRun | None:
    """The last run of a job that has begun."""
    return JobRun.objects(job=job).order_by("-slot").first()


def account() -> str | None:
    """The Stripe account that this installation belongs to; None before it first asked."""
    known = ServiceState.objects(name="stripe_account").first()
    return known.value if known else None
