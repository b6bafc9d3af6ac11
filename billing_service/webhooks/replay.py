"""Replaying one event: from Stripe, else from what was stored, through the same path as every other attempt."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from .. import extras
from ..documents import WebhookEvent, in_transaction
from ..errors import (
    AlreadySucceeded,
    CustomerShared,
    EventClosed,
    EventExpired,
    EventInProgress,
    EventNotFound,
    NoHandler,
    ReplayNotFound,
    StripeMissing,
    WrongAccount,
    WrongMode,
)
from ..operations import Outcome, Running
from ..stripe_gateway import VerifiedEvent
from ..subscriptions import Change
from . import ledger
from .errands import Task, find_errand, look
from .extras import TOPUP_MISSING, ExtrasRefused, TopUpMissing
from .failures import is_outage, message_of
from .handlers import HANDLERS, Desk, Errand
from .intake import WRONG_ACCOUNT, WRONG_MODE, receive
from .ownership import OwnerDisputed, OwnerUnknown

STATUS_URL = "/api/admin/billing/webhook/replay/"
JOB_ID = re.compile(r"replay-(evt_[A-Za-z0-9_]{1,250})-([0-9]{1,9})")

REPLAYABLE = ("received", "failed", "dead")
FORCED = (*REPLAYABLE, "succeeded", "closed")


@dataclass(frozen=True)
class Forecast:
    """What a replay would do: its outcome, or why it would fail, and what it would change."""

    outcome: str
    organization: ObjectId | None = None
    reason: str | None = None
    detail: str | None = None
    change: Change | None = None
    signals: tuple[str, ...] = ()
    # The balance of prepaid extras before and after, if it would move.
    extras: tuple[int, int] | None = None

    def facts(self) -> dict[str, Any]:
        """The forecast as plain values, the row's changes field by field."""
        before, after = (self.change.previous, self.change.updated) if self.change else (None, None)
        names = self.change.changed if self.change else []
        return {
            "outcome": self.outcome,
            "reason": self.reason,
            "detail": self.detail,
            "org_id": self.organization,
            "changes": [
                {"field": name, "previous": (before or {}).get(name), "updated": (after or {}).get(name)}
                for name in names
            ]
            + ([{"field": "extras", "previous": self.extras[0], "updated": self.extras[1]}] if self.extras else []),
            "previous": before,
            "updated": after,
            "signals": list(self.signals),
        }


@dataclass(frozen=True)
class Replayed:
    """How a replay is getting on. `state`: queued, running, waiting (for an outage to end), succeeded or failed."""

    job_id: str
    event: WebhookEvent
    state: str
    at: datetime | None = None
    actor: str | None = None
    outcome: str | None = None
    error_class: str | None = None
    error_message: str | None = None

    def facts(self) -> dict[str, Any]:
        """The replay as plain values."""
        names = ("job_id", "state", "outcome", "at", "actor", "error_class", "error_message")
        return {name: getattr(self, name) for name in names} | {
            "event_id": self.event.event_id,
            "event_state": self.event.state,
            "next_attempt_at": self.event.next_attempt_at if self.state == "waiting" else None,
        }


def find_replayable(
    event_id: str, *, force: bool, desk: Desk, livemode: bool, stored_first: bool = False
) -> WebhookEvent:
    """The event as it would be replayed: the ledger's, else one of Stripe's that was never received (not saved).

    `stored_first`: Stripe is not asked for an event whose payload is stored; events do not change.
    Refuses with EventNotFound, EventExpired, WrongMode, WrongAccount, NoHandler, EventInProgress, AlreadySucceeded,
    EventClosed and what the gateway raises.
    """
    event = WebhookEvent.objects(event_id=event_id).first()
    kept = stored_first and event is not None and event.payload is not None
    live = None if kept else _at_stripe(event_id, desk)
    if event is None and live is None:
        raise EventNotFound(f"Neither Stripe nor the ledger knows {event_id}.")
    if event is not None and live is None and event.payload is None:
        raise EventExpired(
            f"Stripe keeps events for 30 days and does not have {event_id} any more, and its payload was erased here. "
            "Repair its organization with POST /api/admin/billing/sync/{orgId}.",
            eventId=event_id,
            organizationId=str(event.organization) if event.organization else None,
        )
    if event is None:
        event = _unreceived(event_id, live or {})
    elif live is not None and event.payload is None:
        event.payload = json.dumps(live)
    _refuse_unfit(event, force, livemode)
    return event


def _at_stripe(event_id: str, desk: Desk) -> dict[str, Any] | None:
    try:
        return desk.stripe.event(event_id).value
    except StripeMissing:
        return None


def _unreceived(event_id: str, live: dict[str, Any]) -> WebhookEvent:
    return WebhookEvent(
        event_id=event_id, type=live["type"], livemode=live.get("livemode"), payload=json.dumps(live), state="received"
    )


def _refuse_unfit(event: WebhookEvent, force: bool, livemode: bool) -> None:
    if event.reason == WRONG_MODE or (event.livemode is not None and event.livemode != livemode):
        raise WrongMode(f"{event.event_id} is of the other mode (live or test) than this installation's key.")
    if event.reason == WRONG_ACCOUNT:
        raise WrongAccount(f"{event.event_id} is of another Stripe account than this installation's.")
    if event.type not in HANDLERS:
        raise NoHandler(f"Nothing here handles events of type {event.type}: there is nothing to replay.")
    if event.state == "processing":
        raise EventInProgress(f"{event.event_id} is being handled at this moment.", retry_after=5)
    if event.state == "succeeded" and not force:
        raise AlreadySucceeded(f"{event.event_id} succeeded ({event.outcome}). With force it is handled once more.")
    if event.state == "closed" and not force:
        raise EventClosed(f"{event.event_id} was closed. With force it is handled all the same.")


def prepare(event_id: str, *, force: bool, desk: Desk, livemode: bool, stored_first: bool = False) -> WebhookEvent:
    """Have the ledger hold the event with its payload; returns it. Refuses as `find_replayable` does."""
    found = find_replayable(event_id, force=force, desk=desk, livemode=livemode, stored_first=stored_first)
    if found.pk is None:
        payload = found.payload.encode()
        receive(VerifiedEvent(json.loads(payload)), payload, livemode=livemode, now=desk.clock(), source="replay")
    else:
        # An erased payload is needed for the attempt; what erased it finds it again.
        WebhookEvent.objects(event_id=event_id, payload=None).update_one(set__payload=found.payload)
    return found


def ask(event: WebhookEvent, *, force: bool, actor: str) -> str:
    """Make a prepared event due as a replay; returns the job id. Refuses what somebody else has begun or ended."""
    job_id = ledger.ask_replay(event, actor=actor, states=FORCED if force else REPLAYABLE)
    if job_id is None:
        raise EventInProgress(f"{event.event_id} was taken up by somebody else a moment ago.", retry_after=5)
    return job_id


def request(running: Running, event_id: str, *, force: bool, desk: Desk, livemode: bool) -> Outcome:
    """Have an event replayed, and record that it was asked for; the answer of endpoint 4.3.

    Refuses as `find_replayable` does, and what somebody else has begun or ended meanwhile.
    """
    found = prepare(event_id, force=force, desk=desk, livemode=livemode)

    def record() -> Outcome:
        job_id = ask(found, force=force, actor=running.asked.actor)
        outcome = Outcome({"event_id": event_id, "job_id": job_id, "status_url": STATUS_URL + job_id}, status=202)
        running.complete(outcome)
        return outcome

    return in_transaction(record)


def event_of(job_id: str) -> str | None:
    """The id of the event that a replay is of."""
    parts = JOB_ID.fullmatch(job_id)
    return parts[1] if parts else None


def foresee(event_id: str, *, force: bool, desk: Desk, livemode: bool) -> Forecast:
    """What a replay would do, field by field; writes nothing. Refuses as `find_replayable` does."""
    event = find_replayable(event_id, force=force, desk=desk, livemode=livemode)
    try:
        errand = find_errand(event, desk)
        task = Task(event, errand, ledger.Trial(source="replay"))
        change = look([task], desk, dry_run=True) if errand.look else None
    except (OwnerDisputed, ExtrasRefused) as error:
        return Forecast("dead", reason=error.reason, detail=str(error))
    except TopUpMissing as error:
        return Forecast("dead", error.organization, TOPUP_MISSING, str(error))
    except OwnerUnknown as error:
        return Forecast("dead", error.organization, ledger.UNKNOWN_OWNER, str(error))
    except (CustomerShared, StripeMissing) as error:
        return Forecast("dead", event.organization, error.code, error.detail)
    except Exception as error:
        if is_outage(error):
            raise
        return Forecast("dead", event.organization, "handler_failed", f"{type(error).__name__}: {message_of(error)}")
    names = [signal.name for signal in errand.signals] + [signal.name for signal in (change.signals if change else ())]
    moved = _extras_after(errand, desk)
    return Forecast(errand.outcome, errand.organization, change=change, signals=tuple(names), extras=moved)


def _extras_after(errand: Errand, desk: Desk) -> tuple[int, int] | None:
    if errand.organization is None:
        return None
    units = 0
    if errand.top_up and extras.find_entry(errand.top_up.ref) is None:
        units = errand.top_up.units
    if errand.payment:
        units = extras.foresee_payment(errand.payment, desk.clock(), metered=desk.metered)
    before = extras.balance_of(errand.organization)
    return (before, before + units) if units else None


def find_replay(job_id: str) -> Replayed:
    """How a replay is getting on, as the ledger knows it. Raises ReplayNotFound."""
    event_id = event_of(job_id)
    if event_id is None:  # whatever it is, it is not told on
        raise ReplayNotFound("There is no such replay: its id begins with `replay-evt_`.")
    event = WebhookEvent.objects(event_id=event_id).exclude("payload").first()
    if event is None:
        raise ReplayNotFound(f"There is no replay {job_id}.")
    asked = event.replay
    if asked and asked.job_id == job_id:
        state = "running" if event.state == "processing" else "waiting" if event.next_attempt_at else "queued"
        return Replayed(job_id, event, state, asked.asked_at, asked.actor)
    line = next((each for each in reversed(event.history) if each.job_id == job_id), None)
    if line is None:
        raise ReplayNotFound(f"There is no replay {job_id}, or {ledger.HISTORY} attempts have been made since.")
    state = "failed" if line.error_class else "succeeded"
    return Replayed(job_id, event, state, line.at, line.actor, line.outcome, line.error_class, line.error_message)
