"""A ledger of a million events, a tenth of them dead: pages of dead letters, the first and deep ones, and groups."""

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import mongoengine
from bson import ObjectId

from billing_service import create_app, observability, tokens
from billing_service.documents import WebhookEvent, ensure_indexes
from billing_service.settings import Settings

from .installation import Installation
from .scale import Scale

BASE = "/api/admin/billing/dead-letters"
LOT = 10_000
PAGE = 20
ROUNDS = 41
MOST = 1.5
TYPES = ("customer.subscription.updated", "invoice.paid", "charge.refunded", "customer.deleted")
FINGERPRINTS = 200


def run(installation: Installation, scale: Scale) -> None:
    """Print how long pages and groups take, and the ratio of a deep page to the first one."""
    observability.configure("ERROR")
    # A database of its own: the others measured with an almost empty ledger.
    uri = installation.environment["MONGODB_URI"].replace("/billing?", "/letters?")
    app = create_app(Settings.from_env(os.environ | installation.environment | {"MONGODB_URI": uri}))
    client = app.test_client()
    print(f"Dead letters: {scale.ledger_events:,} events, {scale.ledger_events // 10:,} of them dead")
    try:
        with app.app_context():
            ensure_indexes([WebhookEvent])
            begun = time.perf_counter()
            _fill(scale.ledger_events)
            print(f"  {'filled in':<34}{time.perf_counter() - begun:7.0f} s")
            token = tokens.issue(app.extensions["billing"].settings, "bench", ["admin"], 60)
            headers = {"Authorization": f"Bearer {token}"}

            def get(query: str) -> Any:
                answer = client.get(f"{BASE}{query}", headers=headers)
                assert answer.status_code == 200, answer.json
                return answer.json

            _pages(get, scale.ledger_depth)
            _groups(get)
            WebhookEvent._get_collection().database.client.drop_database("letters")
    finally:
        mongoengine.disconnect_all()


def _pages(get: Callable[[str], Any], depth: int) -> None:
    cursor = _cursor_at(get, depth)
    queries = {"first": f"?limit={PAGE}", "deep": f"?limit={PAGE}&cursor={cursor}"}
    spans: dict[str, list[float]] = {name: [] for name in queries}
    for _ in range(ROUNDS):
        for name, query in queries.items():
            spans[name].append(_seconds(lambda query=query: get(query)))
    first, deep = (statistics.median(spans[name]) * 1000 for name in queries)
    print(f"  {'GET /dead-letters, first page':<34}{first:7.1f} ms")
    print(f"  {f'by cursor at depth {depth:,}':<34}{deep:7.1f} ms   ratio {deep / first:.2f}, at most {MOST}")


def _cursor_at(get: Callable[[str], Any], depth: int) -> str:
    """The cursor that a person gets who turns the pages that far."""
    cursor = ""
    for _ in range(depth // 100):
        cursor = get(f"?limit=100{cursor and f'&cursor={cursor}'}")["nextCursor"]
    return cursor


def _groups(get: Callable[[str], Any]) -> None:
    week = (NOW - timedelta(days=7)).isoformat().replace("+00:00", "Z")
    for name, query in (("all", ""), ("of a week", f"?from={week}"), ("of one type", f"?type={TYPES[0]}")):
        spans = [_seconds(lambda query=query: get(f"/groups{query}")) for _ in range(5)]
        told = get(f"/groups{query}")
        letters = f"{told['letters']:,} in {told['total']} groups"
        print(f"  {f'groups, {name}':<34}{statistics.median(spans) * 1000:7.1f} ms   {letters}")


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


NOW = datetime.now(UTC).replace(microsecond=0)


def _fill(count: int) -> None:
    for lot in _lots(count):
        WebhookEvent._get_collection().insert_many(lot, ordered=False)


def _lots(count: int) -> Iterator[list[dict[str, Any]]]:
    dice = random.Random(5)
    for first in range(0, count, LOT):
        yield [_event(number, dice) for number in range(first, min(count, first + LOT))]


def _event(number: int, dice: random.Random) -> dict[str, Any]:
    at = NOW - timedelta(seconds=dice.randrange(90 * 86_400))
    event: dict[str, Any] = {
        "event_id": f"evt_L{number}",
        "type": TYPES[number % len(TYPES)],
        "created": at,
        "received_at": at,
        "payload": "x" * 400,
        "source": "delivery",
        "state": "succeeded",
        "outcome": "applied",
        "attempts": 1,
        "organization": ObjectId(f"{dice.randrange(50_000):024x}"),
        "stripe_customer_id": f"cus_{number % 50_000}",
        "stripe_subscription_id": f"sub_{number % 50_000}",
        "history": [{"at": at, "source": "webhook", "code_version": "0.1.0", "outcome": "applied"}],
        "expires_at": NOW + timedelta(days=90),
    }
    if number % 10 == 0:
        event |= {"state": "dead", "reason": "handler_failed", "attempts": 5, "dead_at": at + timedelta(hours=1)}
        event |= {"fingerprint": f"ValueError: cause {dice.randrange(FINGERPRINTS)}", "dead_version": "0.1.0"}
        del event["outcome"], event["expires_at"]
    return event
