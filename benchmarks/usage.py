"""How many usage records a second, by the rule and by HTTP, beside the bare MongoDB operations that one needs."""

import itertools
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import mongoengine
from bson import ObjectId

from billing_service import create_app, observability, tokens, usage
from billing_service.documents import UsageWeek
from billing_service.settings import Settings

from .bare import record_usage
from .client import Answers, UsageLoad, post
from .installation import Installation, Web
from .scale import CONNECTIONS, Scale, in_turn, median

# Each is used in turn, so that records of the same organization seldom meet.
ORGANIZATIONS = 500
UNITS = 1
PLENTY = 10**12
PREPARED_A_SECOND = 2_000


def run(installation: Installation, scale: Scale) -> None:
    """Print the rates by the rule and by HTTP, each beside its baseline."""
    print(f"Recording usage: {ORGANIZATIONS} organizations in turn, medians of {scale.pairs} pairs")
    with _application(installation) as app:
        _weeks(installation, quota=PLENTY)
        count = scale.usage_records
        ours, bare, ratio = in_turn(
            scale.pairs, lambda: _recorded(installation, app, count), lambda: _recorded_bare(installation, count)
        )
        print(f"  {'by the rule, within the quota':<34}{ours:7.0f}/s")
        print(f"  {'the operations, bare':<34}{bare:7.0f}/s")
        print(f"  ratio {ratio:.2f}")
        _weeks(installation, quota=0)
        print(f"  {'by the rule, debited from extras':<34}{_recorded(installation, app, count):7.0f}/s")
        token = tokens.issue(app.extensions["billing"].settings, "benchmark", ["service"], 60)
    _by_http(installation, scale, token)


@contextmanager
def _application(installation: Installation) -> Iterator[Any]:
    with (installation.folder / "usage.log").open("w") as log:
        app = create_app(Settings.from_env(os.environ | installation.environment))
        observability.configure("INFO", log)
        try:
            with app.app_context():
                yield app
        finally:
            observability.configure("ERROR")
            mongoengine.disconnect_all()


def _weeks(installation: Installation, *, quota: int) -> None:
    """This week of each organization, for the rule and for the baseline."""
    weeks, now = installation.database.usage_weeks, datetime.now(UTC)
    weeks.delete_many({})
    fresh = [UsageWeek.fresh(each, quota, now) for each in _people(installation)]
    weeks.insert_many([*fresh, *({**each, "week": "bare"} for each in fresh)])


def _people(installation: Installation) -> list[ObjectId]:
    return [installation.population.org_id(index) for index in range(ORGANIZATIONS)]


def _recorded(installation: Installation, app: Any, count: int) -> float:
    billing, run = app.extensions["billing"], uuid.uuid4().hex
    people = itertools.islice(itertools.cycle(_people(installation)), count)
    begun = time.perf_counter()
    for number, org_id in enumerate(people):
        usage.record(org_id, f"{run}-{number}", UNITS, plans=billing.plans, now=billing.clock(), metered=True)
    return count / (time.perf_counter() - begun)


def _recorded_bare(installation: Installation, count: int) -> float:
    run = uuid.uuid4().hex
    people = itertools.islice(itertools.cycle(_people(installation)), count)
    begun = time.perf_counter()
    for number, org_id in enumerate(people):
        record_usage(installation.database, org_id, f"{run}-{number}", UNITS)
    return count / (time.perf_counter() - begun)


def _by_http(installation: Installation, scale: Scale, token: str) -> None:
    """Print the rates of many organizations in turn, then of one that all connections record for."""
    _weeks(installation, quota=PLENTY)
    with installation.web() as web, installation.bare_web() as bare_web:
        for organizations in (ORGANIZATIONS, 1):
            load = UsageLoad(0, installation.population, 0, CONNECTIONS, 0, token=token, organizations=organizations)
            sides: dict[str, tuple[Web, list[Answers]]] = {
                "POST /api/billing/usage": (web, []),
                "the smallest route that records": (bare_web, []),
            }
            for seconds in [min(1.0, scale.accept_seconds), *[scale.accept_seconds] * scale.pairs]:
                for server, runs in sides.values():
                    runs.append(_posted(load, server, seconds))
            print(f"  by HTTP, {CONNECTIONS} connections, {organizations} organization{'s' * (organizations > 1)}")
            _tell(sides)
    print(flush=True)


def _posted(load: UsageLoad, server: Web, seconds: float) -> Answers:
    events = int(PREPARED_A_SECOND * seconds)
    answers = post(replace(load, port=server.port, seconds=seconds, events=events))
    assert not answers.refused, f"{answers.refused} answers were no 200"
    return answers


def _tell(sides: dict[str, tuple[Web, list[Answers]]]) -> None:
    """Print both sides without their first run, which warmed them up."""
    for name, (_, runs) in sides.items():
        p50, p99 = (median(each.percentile(share) for each in runs[1:]) * 1000 for share in (0.5, 0.99))
        rate = median(each.rate for each in runs[1:])
        print(f"  {name:<34}{rate:7.0f}/s   p50 {p50:6.1f} ms   p99 {p99:6.1f} ms")
    ours, bare = ([each.rate for each in runs[1:]] for _, runs in sides.values())
    print(f"  ratio {median(mine / other for mine, other in zip(ours, bare, strict=True)):.2f}")
