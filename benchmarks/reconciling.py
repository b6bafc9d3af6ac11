"""Whole accounts compared with Stripe: rate, requests and memory, beside a bare loop over the same pages and rows."""

import contextlib
import os
import time
from collections.abc import Iterator

import pymongo

from billing_service.sandbox import dev_processes

from .installation import Installation
from .population import settle_in
from .reconciled import PAGE, Account, Outcome, alone, at_rate, bare, one_by_one, reconcile
from .scale import Scale, median

PAIRS = 3
# From so many on once is enough, and takes long enough.
LARGE = 1_000_000
NAIVE = 1_000
DRIFTED = 100
BUDGET = 100
# The background has half of the budget, and as much as it saves up in half a second.
BACKGROUND, SAVED_UP = BUDGET / 2, BUDGET / 4


def run(installation: Installation, scale: Scale) -> None:
    """Print each size, then what a suspect costs, the naive way, and how far the budget is from being the bound."""
    print("Reconciling: each run in a process of its own, the sandbox's pages made as they are asked for")
    peaks = []
    for number, count in enumerate(scale.reconciled):
        with _account(installation, number, count) as account:
            peaks.append(_beside_bare(account, count))
            if number == 0:
                _suspects(account)
                _naive(account)
            if number == min(1, len(scale.reconciled) - 1):
                _on_a_budget(account, count)
    print(f"  peak memory, largest to smallest: {peaks[-1] / peaks[0]:.2f} (target: at most 1.30, below 200 MB)\n")


@contextlib.contextmanager
def _account(installation: Installation, number: int, count: int) -> Iterator[Account]:
    """An account of so many subscriptions, all in step with rows in a database of its own."""
    made = installation.control.add_account(id=f"acct_reconciled{number}", key=f"sk_test_reconciled{number}")
    name = f"reconciled{number}"
    environment = installation.environment | {
        "MONGODB_URI": installation.environment["MONGODB_URI"].replace("/billing?", f"/{name}?"),
        "STRIPE_SECRET_KEY": made["key"],
        "RECONCILE_CONFIRM_SECONDS": "0",
    }
    indexes = dev_processes.indexes(installation.folder / f"{name}.log", os.environ | environment)
    indexes.start()
    assert indexes.process is not None
    assert indexes.process.wait(60) == 0, indexes.log_tail()
    client: pymongo.MongoClient = installation.database.client
    begun = time.perf_counter()
    people = settle_in(installation.control, client[name], made["key"], count, made["id"])
    print(f"  {f'{count:,} subscriptions filled in':<40}{time.perf_counter() - begun:7.0f} s")
    try:
        yield Account(environment, people)
    finally:
        client.drop_database(name)


def _beside_bare(account: Account, count: int) -> float:
    """Print one size; returns the peak memory in MB."""
    times = PAIRS if count < LARGE else 1
    ours, others = [], []
    for _ in range(times):
        ours.append(alone(reconcile, account))
        others.append([alone(bare, account, 1), alone(bare, account, 4)])
    for each in ours:
        assert (each.checked, each.told["divergences"]) == (count, 0), each
    assert {each.checked for pair in others for each in pair} == {count}
    print(_line(f"{count:,} subscriptions", ours) + f"   peak {_peak(ours):.0f} MB")
    for place, name in enumerate(("bare, one thread", "bare, four threads")):
        print(_line(name, [pair[place] for pair in others]))
    ratio = median(mine.rate / max(each.rate for each in pair) for mine, pair in zip(ours, others, strict=True))
    share = ours[0].requests / (count / PAGE)
    print(f"  ratio to the faster bare loop {ratio:.2f} (target: at least 0.60)")
    print(f"  {share:.3f} Stripe requests for each {PAGE} (target: at most 1.05)")
    return _peak(ours)


def _line(name: str, runs: list[Outcome]) -> str:
    seconds, rate = median(each.seconds for each in runs), median(each.rate for each in runs)
    processor = median(each.processor / each.checked for each in runs) * 1e6
    return (
        f"  {name:<34}{seconds:8.1f} s {rate:9,.0f}/s   CPU {processor:4.0f} us each   "
        f"{runs[0].requests:,} Stripe requests"
    )


def _peak(runs: list[Outcome]) -> float:
    return max(each.megabytes for each in runs)


def _suspects(account: Account) -> None:
    """What has drifted costs a request each, and a look at what the database knows of it."""
    clean = alone(reconcile, account)
    client: pymongo.MongoClient = pymongo.MongoClient(account.environment["MONGODB_URI"])
    rows = client.get_default_database().subscriptions
    chosen = [account.population.subscription(index * account.population.count // DRIFTED) for index in range(DRIFTED)]
    rows.update_many({"stripe_subscription_id": {"$in": chosen}}, {"$set": {"quantity": 7}})
    drifted = alone(reconcile, account)
    assert drifted.told["divergences"] == drifted.told["candidates"] == DRIFTED, drifted.told
    rows.update_many({"stripe_subscription_id": {"$in": chosen}}, {"$set": {"quantity": 1}})
    client.close()
    each = (drifted.seconds - clean.seconds) / DRIFTED * 1000
    print(f"  {f'{DRIFTED} that drifted':<34}{each:8.1f} ms each   {drifted.requests - clean.requests} Stripe requests")


def _naive(account: Account) -> None:
    naive, ours = alone(one_by_one, account, NAIVE), alone(reconcile, account)
    print(_line(f"{NAIVE:,} retrieved one by one", [naive]) + f"   we are {ours.rate / naive.rate:.0f} times as fast")


def _on_a_budget(account: Account, count: int) -> None:
    """Where Stripe's limit is the bound, a run takes as long as its requests must."""
    took = alone(at_rate, account, str(BUDGET))
    bound = max(0.0, took.requests - SAVED_UP) / BACKGROUND
    print(_line(f"{count:,} at {BUDGET} requests a second", [took]))
    over = took.seconds / bound - 1
    print(f"  the background's half of that needs {bound:.1f} s; it took {over:+.0%} (0%: nothing else was the bound)")
