"""Seeded subscriptions and their customers: N of them at the cost of one row. Each is computed from its index, as
bytes, when it is read; only what is changed afterwards is stored (and is then skipped here).

Index i of a batch of `count` has created = created_from + i * (created_to - created_from) // count, price
prices[i % n], the status at slot (37 i) % 100 of the weights, metadata[metadata_key] = 24 hex digits of
organization_base + i, and the period [period_start + i % 86400, + 30 days).
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from typing import Any

import orjson

from .shapes import customer_shape, item_shape, subscription_shape

ID = re.compile(r"^(sub_1Seed|cus_Seed)(\d{2})(\d{8})$")
KINDS = {"sub_1Seed": "subscription", "cus_Seed": "customer"}
PREFIX = {kind: prefix for prefix, kind in KINDS.items()}
SLOTS = 100
PERIOD = 30 * 86400
DEFAULTS: dict[str, Any] = {
    "created_from": 1735689600,
    "created_to": 1767225600,
    "organization_base": "5eed00000000000000000000",
    "metadata_key": "organizationId",
    "statuses": {"active": 1},
    "period_start": 1767225600,
}


class Batch:
    def __init__(self, account, number, base_seq, rule):
        self.account, self.number, self.base_seq, self.rule = account, number, base_seq, rule
        self.count = rule["count"]
        self.prices = [price["id"] for price in rule["prices"]]
        self.statuses = slots(rule["statuses"])
        self.period = math.lcm(len(self.prices), SLOTS)
        self.organization_base = int(rule["organization_base"], 16)
        self.templates: dict = {}
        self.count_of_overrides = 0

    def created(self, index):
        return self.rule["created_from"] + index * (self.rule["created_to"] - self.rule["created_from"]) // self.count

    def status(self, index):
        return self.statuses[index * 37 % SLOTS]

    def price(self, index):
        return self.prices[index % len(self.prices)]

    def id(self, kind, index):
        return f"{PREFIX[kind]}{self.number:02d}{index:08d}"

    def body(self, kind, index) -> bytes:
        key = (kind, index % len(self.prices), self.status(index))
        if key not in self.templates:
            self.templates[key] = compiled(self, *key)
        start = self.rule["period_start"] + index % 86400
        return self.templates[key] % {
            b"batch": self.number,
            b"index": index,
            b"created": self.created(index),
            b"start": start,
            b"end": start + PERIOD,
            b"organization": b"%024x" % (self.organization_base + index),
        }

    def row(self, kind, index) -> dict:
        subscription = kind == "subscription"
        return {
            "account": self.account,
            "kind": kind,
            "id": self.id(kind, index),
            "seq": self.base_seq + index,
            "created": self.created(index),
            "due_at": None,
            "parent": None,
            "customer": self.id("customer", index) if subscription else None,
            "status": self.status(index) if subscription else None,
            "body": self.body(kind, index),
        }

    def bounds(self, low, high, cursor, descending) -> tuple[int, int]:
        """The indexes [first, last) created within low..high and beyond the cursor (created, seq)."""
        every = range(self.count)
        first = bisect_left(every, low, key=self.created) if low is not None else 0
        last = bisect_right(every, high, key=self.created) if high is not None else self.count
        if cursor:
            place = [bisect_left, bisect_right][not descending]
            at = place(every, cursor, key=lambda index: (self.created(index), self.base_seq + index))
            first, last = (first, min(last, at)) if descending else (max(first, at), last)
        return first, max(first, last)

    def scan(self, bounds, descending, fits, limit):
        """Indexes that fit, in order; gives up after a whole cycle of prices and statuses without one."""
        first, last = bounds
        idle = found = 0
        for index in range(last - 1, first - 1, -1) if descending else range(first, last):
            if fits(index):
                yield index
                idle, found = 0, found + 1
            else:
                idle += 1
            # An override makes a fitting index idle: a page's worth of slack keeps those from ending the scan.
            if found >= limit or idle > self.period + self.count_of_overrides:
                return


class Seeds:
    def __init__(self, store):
        self.store = store
        self.reload()

    def reload(self):
        self.batches: dict = {}
        for row in self.store.all("SELECT * FROM seeds ORDER BY batch"):
            batch = Batch(row["account"], row["batch"], row["base_seq"], orjson.loads(row["rule"]))
            self.batches[row["account"], row["batch"]] = batch
        for batch in self.batches.values():
            batch.count_of_overrides = len(
                self.store.all(
                    "SELECT 1 FROM seed_overrides WHERE account = ? AND batch = ?", (batch.account, batch.number)
                )
            )

    def of(self, account):
        return [batch for key, batch in self.batches.items() if key[0] == account]

    def add(self, account, number, rule) -> Batch:
        if (account, number) in self.batches:
            raise ValueError(f"batch {number} is there already")
        with self.store.transaction():
            base_seq = self.store.next_seq(rule["count"])
            self.store.run(
                "INSERT INTO seeds VALUES (?, ?, ?, ?)", (number, account, base_seq, orjson.dumps(rule).decode())
            )
        batch = self.batches[account, number] = Batch(account, number, base_seq, rule)
        return batch

    def locate(self, account, object_id):
        match = ID.match(object_id)
        if not match:
            return None
        prefix, number, index = match.groups()
        batch = self.batches.get((account, int(number)))
        if not batch or int(index) >= batch.count:
            return None
        return batch, KINDS[prefix], int(index)

    def row(self, account, object_id):
        """The row of a seeded object that nobody has changed or removed."""
        place = self.locate(account, object_id)
        if not place or place[2] in self.overridden(place[0], place[1], place[2], place[2]):
            return None
        return place[0].row(place[1], place[2])

    def override(self, account, object_id):
        place = self.locate(account, object_id)
        if place:
            batch, kind, index = place
            done = self.store.run(
                "INSERT OR IGNORE INTO seed_overrides VALUES (?, ?, ?, ?)", (account, batch.number, kind, index)
            )
            batch.count_of_overrides += done.rowcount

    def overridden(self, batch, kind, first, last) -> set:
        rows = self.store.all(
            "SELECT position FROM seed_overrides WHERE account = ? AND batch = ? AND kind = ? AND "
            "position BETWEEN ? AND ?",
            (batch.account, batch.number, kind, first, last),
        )
        return {row["position"] for row in rows}


def slots(weights: dict) -> list[str]:
    """SLOTS statuses in proportion to the weights, the rest going to the first."""
    total = sum(weights.values())
    counts = {status: int(SLOTS * weight / total) for status, weight in weights.items()}
    counts[next(iter(weights))] += SLOTS - sum(counts.values())
    return [status for status, count in counts.items() for _ in range(count)]


def compiled(batch: Batch, kind, price_index, status) -> bytes:
    """A bytes template of an object: `@name@` marks become format fields."""
    if kind == "customer":
        subject = seeded_customer(batch)
    else:
        subject = seeded_subscription(batch, batch.rule["prices"][price_index], status)
    text = orjson.dumps(subject).replace(b"%", b"%%")
    for name in (b"created", b"start", b"end"):
        text = text.replace(b'"@%b@"' % name, b"%%(%b)d" % name)
    return text.replace(b"@id@", b"%(batch)02d%(index)08d").replace(b"@organization@", b"%(organization)b")


def seeded_customer(batch):
    customer = customer_shape(0, "cus_Seed@id@")
    return customer | {
        "created": "@created@",
        "currency": "usd",
        "email": "seed@id@@example.com",
        "invoice_prefix": "SEED@id@",
        "name": "Seeded customer @id@",
        "metadata": {batch.rule["metadata_key"]: "@organization@"},
    }


def seeded_subscription(batch, price, status):
    subscription = subscription_shape(0, "cus_Seed@id@", "sub_1Seed@id@")
    item = item_shape(0, subscription["id"], price, "@start@", "@end@", "si_Seed@id@")
    subscription["items"]["data"] = [item | {"created": "@created@"}]
    subscription |= {
        "created": "@created@",
        "start_date": "@created@",
        "billing_cycle_anchor": "@start@",
        "status": status,
        "currency": price["currency"],
        "metadata": {batch.rule["metadata_key"]: "@organization@"},
    }
    if status in ("canceled", "incomplete_expired"):
        subscription |= {"canceled_at": "@start@" if status == "canceled" else None, "ended_at": "@start@"}
    if status == "trialing":
        subscription |= {"trial_start": "@start@", "trial_end": "@end@"}
    return subscription
