"""The weekly reset of many organizations that are due at once: rate and memory, beside the bare bulk writes."""

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.database import Database

from billing_service import create_app, observability, usage
from billing_service.documents import week_of, week_start
from billing_service.sandbox import dev_processes
from billing_service.settings import Settings

from .installation import Installation
from .reconciled import Account, Outcome, alone
from .scale import Scale, median

PAIRS = 3
PAGE = 500
CHUNK = 10_000
QUOTA = 500_000
OWING = 1_000
NAME = "reset"


def run(installation: Installation, scale: Scale) -> None:
    """Print each size, then what an organization costs that owes something."""
    print(f"Weekly reset: each run in a process of its own, medians of {PAIRS} pairs")
    with _account(installation) as account:
        database = installation.database.client[NAME]
        peaks = [_beside_bare(database, account, count) for count in scale.reset]
        _owing(database, account, min(OWING, scale.reset[0]))
    print(f"  peak memory, largest to smallest: {peaks[-1] / peaks[0]:.2f}\n")


@contextlib.contextmanager
def _account(installation: Installation) -> Iterator[Account]:
    """A database of its own, with its indexes."""
    uri = installation.environment["MONGODB_URI"].replace("/billing?", f"/{NAME}?")
    environment = installation.environment | {"MONGODB_URI": uri, "METER_MODE": "true"}
    indexes = dev_processes.indexes(installation.folder / f"{NAME}.log", os.environ | environment)
    indexes.start()
    assert indexes.process is not None
    assert indexes.process.wait(60) == 0, indexes.log_tail()
    try:
        yield Account(environment, installation.population)
    finally:
        installation.database.client.drop_database(NAME)


def _beside_bare(database: Database, account: Account, count: int) -> float:
    """Print one size; returns the peak memory in MB."""
    _fill(database, count)
    pairs = [(_run(database, account, reset), _run(database, account, bare)) for _ in range(PAIRS)]
    assert {each.checked for pair in pairs for each in pair} == {count}
    for name, runs in zip((f"{count:,} due", "bare bulk writes"), zip(*pairs, strict=True), strict=True):
        print(_line(name, runs))
    print(f"  ratio {median(mine.rate / other.rate for mine, other in pairs):.2f}")
    return max(mine.megabytes for mine, _ in pairs)


def _line(name: str, runs: tuple[Outcome, ...]) -> str:
    seconds, rate = median(each.seconds for each in runs), median(each.rate for each in runs)
    return f"  {name:<34}{seconds:8.2f} s {rate:9,.0f}/s   peak {max(each.megabytes for each in runs):.0f} MB"


def _owing(database: Database, account: Account, count: int) -> None:
    _fill(database, count)
    database.extra_balances.insert_many([{"_id": ObjectId(f"{each:024x}"), "units": -100} for each in range(count)])
    took = _run(database, account, reset)
    assert (took.checked, took.told["settled"]) == (count, count)
    print(_line(f"{count:,} due that owe", (took,)))


def _run(database: Database, account: Account, work: Any) -> Outcome:
    """With all rows due again."""
    database.subscriptions.update_many({}, {"$set": {"last_reset_at": datetime.now(UTC) - timedelta(days=7)}})
    database.usage_weeks.delete_many({})
    return alone(work, account)


def _fill(database: Database, count: int) -> None:
    """So many rows, all that the reset reads of them."""
    statuses = ("active", "active", "active", "trialing", "past_due", "canceled")
    for name in ("subscriptions", "extra_balances", "ledger_entries"):
        database[name].delete_many({})
    for first in range(0, count, CHUNK):
        numbers = range(first, min(count, first + CHUNK))
        rows = (
            {"organization": ObjectId(f"{each:024x}"), "status": statuses[each % 6], "plan": "pro", "version": 1}
            | {"stripe_customer_id": f"cus_{each}", "stripe_subscription_id": f"sub_{each}"}
            for each in numbers
        )
        database.subscriptions.insert_many(rows, ordered=False)


def reset(account: Account, watch: Any) -> tuple[int, int, dict[str, Any]]:
    """A run of the service from beginning to end, as a worker or the command does it."""
    app = create_app(Settings.from_env(os.environ | account.environment))
    observability.configure("ERROR")
    billing = app.extensions["billing"]
    with app.app_context():
        watch.reset()
        done = usage.reset_due(usage.Reset(), plans=billing.plans, now=billing.clock(), stop=lambda: False)
    assert not done.counts["failed"]
    return 0, done.counts["reset"], dict(done.counts)


def bare(account: Account, watch: Any) -> tuple[int, int, dict[str, Any]]:
    """The same pages, weeks and marks by the driver alone; nothing is decided, and nobody may be in the way."""
    with pymongo.MongoClient(account.environment["MONGODB_URI"], tz_aware=True) as client:
        database, now, count = client.get_default_database(), datetime.now(UTC), 0
        watch.reset()
        due = {"last_reset_at": {"$lt": week_start(now)}}
        for status in database.subscriptions.distinct("status"):
            rows = database.subscriptions.find({"status": status, **due}, {"organization": 1}, batch_size=PAGE)
            while page := [row for _, row in zip(range(PAGE), rows, strict=False)]:
                count += _bare_page(database, page, now)
    return 0, count, {}


def _bare_page(database: Database, page: list[dict[str, Any]], now: datetime) -> int:
    weeks = [{"organization": row["organization"], "week": week_of(now), "quota": QUOTA, "used": 0} for row in page]
    database.usage_weeks.insert_many(weeks, ordered=False)
    mine = {"_id": {"$in": [row["_id"] for row in page]}}
    return database.subscriptions.update_many(mine, {"$set": {"last_reset_at": now}}).modified_count
