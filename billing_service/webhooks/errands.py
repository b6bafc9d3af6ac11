"""From an event to its errand, from errands to one look at Stripe, and what a failure makes of an event."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from .. import extras, outbox, refunds
from ..documents import WebhookEvent
from ..documents.webhook_event import OUTCOMES
from ..errors import CustomerShared
from ..observability import ATTEMPTS, EVENT_SECONDS, EVENTS, log
from ..subscriptions import Change, follow
from . import ledger
from .extras import TOPUP_MISSING, ExtrasRefused, TopUpMissing
from .failures import is_outage
from .handlers import HANDLERS, Desk, Errand
from .ownership import OwnerDisputed, OwnerUnknown, exists, known_owner, note_dispute, wake_attached, wake_organization


@dataclass(frozen=True)
class Task:
    """A leased event and what is to be done about it."""

    event: WebhookEvent
    errand: Errand
    trial: ledger.Trial

    @property
    def settlement(self) -> ledger.Settlement:
        return ledger.Settlement(self.event, self.errand.outcome, self.trial, self.errand.organization)


def find_errand(event: WebhookEvent, desk: Desk) -> Errand:
    """What an event asks for. Raises what decides about it: a dispute, an unknown owner, an outage, a bug."""
    handler = HANDLERS.get(event.type)
    if handler is None:
        return Errand(None)
    return handler(event, event.event["data"]["object"], desk)


def make_task(event: WebhookEvent, desk: Desk, trial: ledger.Trial) -> Task | str:
    """The event's task; its end if finding out failed."""
    try:
        errand = find_errand(event, desk)
    except Exception as error:
        return refuse(event, error, desk, trial)
    event.organization = errand.organization  # for the ledger, should what follows fail
    return Task(event, errand, trial)


def run_errands(tasks: Sequence[Task], desk: Desk) -> list[tuple[WebhookEvent, str]]:
    """Carry out the tasks of one organization: one look, one transaction; returns each event's end.

    If that fails each is carried out alone, so that only the failing one is charged. What is everybody's is not
    asked about again: an outage, and a failure of errands that all name the same.
    """
    try:
        _carry_out(tasks, desk)
        return [(task.event, task.errand.outcome) for task in tasks]
    except Exception as error:
        alike = not isinstance(error, ledger.LeaseLost) and len({task.errand for task in tasks}) == 1
        if len(tasks) > 1 and not alike and not is_outage(error):
            return list(chain.from_iterable(run_errands([task], desk) for task in tasks))
        return [(task.event, refuse(task.event, error, desk, task.trial)) for task in tasks]


def _carry_out(tasks: Sequence[Task], desk: Desk) -> None:
    if not tasks[0].errand.look:
        extras.in_turn(lambda: _settle(tasks, desk), f"The extras of {tasks[0].errand.organization}")
        return
    look(tasks, desk)


def look(tasks: Sequence[Task], desk: Desk, *, dry_run: bool = False) -> Change:
    """One look at Stripe for all that the tasks name; they are settled with what it makes of the row."""
    errands = [task.errand for task in tasks]
    owner = errands[0].organization
    assert owner is not None

    def settle(change: Change) -> None:
        _settle(tasks, desk)
        _wake_attached(change, errands)

    sources = {errand.source for errand in errands}
    replay = next((task.trial.source for task in tasks if task.trial.source == "replay"), None)
    return follow(
        owner,
        stripe=desk.stripe,
        plans=desk.plans,
        now=desk.clock(),
        source=replay or ("checkout" if "checkout" in sources else "webhook"),
        seen=_distinct(errand.subscriptions for errand in errands),
        seen_customers=_distinct(errand.customers for errand in errands),
        deleted_customers=[each.deleted_customer for each in errands if each.deleted_customer],
        failed_at=_earliest(errands),
        also=settle,
        dry_run=dry_run,
    )


def _settle(tasks: Sequence[Task], desk: Desk) -> None:
    refunds.follow(chain.from_iterable(task.errand.refunds for task in tasks), desk.clock)
    outbox.put(chain.from_iterable(task.errand.signals for task in tasks))
    for task in tasks:
        _book(task.errand, desk)
    ledger.settle_all([task.settlement for task in tasks])


def _book(errand: Errand, desk: Desk) -> None:
    if errand.top_up:
        extras.book_top_up(errand.top_up, desk.clock())
        ledger.wake_unknown(reason=TOPUP_MISSING, organization=errand.top_up.organization)
    if errand.payment:
        extras.settle_payment(errand.payment, desk.clock(), metered=desk.metered)


def _wake_attached(change: Change, errands: Sequence[Errand]) -> None:
    """Events that named nobody wait for somebody to say whose their subscription or customer is: this says it."""
    subscriptions = {each for errand in errands for each in errand.subscriptions}
    customers = {each for errand in errands for each in errand.customers}
    if change.row.stripe_subscription_id not in subscriptions or change.row.pk is None:
        wake_attached(change.organization, subscriptions=subscriptions, customers=customers)


def _distinct(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(groups)))


def _earliest(errands: Sequence[Errand]) -> datetime | None:
    return min((each.failed_at for each in errands if each.failed_at), default=None)


def refuse(event: WebhookEvent, error: Exception, desk: Desk, trial: ledger.Trial) -> str:
    """What an event comes to whose handling raised: its state."""
    try:
        return _refused(event, error, desk, trial)
    except ledger.LeaseLost:
        return "lease_lost"


def _refused(event: WebhookEvent, error: Exception, desk: Desk, trial: ledger.Trial) -> str:
    if isinstance(error, ledger.LeaseLost):
        raise error
    if event.organization is None:
        event.organization = known_owner(event.stripe_subscription_id, event.stripe_customer_id)
    if isinstance(error, OwnerUnknown):
        return _wait_for_owner(event, error, desk, trial)
    if isinstance(error, OwnerDisputed):
        note_dispute(error, customer=event.stripe_customer_id, subscription=event.stripe_subscription_id)
        return ledger.bury(event, error, trial, reason=error.reason, organization=error.organization)
    if isinstance(error, TopUpMissing):
        return _wait_for_top_up(event, error, desk, trial)
    if isinstance(error, ExtrasRefused):
        told = error.told(event.event["data"]["object"]["id"], event.organization, desk.clock())
        return ledger.bury(event, error, trial, reason=error.reason, also=(told,))
    if isinstance(error, CustomerShared):
        return ledger.bury(event, error, trial, reason=error.code)
    if is_outage(error):
        log.warning("webhook_deferred", event_id=event.event_id, error=type(error).__name__, detail=str(error))
        return ledger.defer(event, error, trial)
    log.error("webhook_failed", event_id=event.event_id, type=event.type, attempt=event.attempts + 1, exc_info=error)
    return ledger.fail(event, error, trial, delays=desk.retry_delays)


def _wait_for_owner(event: WebhookEvent, error: OwnerUnknown, desk: Desk, trial: ledger.Trial) -> str:
    end = ledger.fail(
        event,
        error,
        trial,
        delays=desk.retry_delays,
        reason=ledger.UNKNOWN_OWNER,
        organization=error.organization,
    )
    # It may have become known between our look and this write, when there was nothing to wake yet.
    if error.organization and exists(error.organization):
        wake_organization(error.organization)
    elif owner := known_owner(event.stripe_subscription_id, event.stripe_customer_id):
        wake_attached(owner, subscriptions=[event.stripe_subscription_id], customers=[event.stripe_customer_id])
    return end


def _wait_for_top_up(event: WebhookEvent, error: TopUpMissing, desk: Desk, trial: ledger.Trial) -> str:
    end = ledger.fail(
        event, error, trial, delays=desk.retry_delays, reason=TOPUP_MISSING, organization=error.organization
    )
    # As with an owner: it may have been booked between our look and this write.
    if extras.find_top_up(error.payment_intent):
        ledger.wake_unknown(reason=TOPUP_MISSING, event_id=event.event_id)
    return end


def ended(event: WebhookEvent, end: str) -> None:
    """Count and tell the end of an attempt."""
    EVENTS.labels(end).inc()
    ATTEMPTS.labels(event.type if event.type in HANDLERS else "other", end).inc()
    if end in OUTCOMES:
        EVENT_SECONDS.observe(max(0.0, time.time() - event.received_at.timestamp()))
    replay = event.replay.job_id if event.replay else None
    log.info(
        "webhook_handled", event_id=event.event_id, type=event.type, end=end, attempts=event.attempts, replay=replay
    )
