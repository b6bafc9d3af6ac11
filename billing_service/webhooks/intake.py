"""Taking an event in: recorded once, durably, before anybody is told that it was received."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mongoengine.errors import NotUniqueError

from ..documents import ServiceState, WebhookEvent, driver_error
from ..errors import BadRequest, StoreUnavailable
from ..observability import EVENTS, log
from ..stripe_gateway import VerifiedEvent
from .handlers import HANDLERS
from .ledger import KEPT
from .ownership import known_owner
from .references import references

STRIPE_ACCOUNT = "stripe_account"
WRONG_MODE = "wrong_mode"
WRONG_ACCOUNT = "wrong_account"
READ_BACK_SECONDS = 2.0

# A 200 is a promise: what answered it must survive the loss of any one node.
DURABLE = {"w": "majority", "j": True, "wtimeout": 10_000}


@dataclass(frozen=True)
class Receipt:
    """What became of a delivery; `due`: somebody should be woken to handle it."""

    event_id: str
    due: bool
    known: bool = False


def receive(
    verified: VerifiedEvent, payload: bytes, *, livemode: bool, now: datetime, source: str = "delivery"
) -> Receipt:
    """Store a verified event unless it is known. Raises BadRequest and what the store raises."""
    event = _record(verified.event, payload, now, source)
    event.secret_index = verified.secret_index
    _assign(event, verified.event, livemode, now)
    if event.state == "received":
        event.organization = known_owner(event.stripe_subscription_id, event.stripe_customer_id)
    if _insert(event):
        EVENTS.labels("received").inc()
        log.info("webhook_received", event_id=event.event_id, type=event.type, state=event.state, reason=event.reason)
        return Receipt(event.event_id, due=event.state == "received")
    _read_back(event.event_id)
    EVENTS.labels("known").inc()
    return Receipt(event.event_id, due=False, known=True)


def _record(raw: dict[str, Any], payload: bytes, now: datetime, source: str) -> WebhookEvent:
    named = references(raw)
    return WebhookEvent(
        event_id=raw["id"],
        type=_printable(raw["type"], "type"),
        api_version=_printable(raw.get("api_version"), "api_version"),
        livemode=raw["livemode"] if isinstance(raw.get("livemode"), bool) else None,
        created=_created(raw.get("created")),
        payload=payload.decode(),
        received_at=now,
        source=source,
        state="received",
        stripe_customer_id=named.customer_id,
        stripe_subscription_id=named.subscription_id,
    )


def _assign(event: WebhookEvent, raw: dict[str, Any], livemode: bool, now: datetime) -> None:
    """The state that the event starts in: most are to be handled, some need nobody."""
    if event.livemode is not None and event.livemode != livemode:
        event.state, event.reason, event.dead_at = "dead", WRONG_MODE, now
    elif raw.get("account") and raw["account"] != _own_account():
        event.state, event.reason, event.dead_at = "dead", WRONG_ACCOUNT, now
    elif event.type not in HANDLERS:
        event.state, event.outcome, event.expires_at = "succeeded", "ignored", now + KEPT


def _own_account() -> str | None:
    state = ServiceState.objects(name=STRIPE_ACCOUNT).first()
    return state.value if state else None


def _insert(event: WebhookEvent) -> bool:
    try:
        event.save(force_insert=True, write_concern=DURABLE)
    except NotUniqueError:
        return False
    except Exception as error:
        # MongoEngine hides the driver's error; a write concern that was not met is the store's trouble, not a bug.
        if driver_error(error):
            raise StoreUnavailable("The event could not be stored; send it again.", retry_after=5) from error
        raise
    return True


def _read_back(event_id: str) -> None:
    """See the known event in what a majority has, or refuse: a write that is undone later was never received."""
    deadline = time.monotonic() + READ_BACK_SECONDS
    known = WebhookEvent.objects(event_id=event_id).only("event_id").read_concern({"level": "majority"})
    while not known.clone().first():
        if time.monotonic() > deadline:
            raise StoreUnavailable("Another delivery of the event is being stored; send it again.", retry_after=5)
        time.sleep(0.05)


def _printable(value: Any, name: str) -> str | None:
    if value is None and name != "type":
        return None
    if isinstance(value, str) and 0 < len(value) <= 200 and value.isascii() and value.isprintable():
        return value
    raise BadRequest(f"The body is not a Stripe event: `{name}` is unreadable.")


def _created(value: Any) -> datetime:
    """Unix seconds, or the text that v2 events have."""
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value).astimezone(UTC)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRequest("The body is not a Stripe event: `created` is unreadable.") from error
