"""Pages of objects, newest first: stored rows merged with seeded ones, as encoded bytes wherever possible."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import islice

from .problems import invalid, missing

PAST = """(SELECT account, kind, id, seq, created, customer, parent, status, body FROM objects AS o
  WHERE account = :account AND kind = :kind AND NOT EXISTS
    (SELECT 1 FROM history AS h WHERE h.account = o.account AND h.id = o.id AND h.at > :as_of)
  UNION ALL SELECT account, kind, id, seq, created, customer, parent, status, body FROM history AS h
  WHERE account = :account AND kind = :kind AND at > :as_of AND body IS NOT NULL AND n =
    (SELECT MIN(n) FROM history AS f WHERE f.account = h.account AND f.id = h.id AND f.at > :as_of))"""


@dataclass
class Wanted:
    """What a list request asks for. SQL conditions with values: `more` is met by no seeded object, `stored` by all."""

    kind: str
    created: object = None
    customer: str | None = None
    parent: str | None = None
    price: str | None = None
    statuses: set | None = None
    without: set = field(default_factory=set)
    more: list = field(default_factory=list)
    stored: list = field(default_factory=list)
    seed_index: int | None = None


@dataclass
class Page:
    """`ready`: the bodies are already in the shape of the answer."""

    url: str
    bodies: list
    has_more: bool
    ready: bool = False


def page(call, wanted: Wanted, url: str) -> Page:
    limit = call.params.get("limit", 10)
    if not 1 <= limit <= 100:
        bound = "greater than or equal to 1" if limit < 1 else "less than or equal to 100"
        raise invalid(f"This value must be {bound} (it currently is '{limit}').", "limit", "parameter_invalid_integer")
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    if after and before:
        raise invalid(
            "You may only specify one of these parameters: starting_after, ending_before.",
            "starting_after",
            "parameters_exclusive",
        )
    descending = not before
    cursor = position(call.books, wanted.kind, after or before, "starting_after" if after else "ending_before")
    found = list(islice(merged(call, wanted, cursor, descending, limit + 1), limit + 1))
    bodies = [body for _, _, body in found[:limit]]
    return Page(url, bodies if descending else bodies[::-1], len(found) > limit)


def position(books, kind, object_id, param):
    if not object_id:
        return None
    row = books.row(object_id)
    if not row or row["kind"] != kind:
        raise missing(kind, object_id, param, 400)
    return row["created"], row["seq"]


def merged(call, wanted, cursor, descending, count):
    low, high = window(wanted.created)
    streams = [stored(call.books, wanted, (low, high), cursor, descending, count)]
    if wanted.kind in ("subscription", "customer") and not wanted.more:
        for batch in call.books.sandbox.seeds.of(call.books.account):
            streams.append(seeded(call, batch, wanted, (low, high), cursor, descending, count))
    return heapq.merge(*streams, key=lambda entry: entry[:2], reverse=descending)


def window(created) -> tuple:
    """`created` as inclusive bounds."""
    if created is None:
        return None, None
    if isinstance(created, int):
        return created, created
    lows = [created[name] + (name == "gt") for name in ("gt", "gte") if name in created]
    highs = [created[name] - (name == "lt") for name in ("lt", "lte") if name in created]
    return max(lows, default=None), min(highs, default=None)


def stored(books, wanted, bounds, cursor, descending, count):
    values = {"account": books.account, "kind": wanted.kind, "as_of": books.as_of, "count": count}
    conditions = ["account = :account", "kind = :kind"]

    def add(condition, value):
        name = f"v{len(values)}"
        values[name] = value
        conditions.append(condition.replace("?", f":{name}"))

    for condition, value in simple_conditions(wanted, bounds):
        add(condition, value)
    for condition, value in wanted.more + wanted.stored:
        add(condition, value)
    for name, members in (("IN", wanted.statuses), ("NOT IN", wanted.without)):
        if members:
            quoted = ", ".join(f"'{member}'" for member in sorted(members))
            conditions.append(f"(status {name} ({quoted})" + (" OR status IS NULL)" if name == "NOT IN" else ")"))
    if cursor:
        values |= {"at": cursor[0], "seq": cursor[1]}
        conditions.append(f"(created, seq) {'<' if descending else '>'} (:at, :seq)")
    way = "DESC" if descending else "ASC"
    source = PAST if books.as_of is not None else "objects"
    rows = books.store.all(
        f"SELECT created, seq, CAST(body AS BLOB) AS body FROM {source} AS listed WHERE "
        f"{' AND '.join(conditions)} ORDER BY created {way}, seq {way} LIMIT :count",
        values,
    )
    return [tuple(row) for row in rows]


def simple_conditions(wanted, bounds):
    yield from (
        pair
        for pair in (
            ("customer = ?", wanted.customer),
            ("parent = ?", wanted.parent),
            ("created >= ?", bounds[0]),
            ("created <= ?", bounds[1]),
            (
                "EXISTS (SELECT 1 FROM json_each(body, '$.items.data') WHERE json_extract(value, '$.price.id') = ?)",
                wanted.price,
            ),
        )
        if pair[1] is not None
    )


def seeded(call, batch, wanted, bounds, cursor, descending, count):
    if wanted.parent is not None:
        return
    first, last = batch.bounds(*bounds, cursor, descending)
    wish = wanted.customer if wanted.kind == "subscription" else None
    index = wanted.seed_index
    if wish is not None:
        place = call.books.sandbox.seeds.locate(call.books.account, wish)
        index = place[2] if place and place[0] is batch else -1
    if index is not None:
        first, last = max(first, index), min(last, index + 1)
    changed = call.books.sandbox.seeds.overridden(batch, wanted.kind, first, last)
    for index in batch.scan((first, last), descending, fitting(batch, wanted, changed), count):
        yield batch.created(index), batch.base_seq + index, batch.body(wanted.kind, index)


def fitting(batch, wanted, changed):
    if wanted.kind == "customer":
        return lambda index: index not in changed
    statuses = {
        status
        for status in set(batch.statuses)
        if (not wanted.statuses or status in wanted.statuses) and status not in wanted.without
    }
    if not statuses or (wanted.price and wanted.price not in batch.prices):
        return lambda index: False
    return lambda index: (
        index not in changed
        and batch.status(index) in statuses
        and (not wanted.price or batch.price(index) == wanted.price)
    )
