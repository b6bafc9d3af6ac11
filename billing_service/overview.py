"""Is all well? A few figures of what is stored, each read by index and bounded, however much there is."""

from datetime import datetime, timedelta
from typing import Any

from .documents import EPOCH, AdminOperation, Finding, JobRun, RefundRequest, ServiceState, WebhookEvent
from .documents.finding import SEVERITIES
from .documents.webhook_event import STATES, UNSETTLED_STATES
from .webhooks import pauses

COUNTED = 10_000
HOURS = 24
# So many events of an hour are counted that succeeded, and so many of all hours that did not; past that the answer
# says that there are more.
MOST_OF_AN_HOUR = 50_000
MOST_UNSUCCESSFUL = 100_000
# Among so many of the newest events the last delivery is looked for: nearly all are deliveries, or none is any more.
NEWEST = 1_000


def describe_events(now: datetime) -> dict[str, Any]:
    """What waits, what is dead, when a delivery last arrived, and what is paused."""
    oldest = (
        WebhookEvent.objects(state__in=UNSETTLED_STATES).exclude("payload", "history").order_by("received_at").first()
    )
    dead = WebhookEvent.objects(state="dead")
    newest = dead.only("event_id", "dead_at").order_by("-dead_at", "-id").first()
    letters = dead.limit(COUNTED + 1).count(with_limit_and_skip=True)
    return {
        "oldest_unhandled": _unhandled(oldest, now) if oldest else None,
        "dead_letters": min(letters, COUNTED),
        "dead_letters_are_capped": letters > COUNTED,
        "newest_dead_at": newest.dead_at if newest else None,
        "last_delivery_at": _last_delivery_at(),
        "paused": [each.facts() | {"waiting": pauses.waiting(each)} for each in pauses.current().entries],
    }


def _unhandled(event: WebhookEvent, now: datetime) -> dict[str, Any]:
    names = ("event_id", "type", "state", "received_at")
    age = max(0, int((now - event.received_at).total_seconds()))
    return {name: getattr(event, name) for name in names} | {"age": age}


def _last_delivery_at() -> datetime | None:
    newest = WebhookEvent.objects.only("source", "received_at").order_by("-received_at", "-id").limit(NEWEST)
    return next((each.received_at for each in newest.no_cache().batch_size(100) if each.source == "delivery"), None)


def count_by_hour(now: datetime) -> dict[str, Any]:
    """How many events of each hour of the last day are in which state now, the oldest hour first; an index tells."""
    last = now.replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=HOURS - 1 - number) for number in range(HOURS)]
    # Nearly all have succeeded: counting them hour by hour is several times as fast as grouping them.
    succeeded = [_succeeded_in(hour) for hour in hours]
    others = _unsuccessful_since(hours[0])
    items = [
        {"at": hour} | {state: others.get((hour, state), 0) for state in STATES} | {"succeeded": count}
        for hour, count in zip(hours, succeeded, strict=True)
    ]
    capped = max(succeeded) >= MOST_OF_AN_HOUR or sum(others.values()) >= MOST_UNSUCCESSFUL
    return {"items": items, "is_capped": capped}


def _succeeded_in(hour: datetime) -> int:
    found = WebhookEvent.objects(state="succeeded", received_at__gte=hour, received_at__lt=hour + timedelta(hours=1))
    return found.limit(MOST_OF_AN_HOUR).count(with_limit_and_skip=True)


def _unsuccessful_since(since: datetime) -> dict[tuple[datetime, str], int]:
    states = [state for state in STATES if state != "succeeded"]
    steps: list[dict[str, Any]] = [
        {"$match": {"state": {"$in": states}, "received_at": {"$gte": since}}},
        {"$project": {"_id": 0, "state": 1, "received_at": 1}},
        {"$limit": MOST_UNSUCCESSFUL},
        {"$group": {"_id": [{"$dateTrunc": {"date": "$received_at", "unit": "hour"}}, "$state"], "count": {"$sum": 1}}},
    ]
    found = WebhookEvent._get_collection().aggregate(steps, hint="state_newest")
    return {(at, state): each["count"] for each in found for at, state in (each["_id"],)}


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
    return _known("stripe_account")


def mode() -> str | None:
    """The mode that this installation belongs to, live or test; None before its first start."""
    return _known("stripe_mode")


def _known(name: str) -> str | None:
    known = ServiceState.objects(name=name).first()
    return known.value if known else None
