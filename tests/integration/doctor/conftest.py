"""A system that is as it should be, for the doctor to be content with and for tests to spoil."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from billing_service import startup
from billing_service.doctor import Report, examine
from billing_service.jobs.schedule import SCHEDULE
from billing_service.jobs.scheduler import repair
from billing_service.runtime import Runtime, build
from billing_service.webhooks import HANDLERS

ADDRESS = "https://billing.example.com"


@dataclass
class World:
    """All that a test may spoil."""

    site: Runtime
    sandbox: Any
    stripe: Any
    servers: Any
    database: Any
    worker: Any
    endpoint: str
    folder: Path

    @property
    def redis(self) -> Any:
        return self.site.redis.client()

    def told(self, **settings: Any) -> None:
        """Configure it otherwise."""
        self.site = build(replace(self.site.settings, **settings))

    def plans(self, text: str) -> None:
        """Another plan file."""
        path = self.folder / "plans.toml"
        path.write_text('[[plans]]\nid = "free"\nname = "Free"\nweekly_quota = 1\nprices = []\n' + text)
        self.told(billing_plans=path)

    def examined(self) -> Report:
        return examine(self.site)


@pytest.fixture
def world(app: Any, runtime: Any, sandbox: Any, stripe: Any, servers: Any, tmp_path: Path) -> Any:
    from mongoengine.connection import get_db
    from rq import SimpleWorker

    from billing_service.jobs.queues import QUEUES
    from billing_service.sandbox import dev_catalogue

    startup.check(runtime)
    dev_catalogue.offer(servers.stripe.url, "sk_test_sandbox")
    endpoint = stripe.webhook_endpoints.create(
        {"url": f"{ADDRESS}/api/billing/webhook", "enabled_events": sorted(HANDLERS)}
    )
    with warnings.catch_warnings():
        # rq-scheduler 0.14.0 calls its cron library and the standard library the old way (rq_scheduler/utils.py).
        warnings.simplefilter("ignore")
        repair(runtime.redis.client(), SCHEDULE)
    worker = SimpleWorker(QUEUES, connection=runtime.redis.client())
    worker.register_birth()
    runtime.stripe.circuit.succeeded()
    return World(runtime, sandbox, stripe, servers, get_db(), worker, endpoint.id, tmp_path)
