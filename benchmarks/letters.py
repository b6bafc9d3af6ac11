"""A ledger of a million events, a tenth of them dead: pages of dead letters, the first and deep ones, and groups."""

import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import mongoengine

from billing_service import create_app, observability, tokens
from billing_service.settings import Settings

from .installation import Installation
from .ledger import TYPES
from .scale import Scale

BASE = "/api/admin/billing/dead-letters"
PAGE = 20
ROUNDS = 41
MOST = 1.5


def run(installation: Installation, scale: Scale, uri: str) -> None:
    """Print how long pages and groups take, and the ratio of a deep page to the first one."""
    observability.configure("ERROR")
    app = create_app(Settings.from_env(os.environ | installation.environment | {"MONGODB_URI": uri}))
    client = app.test_client()
    print("Dead letters: in one process, medians")
    try:
        with app.app_context():
            token = tokens.issue(app.extensions["billing"].settings, "bench", ["admin"], 60)
            headers = {"Authorization": f"Bearer {token}"}

            def get(query: str) -> Any:
                answer = client.get(f"{BASE}{query}", headers=headers)
                assert answer.status_code == 200, answer.json
                return answer.json

            _pages(get, scale.ledger_depth)
            _groups(get)
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
    week = (datetime.now(UTC) - timedelta(days=7)).isoformat().replace("+00:00", "Z")
    for name, query in (("all", ""), ("of a week", f"?from={week}"), ("of one type", f"?type={TYPES[0]}")):
        spans = [_seconds(lambda query=query: get(f"/groups{query}")) for _ in range(5)]
        told = get(f"/groups{query}")
        letters = f"{told['letters']:,} in {told['total']} groups"
        print(f"  {f'groups, {name}':<34}{statistics.median(spans) * 1000:7.1f} ms   {letters}")


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
