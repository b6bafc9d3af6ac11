"""What may be wrong with the installation for a while: each condition finds what it holds of now, with the facts.

Nothing is written here. A condition that somebody else tells people of at its beginning is watched for its end only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .. import outbox
from ..documents import JobRun, WebhookEvent
from ..errors import BillingError, StripeNotConfigured, StripeRateLimited
from ..stripe_gateway import StripeGateway
from ..webhooks import ledger, pauses
from .figures import last_success

WAITING_LONG = timedelta(minutes=5)
RECENTLY = timedelta(minutes=15)
# So many in that time are a cause of their own; each kind of them is told of once an hour anyway.
MANY_DEAD = 10
COUNTED = 1_000
OUTAGE_SEEN = timedelta(minutes=2)
OLDEST = 20
OVERDUE = timedelta(hours=1)
# Its slot only begins it, and a large account takes its time.
OVERDUE_OF = {"reconcile": timedelta(hours=6)}
UNTOLD_LONG = timedelta(hours=1)

Facts = dict[str, Any]


@dataclass(frozen=True)
class Watch:
    """The moment and what is asked: `due` is each job of the calendar with its last slot, `now` the database's time.

    `open` are the names of the conditions that hold about something already.
    """

    now: datetime
    stripe: StripeGateway
    due: Mapping[str, datetime]
    open: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True)
class Condition:
    """`find` gives the facts by subject ("" if there is only one). It must last `hold` before people are told."""

    name: str
    find: Callable[[Watch], dict[str, Facts]]
    hold: timedelta = timedelta(0)
    told_elsewhere: bool = False


def _events_waiting(watch: Watch) -> dict[str, Facts]:
    """Events are due, not paused, and nobody takes them up."""
    event = ledger.oldest_due()
    if event is None:
        return {}
    since = event.next_attempt_at or (event.replay.asked_at if event.replay else event.received_at)
    if watch.now - since < WAITING_LONG:
        return {}
    return {"": {"count": ledger.count_due(), "oldest": event.event_id, "type": event.type, "due_since": since}}


def _dead_letters_growing(watch: Watch) -> dict[str, Facts]:
    """Begins with many in a short time, ends when no more come."""
    recent = WebhookEvent.objects(state="dead", dead_at__gte=watch.now - RECENTLY)
    count = recent.limit(COUNTED).count(with_limit_and_skip=True)
    if count < (1 if "dead_letters_growing" in watch.open else MANY_DEAD):
        return {}
    newest = recent.order_by("-dead_at", "-id").only("event_id", "type", "reason").first()
    facts = {"event_id": newest.event_id, "type": newest.type, "reason": newest.reason} if newest else {}
    return {"": {"count": count, "minutes": RECENTLY // timedelta(minutes=1), **facts}}


def _jobs_overdue(watch: Watch) -> dict[str, Facts]:
    """The last slot of a job has passed for long, and it has not come to a good end since."""
    found = {}
    for job, due_at in watch.due.items():
        ended_at = last_success(job)
        late = watch.now - due_at > OVERDUE_OF.get(job, OVERDUE)
        if late and ended_at is not None and ended_at < due_at:
            found[job] = {"job": job, "due_at": due_at, "last_success_at": ended_at}
    return found


def _jobs_given_up(watch: Watch) -> dict[str, Facts]:
    """The last run that came to an end was given up."""
    found = {}
    for job in watch.due:
        last = JobRun.objects(job=job, state__in=("succeeded", "given_up")).order_by("-slot").first()
        if last and last.state == "given_up":
            found[job] = {"job": job, "slot": last.slot, "error": last.error}
    return found


def _dispatch_paused(watch: Watch) -> dict[str, Facts]:
    long = [each for each in pauses.current().entries if watch.now - each.since >= pauses.LONG]
    return {f"{each.type or ''}@{each.since.isoformat()}": each.facts() for each in long}


def _stripe_unreachable(watch: Watch) -> dict[str, Facts]:
    """Asked only when there is a sign of it: this costs a request, and a working Stripe leaves no sign."""
    if not ("stripe_unreachable" in watch.open or watch.stripe.circuit.state != "closed" or _is_outage_seen(watch)):
        return {}
    try:
        watch.stripe.account()
    except (StripeRateLimited, StripeNotConfigured):  # it answers, or is not to be asked
        return {}
    except BillingError as error:
        return {"": {"code": error.code, "detail": error.detail}}
    return {}


def _is_outage_seen(watch: Watch) -> bool:
    oldest = WebhookEvent.objects(state="failed").order_by("received_at").only("reason", "deferred_since").limit(OLDEST)
    since = [each.deferred_since for each in oldest if each.reason == "outage" and each.deferred_since]
    return any(watch.now - each >= OUTAGE_SEEN for each in since)


def _signals_failing(watch: Watch) -> dict[str, Facts]:
    unsent, since = outbox.waiting()
    if since is None or watch.now - since < UNTOLD_LONG:
        return {}
    return {"": {"count": unsent, "failing_since": since}}


CONDITIONS = (
    # One that was woken a moment ago is not told from one that nobody took up, but by the next look.
    Condition("events_waiting", _events_waiting, hold=timedelta(seconds=45)),
    Condition("dead_letters_growing", _dead_letters_growing),
    Condition("job_overdue", _jobs_overdue),
    Condition("job_given_up", _jobs_given_up, told_elsewhere=True),
    Condition("dispatch_paused", _dispatch_paused, told_elsewhere=True),
    Condition("stripe_unreachable", _stripe_unreachable, hold=timedelta(minutes=2)),
    Condition("signals_failing", _signals_failing),
)
