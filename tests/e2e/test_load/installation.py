"""Every process of an installation, each of which a test can kill -9 and start again on its port and its data."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pymongo
import redis
from rq import Queue

from billing_service.sandbox import servers
from billing_service.sandbox.dev_child import Child

WORKERS = ("worker-1", "worker-2")
CLI = [sys.executable, "-m", "billing_service.cli"]
SECRET = "whsec_of_the_load_0123456789"
LARGEST_OPLOG_MB = 4000.0
# Lines of a log that do not tell why something failed.
ROUTINE = ('"level": "info"', '"s":"I"', "startupWarnings")


@dataclass(frozen=True)
class Kill:
    """A way to lose something, at so many seconds from the start, for so many seconds."""

    at: float
    kind: str
    down: float


def plan_of_kills(dice: random.Random, kinds: list[str], rounds: int, pace: float, longest: float) -> list[Kill]:
    """Each kind once in each round, shuffled, one every `pace` seconds or so; they may overlap."""
    order = [kind for _ in range(rounds) for kind in dice.sample(kinds, len(kinds))]
    return [
        Kill(pace * (place + dice.uniform(0.6, 1.2)), kind, dice.uniform(0.2, longest))
        for place, kind in enumerate(order)
    ]


@dataclass
class Part:
    """One process that must be up unless the test has killed it."""

    child: Child
    down: bool = False

    def kill(self, *, alone: bool = False) -> None:
        """SIGKILL to it and to all that it started; `alone`: its children find out by themselves."""
        if self.child.process is None or self.child.process.poll() is not None:
            return
        (os.kill if alone else os.killpg)(self.child.process.pid, signal.SIGKILL)
        self.child.process.wait()
        self.down = True

    def start(self) -> None:
        if self.down:
            self.child.start()
            self.down = False

    def assert_up(self) -> None:
        assert self.down or self.child.is_running, f"{self.child.name} {self.child.death()}, and nobody killed it"


def patient_client(url: str) -> pymongo.MongoClient:
    return pymongo.MongoClient(url, tz_aware=True, serverSelectionTimeoutMS=10_000)


def keep_oplog(port: int) -> None:
    """What is written during the run is read from there afterwards, all of it."""
    with pymongo.MongoClient(servers.HOST, port, directConnection=True) as client:
        client.admin.command("replSetResizeOplog", 1, size=LARGEST_OPLOG_MB)


@dataclass
class Installation:
    """Use it in a `with` block, from the main thread (the kernel ends a child with the thread that started it)."""

    folder: Path
    seed: int
    killed: Counter = field(default_factory=Counter)
    webs = ("web",)
    workers = WORKERS
    schedulers = ("scheduler",)
    stores = ("mongod", "redis")

    def __enter__(self) -> "Installation":
        self.dice = random.Random(self.seed)
        self.stack = ExitStack()
        self.parts: dict[str, Part] = {}
        try:
            self._start()
        except BaseException as error:
            error.add_note(self.last_words())
            self._stop()
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, Exception):
            error.add_note(self.last_words())
        self._stop()

    def _stop(self) -> None:
        # The stores last: who asks a dead one for its goodbye waits long.
        for name in reversed(self.parts):
            if name not in self.stores:
                self.parts[name].kill()
        self.stack.close()

    def _start(self) -> None:
        self.parts = self._start_mongodb()
        self.redis = self.stack.enter_context(servers.redis(self.folder))
        self.stripe = self.stack.enter_context(servers.stripe_sandbox(self.folder))
        self.ports = {name: servers.free_port() for name in self.webs}
        self.urls = [f"http://{servers.HOST}:{port}" for port in self.ports.values()]
        self.url = self.urls[0]
        self.mongo = self.stack.enter_context(patient_client(self.uri))
        self.database = self.mongo.get_default_database()
        self.run("indexes")
        self.parts |= {"redis": Part(self.redis.child)}
        services = (*self.webs, *self.workers, *self.schedulers)
        self.parts |= {name: Part(self._service(name)) for name in services}
        for part in self.parts.values():
            if not part.child.is_running:
                part.child.start()
        self.wait_up()

    def _start_mongodb(self) -> dict[str, Part]:
        self.mongod = self.stack.enter_context(servers.mongod(self.folder))
        self.uri = self.mongod.url
        keep_oplog(self.mongod.port)
        return {"mongod": Part(self.mongod.child)}

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "MONGODB_URI": self.uri,
            "REDIS_URL": self.redis.url,
            "STRIPE_SECRET_KEY": "sk_test_sandbox",
            "STRIPE_API_BASE": self.stripe.url,
            "STRIPE_WEBHOOK_SECRETS": SECRET,
            "STRIPE_REQUESTS_PER_SECOND": "1000",
            "JWT_SECRET_KEY": "the key of the load, sixty-four bytes or more, which is enough for any HMAC",
        }

    def _service(self, name: str) -> Child:
        command = name.split("-")[0]
        port = self.ports.get(name)
        argv = [*CLI, command, *(["--port", str(port)] if port else [])]
        child = Child(name, argv, self.folder / f"{name}.log", self.environment())
        ready = {
            "web": lambda: servers.answers_http(f"http://{servers.HOST}:{port}/readyz"),
            "worker": lambda: child.has_logged("worker_started"),
            "scheduler": lambda: child.has_logged("scheduler_started"),
        }
        child.is_ready = ready[command]
        return child

    def run(self, *command: str) -> str:
        """What a command of the service prints."""
        made = subprocess.run([*CLI, *command], env=self.environment(), capture_output=True, text=True, timeout=60)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def kill(self, kind: str) -> Part:
        """Lose a part in one of these ways; returns it, to be started again."""
        if kind == "worker":
            kind = self._busy_worker()
        name, _, how = kind.partition(":")
        part = self.parts[name]
        part.start()  # killed again before it was back
        part.kill(alone=how == "alone")
        if how == "emptied":
            shutil.rmtree(self.folder / "redis")
            (self.folder / "redis").mkdir()
        self.killed[kind] += 1
        return part

    def _busy_worker(self) -> str:
        """A worker that holds events at this moment, if one is found soon; else either."""
        deadline = time.monotonic() + (0 if any(self.parts[name].down for name in self.stores) else 2)
        with suppress(pymongo.errors.PyMongoError, redis.RedisError), self.redis_client() as client:
            while time.monotonic() < deadline:
                if self.database.webhook_events.find_one({"state": "processing"}, {"_id": 1}):
                    registered = [client.hgetall(key) for key in client.smembers("rq:workers")]
                    busy = {int(each[b"pid"]) for each in registered if each.get(b"state") == b"busy"}
                    found = [name for name in self.workers if self.parts[name].child.pid in busy]
                    if found:
                        return self.dice.choice(found)
                time.sleep(0.005)
        return self.dice.choice(self.workers)

    def redis_client(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis.url, socket_timeout=2)

    def carry_out(self, plan: list[Kill], seconds: float, watch) -> None:
        """Kill and start again as planned, for so long; `watch` is asked all the time and may raise."""
        begun = time.monotonic()
        left, lost = sorted(plan, key=lambda each: each.at), []
        while (now := time.monotonic() - begun) < seconds or left or lost:
            if left and left[0].at <= now:
                lost.append((now + left[0].down, self.kill(left[0].kind)))
                left = left[1:]
            for each in [each for each in lost if each[0] <= now]:
                lost.remove(each)
                each[1].start()
            self.assert_up()
            watch()
            time.sleep(0.05)
        self.wait_up()

    def wait_up(self) -> None:
        for part in self.parts.values():
            part.child.wait_ready()
        # Gunicorn replaces its workers by itself: what ended one stands there only.
        assert not [name for name in self.webs if "WORKER TIMEOUT" in self.log(name)]

    def assert_up(self) -> None:
        for part in self.parts.values():
            part.assert_up()

    def log(self, name: str) -> str:
        return self.parts[name].child.log.read_text(errors="replace")

    def last_words(self) -> str:
        """The end of each process's log, without what is routine."""
        told = [f"killed: {dict(self.killed)}, logs in {self.folder}"]
        for name in self.parts:
            lines = [line for line in self.log(name).splitlines() if not any(each in line for each in ROUTINE)]
            told += [f"--- {name}", *(line[:600] for line in lines[-20:])]
        return "\n".join(told)

    def enqueue_sweep(self) -> None:
        """What an operator can do who does not want to wait for the minute."""
        with self.redis_client() as client:
            Queue("admin", connection=client).enqueue("billing_service.jobs.sweep.sweep")
