"""What happened to an organization, in one order: events with their attempts, actions, findings, refunds, signals,
extras.

Each source is read by its own index, for a page a page of it at most; nothing is copied together beforehand.
"""

import base64
import heapq
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from mongoengine import Document, Q

from .documents import EPOCH, AdminAction, Finding, LedgerEntry, OutboxSignal, RefundRequest, WebhookEvent
from .errors import InvalidRequest


@dataclass(frozen=True)
class Source:
    """Rows of one kind; `key` is the field of the time they stand at, `shown` under which name they are shown."""

    kind: str
    document: type[Document]
    key: str
    shown: str
    also: tuple[tuple[str, Any], ...] = ()
    without: tuple[str, ...] = ()


# Of equal times the first one here stands first. An action is shown by its outcome: each intent gets one.
SOURCES = (
    Source("finding_resolved", Finding, "resolved_at", "finding"),
    Source("signal", OutboxSignal, "created_at", "signal"),
    Source("action", AdminAction, "at", "action", also=(("phase", "outcome"),), without=("before", "after")),
    Source("extras", LedgerEntry, "at", "extras", also=(("amount__gte", 0),)),
    Source("refund", RefundRequest, "created_at", "refund", without=("asked", "parameters")),
    Source("finding", Finding, "first_seen_at", "finding"),
    Source("event", WebhookEvent, "received_at", "event", without=("payload",)),
)
KINDS = tuple(source.kind for source in SOURCES)


@dataclass(frozen=True)
class Item:
    """One thing that happened. Items are compared by their place: the newest is the smallest."""

    at: datetime
    rank: int
    row: Document

    @property
    def source(self) -> Source:
        return SOURCES[self.rank]

    def __lt__(self, other: "Item") -> bool:
        mine, others = (self.at, -self.rank, self.row.pk), (other.at, -other.rank, other.row.pk)
        return mine > others


def read(
    org_id: ObjectId,
    *,
    limit: int,
    cursor: str | None = None,
    kinds: Iterable[str] = KINDS,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, Any]:
    """A page of the organization's timeline, newest first. Raises InvalidRequest for a cursor that is not ours."""
    after = _read(cursor) if cursor else None
    merged = _merged(org_id, kinds, lambda rank: _between(rank, since, until) & _below(rank, after), limit + 1)
    found = list(itertools.islice(merged, limit + 1))
    following = _write(found[limit - 1]) if len(found) > limit else None
    return {"items": [_shown(item) for item in found[:limit]], "limit": limit, "next_cursor": following}


def read_all(
    org_id: ObjectId,
    *,
    kinds: Iterable[str] = KINDS,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[dict[str, Any]]:
    """The whole timeline, newest first, read while it is told."""
    return map(_shown, _merged(org_id, kinds, lambda rank: _between(rank, since, until)))


def _merged(
    org_id: ObjectId, kinds: Iterable[str], wanted: Callable[[int], Q], limit: int | None = None
) -> Iterator[Item]:
    """The items of the kinds in their order, at most `limit` read of each source."""
    ranks = [KINDS.index(kind) for kind in kinds]
    return heapq.merge(*(_of_source(rank, org_id, wanted(rank), limit) for rank in ranks))


def _of_source(rank: int, org_id: ObjectId, wanted: Q, limit: int | None) -> Iterator[Item]:
    source = SOURCES[rank]
    found = source.document.objects(Q(organization=org_id) & Q(**dict(source.also)) & wanted).exclude(*source.without)
    rows = found.order_by(f"-{source.key}", "-id").limit(limit).no_cache()
    return (Item(getattr(row, source.key), rank, row) for row in rows)


def _between(rank: int, since: datetime | None, until: datetime | None) -> Q:
    key = SOURCES[rank].key
    # The lower bound leaves out rows that have no such time, as the index does.
    bounds: dict[str, Any] = {f"{key}__gt": EPOCH, f"{key}__gte": since, f"{key}__lt": until}
    return Q(**{name: bound for name, bound in bounds.items() if bound is not None})


def _below(rank: int, after: tuple[datetime, int, ObjectId] | None) -> Q:
    """What stands after a place: earlier, or at the same time and of a later kind, or of the same with a lower id."""
    if after is None:
        return Q()
    key, (at, its_rank, its_id) = SOURCES[rank].key, after
    if rank < its_rank:
        return Q(**{f"{key}__lt": at})
    if rank > its_rank:
        return Q(**{f"{key}__lte": at})
    return Q(**{f"{key}__lte": at}) & (Q(**{f"{key}__lt": at}) | Q(id__lt=its_id))


def _shown(item: Item) -> dict[str, Any]:
    return {"at": item.at, "kind": item.source.kind, "id": str(item.row.pk), item.source.shown: item.row}


def _write(item: Item) -> str:
    content = json.dumps([round(item.at.timestamp() * 1000), item.source.kind, str(item.row.pk)])
    return base64.urlsafe_b64encode(content.encode()).decode()


def _read(cursor: str) -> tuple[datetime, int, ObjectId]:
    try:
        milliseconds, kind, text = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if type(milliseconds) is not int or not isinstance(text, str):
            raise ValueError("of other types")
        at = datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
        return at, KINDS.index(kind), ObjectId(text)
    except Exception as error:  # whatever a forged cursor decodes to, it is not one of ours
        raise InvalidRequest("The cursor is not one that this service gave.", errors={"cursor": ["unknown"]}) from error
