"""Real servers and the service's real processes on them, each started as an installation starts it."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pymongo
from pymongo.database import Database

from billing_service.sandbox import dev_processes, servers
from billing_service.sandbox.dev_child import Child
from billing_service.sandbox.stripe.control import Control

from . import machine
from .population import Population, settle_in
from .signed import SECRET

API_KEY = "sk_test_sandbox"
OPLOG_MB = 4000.0
WEB_WORKERS, WEB_THREADS = 2, 8


@dataclass
class Installation:
    """The servers, the variables that a process needs to use them, and organizations that are billed."""

    folder: Path
    environment: dict[str, str]
    database: Database
    control: Control
    population: Population
    cursor: int = field(default=0)

    def take(self, count: int) -> int:
        """The index from which so many subscriptions are used next; each has one event before any has two."""
        first, self.cursor = self.cursor, self.cursor + count
        return first

    @contextlib.contextmanager
    def web(self, uri: str | None = None) -> Iterator["Web"]:
        """`billing-service web`, on another database if its URI is given."""
        port = servers.free_port()
        variables = self._variables() | ({"MONGODB_URI": uri} if uri else {})
        with running(dev_processes.web(self.folder / f"web-{port}.log", variables, port)) as child:
            yield Web(port, child)

    @contextlib.contextmanager
    def bare_web(self) -> Iterator["Web"]:
        """The smallest route under the same gunicorn settings."""
        port = servers.free_port()
        metrics = tempfile.mkdtemp(dir=self.folder)
        argv = [sys.executable, "-m", "gunicorn", "benchmarks.bare:create_app()"]
        argv += ["--config", "python:billing_service.gunicorn_hooks", f"--bind={servers.HOST}:{port}"]
        argv += [f"--workers={WEB_WORKERS}", f"--threads={WEB_THREADS}"]
        env = self._variables() | {"PROMETHEUS_MULTIPROC_DIR": metrics}
        url = f"http://{servers.HOST}:{port}/readyz"
        with running(Child("bare", argv, self.folder / "bare.log", env, lambda: servers.answers_http(url))) as child:
            yield Web(port, child)

    @contextlib.contextmanager
    def workers(self, count: int) -> Iterator[list[Child]]:
        """`billing-service worker`, so many times."""
        with contextlib.ExitStack() as stack:
            logs = [self.folder / f"worker-{number}.log" for number in range(count)]
            yield [stack.enter_context(running(dev_processes.worker(log, self._variables()))) for log in logs]

    def _variables(self) -> dict[str, str]:
        return os.environ | self.environment


@dataclass(frozen=True)
class Web:
    """A gunicorn that answers."""

    port: int
    child: Child

    @property
    def megabytes(self) -> list[float]:
        """The resident memory of each of its workers."""
        return [machine.megabytes(each) for each in machine.children(self.child.pid or 0)]


@contextlib.contextmanager
def running(child: Child) -> Iterator[Child]:
    """The child while it is needed. Raises CannotStart."""
    child.start()
    try:
        child.wait_ready()
        yield child
    finally:
        child.stop()


@contextlib.contextmanager
def installed(organizations: int) -> Iterator[Installation]:
    """MongoDB, Redis, the sandbox, indexes and organizations."""
    with (
        tempfile.TemporaryDirectory(prefix="billing-bench-") as name,
        servers.mongod(Path(name)) as mongod,
        servers.redis(Path(name)) as redis,
        servers.stripe_sandbox(Path(name)) as stripe,
        contextlib.closing(Control(stripe.url)) as control,
        contextlib.closing(_client(mongod.url)) as client,
    ):
        folder = Path(name)
        client.admin.command("replSetResizeOplog", 1, size=OPLOG_MB)
        control.hold()
        environment = {
            "MONGODB_URI": mongod.url,
            "REDIS_URL": redis.url,
            "STRIPE_SECRET_KEY": API_KEY,
            "STRIPE_API_BASE": stripe.url,
            "STRIPE_WEBHOOK_SECRETS": SECRET,
            "STRIPE_REQUESTS_PER_SECOND": "10000",
            "MUTATIONS_PER_MINUTE": "1000000",
            "JWT_SECRET_KEY": "the key of the benchmarks, sixty-four bytes or more, enough for any HMAC",
            "WEB_WORKERS": str(WEB_WORKERS),
            "WEB_THREADS": str(WEB_THREADS),
        }
        made = dev_processes.indexes(folder / "indexes.log", os.environ | environment)
        made.start()
        assert made.process is not None
        assert made.process.wait(60) == 0, made.log_tail()
        database = client.get_default_database()
        yield Installation(folder, environment, database, control, settle_in(control, database, API_KEY, organizations))


def _client(url: str) -> pymongo.MongoClient:
    return pymongo.MongoClient(url, tz_aware=True)
