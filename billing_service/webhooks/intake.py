"""Taking an event in: recorded once, durably, before anybody is told that it was received."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from ..documents import MAJORITY, ServiceState, WebhookEvent
from ..errors import BadRequest, StoreUnavailable
from ..group_commit import GroupCommit, Interrupted
from ..observability import EVENTS, log
from ..stripe_gateway import VerifiedEvent
from .handlers import HANDLERS
from .ledger import KEPT
from .ownership import known_owners
from .references import references

STRIPE_ACCOUNT = "stripe_account"
WRONG_MODE = "wrong_mode"
WRONG_ACCOUNT = "wrong_account"
READ_BACK_SECONDS = 2.0

DUPLICATE_KEY = 11000
NOT_STORED = "The event could not be stored; send it again."


@dataclass(frozen=True)
class Receipt:
    """What became of a delivery; `due`: somebody should be woken to handle it, and what was stored with it."""

    event_id: str
    due: bool
    known: bool = False


@dataclass(frozen=True)
class _Stored:
    """An event in the ledger; of those that were stored together one `wakes` a worker, for all."""

    new: bool
    wakes: bool


def receive(
    verified: VerifiedEvent, payload: bytes, *, livemode: bool, now: datetime, source: str = "delivery"
) -> Receipt:
    """Store a verified event unless it is known. Raises BadRequest and what the store raises."""
    event = _record(verified.event, payload, now, source)
    if verified.secret_index is not None:
        event |= {"secret_index": verified.secret_index, "secret_mark": verified.secret_mark}
    event |= _assigned(event, verified.event, livemode, now)
    event_id = event["event_id"]
    # Who receives for another reason than a delivery does not wake anybody for those that were stored with it.
    try:
        stored = _together.put(event) if source == "delivery" else _store([event])[0]
    except Interrupted as error:
        raise StoreUnavailable(NOT_STORED, retry_after=5) from error
    if stored.new:
        EVENTS.labels("received").inc()
        if event["state"] != "received":  # nobody will handle it: this is its end
            EVENTS.labels(event.get("outcome", event["state"])).inc()
        log.info(
            "webhook_received", event_id=event_id, type=event["type"], state=event["state"], reason=event.get("reason")
        )
        return Receipt(event_id, due=stored.wakes)
    _read_back(event_id)
    EVENTS.labels("known").inc()
    return Receipt(event_id, due=False, known=True)


def _record(raw: dict[str, Any], payload: bytes, now: datetime, source: str) -> dict[str, Any]:
    """The event as it is stored. Past MongoEngine: each value is checked here, and arrivals cannot be slowed down."""
    named = references(raw)
    return {
        "event_id": raw["id"],
        "type": _printable(raw["type"], "type"),
        "api_version": _printable(raw.get("api_version"), "api_version"),
        "livemode": raw["livemode"] if isinstance(raw.get("livemode"), bool) else None,
        "created": _created(raw.get("created")),
        "payload": payload.decode(),
        "received_at": now,
        "source": source,
        "state": "received",
        "attempts": 0,
        "stripe_customer_id": named.customer_id,
        "stripe_subscription_id": named.subscription_id,
    }


def _assigned(event: dict[str, Any], raw: dict[str, Any], livemode: bool, now: datetime) -> dict[str, Any]:
    """The state that the event starts in: most are to be handled, some need nobody."""
    if event["livemode"] is not None and event["livemode"] != livemode:
        return {"state": "dead", "reason": WRONG_MODE, "dead_at": now}
    if raw.get("account") and raw["account"] != _own_account():
        return {"state": "dead", "reason": WRONG_ACCOUNT, "dead_at": now}
    if event["type"] not in HANDLERS:
        return {"state": "succeeded", "outcome": "ignored", "expires_at": now + KEPT}
    return {}


def _own_account() -> str | None:
    state = ServiceState.objects(name=STRIPE_ACCOUNT).first()
    return state.value if state else None


def _store(events: Sequence[dict[str, Any]]) -> list[_Stored]:
    """Store events that arrived together, each under its owner. Raises what the store raises, for all of them."""
    due = [each for each in events if each["state"] == "received"]
    named = [(each["stripe_subscription_id"], each["stripe_customer_id"]) for each in due]
    for event, owner in zip(due, known_owners(named), strict=True):
        event["organization"] = owner
    known = _insert([{name: value for name, value in each.items() if value is not None} for each in events])
    new = [place not in known for place in range(len(events))]
    waker = next(
        (each for each, is_new in zip(events, new, strict=True) if is_new and each["state"] == "received"), None
    )
    return [_Stored(is_new, each is waker) for each, is_new in zip(events, new, strict=True)]


def _insert(rows: list[dict[str, Any]]) -> set[int]:
    """The places of the rows that were known already."""
    durable = WebhookEvent._get_collection().with_options(write_concern=MAJORITY)
    try:
        if len(rows) == 1:
            durable.insert_one(rows[0])
        else:
            durable.insert_many(rows, ordered=False)
    except DuplicateKeyError:
        return {0}
    except BulkWriteError as error:
        refused = error.details["writeErrors"]
        if error.details["writeConcernErrors"] or any(each["code"] != DUPLICATE_KEY for each in refused):
            raise StoreUnavailable(NOT_STORED, retry_after=5) from error
        return {each["index"] for each in refused}
    except PyMongoError as error:
        # A write concern that was not met is the store's trouble, not a bug.
        raise StoreUnavailable(NOT_STORED, retry_after=5) from error
    return set()


_together = GroupCommit(_store)


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
