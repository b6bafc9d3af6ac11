"""Signals as they are stored, with the transition itself or right after what they tell of."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from ..documents import OutboxSignal

KEPT = timedelta(days=90)


def signal(
    name: str,
    key: str,
    *,
    now: datetime,
    organization: ObjectId | None = None,
    facts: dict[str, Any] | None = None,
    **about: Any,
) -> OutboxSignal:
    """A signal to be stored; `key` is what happened, once. `about` may be subscription and version."""
    return OutboxSignal(
        key=key,
        name=name,
        organization=organization,
        facts=facts or {},
        created_at=now,
        next_attempt_at=now,
        expires_at=now + KEPT,
        **about,
    )


def put(signals: Iterable[OutboxSignal]) -> int:
    """Store signals, each key once; returns how many are new. May be called inside a transaction."""
    new = 0
    for each in signals:
        fields = {name: value for name, value in each.to_mongo().items() if name not in ("_id", "key")}
        written = OutboxSignal._get_collection().update_one({"key": each.key}, {"$setOnInsert": fields}, upsert=True)
        new += written.upserted_id is not None
    return new
