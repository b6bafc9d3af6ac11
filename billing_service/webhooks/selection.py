"""Choosing many events to replay: a filter with its time, the token that stands for it, and what it selects."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection

from ..documents import WebhookEvent
from ..errors import SelectionExpired, SelectionInvalid
from .handlers import HANDLERS
from .intake import WRONG_ACCOUNT, WRONG_MODE

STATES = ("dead", "failed", "received")
MOST = 50_000
SAMPLE = 10
VALID = timedelta(minutes=15)
UNFIT = (WRONG_MODE, WRONG_ACCOUNT)
TIMES = ("received_from", "received_to", "dead_from", "dead_to")
_SHOWN = ("event_id", "type", "organization", "created", "reason")


@dataclass(frozen=True)
class Selection:
    """A filter as it was meant at a time. What died, or arrived, later is not selected."""

    wanted: Mapping[str, Any]
    at: datetime

    @property
    def limit(self) -> int:
        return self.wanted.get("limit") or MOST

    @property
    def words(self) -> str:
        """The filter in a line, for the audit log."""
        told = {"state": "dead"} | dict(self.wanted)
        return " ".join(f"{name}={_plain(value)}" for name, value in sorted(told.items()))

    @property
    def digest(self) -> str:
        """The same for the same filter and time."""
        return hashlib.sha256(_content(self)).hexdigest()


def select(wanted: Mapping[str, Any], at: datetime) -> Selection:
    """The selection of a filter: state, type, fingerprint, reason, org_id, received_from, received_to,
    dead_from, dead_to (dead letters only), limit."""
    # Milliseconds, as the database stores times: else what died in this one would be in by day and out by token.
    given = {name: value for name, value in wanted.items() if value is not None}
    return Selection(given, at.replace(microsecond=at.microsecond // 1000 * 1000))


def count(selection: Selection) -> tuple[int, bool]:
    """How many events would be replayed, at most as many as the limit; whether the limit leaves some out."""
    found = _collection().count_documents(_fit(selection), limit=selection.limit + 1)
    return min(found, selection.limit), found > selection.limit


def count_unfit(selection: Selection) -> int:
    """How many match that no replay can help: of the other mode, another account, without a handler."""
    matching = _collection().count_documents(_matching(selection), limit=MOST)
    return matching - _collection().count_documents(_fit(selection), limit=MOST)


def ordered(selection: Selection, limit: int | None = None) -> list[dict[str, Any]]:
    """What would be replayed, in its order: the first that Stripe created first."""
    stages: list[dict[str, Any]] = [
        {"$match": _fit(selection)},
        # Before the sort, which has to hold them all.
        {"$project": dict.fromkeys(_SHOWN, 1)},
        {"$sort": {"created": 1, "_id": 1}},
        {"$limit": min(limit or MOST, selection.limit)},
    ]
    # What an event lacks is none, in answers too.
    return [dict.fromkeys(_SHOWN) | found for found in _collection().aggregate(stages)]


def _matching(selection: Selection) -> dict[str, Any]:
    wanted = selection.wanted
    state = wanted.get("state", "dead")
    times = {"received_at": _bounds(wanted, "received"), "dead_at": _bounds(wanted, "dead")}
    # What arrived, or died, after somebody looked is not in it.
    times["dead_at" if state == "dead" else "received_at"]["$lte"] = selection.at
    names = {"type": "type", "fingerprint": "fingerprint", "reason": "reason", "org_id": "organization"}
    fields = {field: wanted[name] for name, field in names.items() if wanted.get(name) is not None}
    return {"state": state, **fields, **{name: bounds for name, bounds in times.items() if bounds}}


def _bounds(wanted: Mapping[str, Any], name: str) -> dict[str, Any]:
    bounds = {"$gte": wanted.get(f"{name}_from"), "$lt": wanted.get(f"{name}_to")}
    return {word: at for word, at in bounds.items() if at is not None}


def _fit(selection: Selection) -> dict[str, Any]:
    fit = {"type": {"$in": sorted(HANDLERS)}, "reason": {"$nin": list(UNFIT)}}
    return {"$and": [_matching(selection), fit]}


def key_of(*secrets: str) -> bytes:
    """The key that tokens are sealed with, the same in all processes that share these secrets.

    Whoever may replay may choose any filter: the seal grants nothing, it finds what was cut, mixed up or made up.
    """
    return hashlib.sha256("\0".join(secrets).encode()).digest()


def seal(selection: Selection, key: bytes) -> str:
    """The token that stands for the selection."""
    content = _content(selection)
    return f"{_text(content)}.{_text(_mac(content, key))}"


def unseal(token: str, key: bytes) -> Selection:
    """The selection behind a token, however old. Raises SelectionInvalid."""
    try:
        written, mac = token.encode().split(b".")
        content = base64.b64decode(written, altchars=b"-_", validate=True)
        if not hmac.compare_digest(_text(_mac(content, key)).encode(), mac) or _text(content).encode() != written:
            raise ValueError("not ours")
    except ValueError as error:
        raise SelectionInvalid("The selection is not one that this service gave. Ask for a dry run.") from error
    told = json.loads(content)
    return Selection({name: _read(name, value) for name, value in told.items() if name != "at"}, _time(told["at"]))


def refuse_old(selection: Selection, now: datetime) -> None:
    """Refuse a selection that somebody looked at long ago. Raises SelectionExpired."""
    if now - selection.at > VALID:
        minutes = int(VALID.total_seconds() // 60)
        raise SelectionExpired(f"The selection is older than {minutes} minutes. Ask for a dry run and look again.")


def _content(selection: Selection) -> bytes:
    told = {name: _plain(value) for name, value in selection.wanted.items()} | {"at": _plain(selection.at)}
    return json.dumps(told, sort_keys=True).encode()


def _mac(content: bytes, key: bytes) -> bytes:
    return hmac.new(key, b"replay selection\0" + content, hashlib.sha256).digest()


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, ObjectId) else value


def _read(name: str, value: Any) -> Any:
    if name in TIMES:
        return _time(value)
    return ObjectId(value) if name == "org_id" else value


def _time(value: str) -> datetime:
    return datetime.fromisoformat(value)


def _collection() -> Collection:
    return WebhookEvent._get_collection()
