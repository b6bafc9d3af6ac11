"""The sides that are compared, each to be run in a process of its own so that its memory is only its own."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pymongo
import requests
from pymongo.database import Database

from billing_service import create_app, observability, reconciliation
from billing_service.jobs.reconcile import desk
from billing_service.reconciliation.own_side import UNLISTED_ROWS
from billing_service.settings import Settings
from billing_service.subscriptions.stored_row import PROJECTION

from . import machine
from .population import Population

PAGE = 100
WINDOWS = 4
BATCH = 2_000
FREE = "free"


@dataclass(frozen=True)
class Account:
    """An account at the sandbox and its rows here; `environment` is what a process needs to use both."""

    environment: dict[str, str]
    population: Population


@dataclass
class Outcome:
    """What one side did: seconds on the clock and of the processor, its peak memory, and how much it read."""

    seconds: float
    processor: float
    megabytes: float
    requests: int
    checked: int
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.checked / self.seconds


Work = Callable[..., tuple[int, int, dict[str, Any]]]


def alone(work: Work, account: Account, *more: Any) -> Outcome:
    """Do it in a new process."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_measured, args=(theirs, work, account, more))
    process.start()
    theirs.close()
    try:
        return pipe.recv()
    except EOFError:
        raise RuntimeError(f"{work.__name__} failed: see its traceback above") from None
    finally:
        process.join()


def _measured(pipe: Any, work: Work, account: Account, more: tuple[Any, ...]) -> None:
    watch = _Watch()
    asked, checked, told = work(account, watch, *more)
    seconds, processor = watch.read()
    pipe.send(Outcome(seconds, processor, machine.peak_megabytes(), asked, checked, told))


class _Watch:
    """Time on the clock and of the processor since it was made, or set to nothing."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._began, self._used = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._began, time.process_time() - self._used


def reconcile(account: Account, watch: _Watch, **changes: str) -> tuple[int, int, dict[str, Any]]:
    """A run of the service from beginning to end, as a worker or the command does it."""
    app = create_app(Settings.from_env(os.environ | account.environment | changes))
    observability.configure("ERROR")
    with app.app_context():
        watch.reset()
        run = reconciliation.start("cli", app.extensions["billing"].clock())
        while not (turn := reconciliation.go_on(desk(), lambda: False)).over:
            time.sleep(0.05)
        assert turn.run is not None
        run = turn.run
    assert (run.state, run.errors) == ("completed", 0), run.describe()
    return run.stripe_requests, run.checked, {"divergences": run.divergences, "candidates": run.candidates}


def at_rate(account: Account, watch: _Watch, rate: str) -> tuple[int, int, dict[str, Any]]:
    """A run that may make so many requests a second."""
    return reconcile(account, watch, STRIPE_REQUESTS_PER_SECOND=rate)


def bare(account: Account, watch: _Watch, threads: int) -> tuple[int, int, dict[str, Any]]:
    """The same pages and the same finds, compared with nothing; in one thread, or a window in each of four."""
    people = account.population
    edges = [people.created(people.count * number // WINDOWS) for number in range(WINDOWS)]
    spans = list(zip(edges, [*(edge - 1 for edge in edges[1:]), people.created(people.count)], strict=True))
    with _client(account) as client:
        database = client.get_default_database()
        watch.reset()
        with ThreadPoolExecutor(threads) as pool:
            done = list(pool.map(lambda span: _bare_window(account, database, *span), spans))
        _bare_rest(database)
    return sum(asked for asked, _ in done), sum(found for _, found in done), {}


def _bare_window(account: Account, database: Database, low: int, high: int) -> tuple[int, int]:
    asked = found = 0
    at = high
    with _session(account) as session:
        for page in _pages(session, account, low, high):
            oldest = page[-1]["created"]
            _beside(database, oldest, at)
            at, asked, found = oldest, asked + 1, found + len(page)
    return asked, found


def _pages(session: requests.Session, account: Account, low: int, high: int) -> Iterator[list[dict[str, Any]]]:
    url = f"{account.environment['STRIPE_API_BASE']}/v1/subscriptions"
    wanted: dict[str, Any] = {"limit": PAGE, "created[gte]": low, "created[lte]": high}
    more = True
    while more:
        read = orjson.loads(session.get(url, params=wanted, timeout=30).content)
        yield read["data"]
        more, wanted["starting_after"] = read["has_more"], read["data"][-1]["id"]


def _beside(database: Database, oldest: int, newest: int) -> None:
    span = {"$gte": _time(oldest), "$lte": _time(newest)}
    rows = list(database.subscriptions.find({"stripe_created_at": span}, PROJECTION).hint("stripe_created_at"))
    wanted = [row["organization"] for row in rows]
    assert len(list(database.organizations.find({"_id": {"$in": wanted}}, {"plan": 1}))) == len(wanted)


def _bare_rest(database: Database) -> None:
    """The rows that no list shows, and whether the organizations that have a plan have a row."""
    assert not list(database.subscriptions.find(UNLISTED_ROWS, PROJECTION))
    paid = database.organizations.find({"plan": {"$nin": [None, FREE]}}, {"plan": 1}, batch_size=BATCH)
    batch: list[Any] = []
    for each in paid:
        batch.append(each["_id"])
        if len(batch) == BATCH:
            list(database.subscriptions.find({"organization": {"$in": batch}}, {"organization": 1, "_id": 0}))
            batch.clear()


def one_by_one(account: Account, watch: _Watch, count: int) -> tuple[int, int, dict[str, Any]]:
    """The naive way: a retrieve and a find for each."""
    base = f"{account.environment['STRIPE_API_BASE']}/v1/subscriptions"
    with _client(account) as client, _session(account) as session:
        database = client.get_default_database()
        watch.reset()
        for index in range(count):
            own = account.population.subscription(index)
            orjson.loads(session.get(f"{base}/{own}", timeout=30).content)
            row = database.subscriptions.find_one({"stripe_subscription_id": own}, PROJECTION)
            assert row is not None
            database.organizations.find_one({"_id": row["organization"]}, {"plan": 1})
    return count, count, {}


def _session(account: Account) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {account.environment['STRIPE_SECRET_KEY']}"
    return session


def _client(account: Account) -> pymongo.MongoClient:
    return pymongo.MongoClient(account.environment["MONGODB_URI"], tz_aware=True)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
