"""The gateway's servers: a real Redis, the Stripe sandbox, and a socket that answers what no server would."""

import contextlib
import json
import os
import re
import socket
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable
from email.utils import formatdate

import pytest
import redis

from billing_service.sandbox import servers
from billing_service.stripe_gateway import StripeGateway

KEY = "sk_test_sandbox"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    with servers.redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def stripe_server(tmp_path_factory):
    with servers.stripe_sandbox(tmp_path_factory.mktemp("stripe")) as server:
        yield server


@pytest.fixture
def store(redis_server):
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
        yield client


class Sandbox:
    """The sandbox as a test sees it: its control plane and, for what the gateway does not do, its API."""

    def __init__(self, url):
        self.url = url

    def control(self, method, path, body=None):
        return self._send(method, f"/_control{path}", None if body is None else json.dumps(body).encode(), {})

    def api(self, method, path, form=""):
        return self._send(method, f"/v1{path}", form.encode() or None, {"Authorization": f"Bearer {KEY}"})

    def arm(self, kind, path="", **rule):
        match = {"path": path} | ({"method": rule.pop("method")} if "method" in rule else {})
        return self.control("POST", "/faults", {"kind": kind, "match": match, **rule})

    def requests(self, path="/v1"):
        return self.control("GET", f"/requests?limit=1000&path={path}")["items"]

    def forget_requests(self):
        self.control("POST", "/requests/clear", {})

    def _send(self, method, path, body, headers):
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)


@pytest.fixture
def sandbox(stripe_server):
    sandbox = Sandbox(stripe_server.url)
    sandbox.control("POST", "/reset", {})
    return sandbox


@pytest.fixture
def open_gateway(redis_server, store):
    def opened(api_base, **settings):
        defaults = {
            "api_key": KEY,
            "requests_per_second": 1000.0,
            "connect_timeout": 1.0,
            "read_timeout": 2.0,
            "redis": lambda: redis.Redis.from_url(redis_server.url),
        }
        return StripeGateway(api_base=api_base, **defaults | settings)

    return opened


@pytest.fixture
def gateway(open_gateway, sandbox):
    return open_gateway(sandbox.url)


class Wire:
    """A server that sends the bytes it is told to, and counts connections and requests."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.answer: Callable[[socket.socket], None] = lambda connection: None
        self.connections = 0
        self.requests: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def says(self, body, status="200 OK", length=None, pause=0.0, date=None, headers=""):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Length: {len(content) if length is None else length}\r\n"
            f"Date: {date or formatdate(usegmt=True)}\r\nRequest-Id: req_wire\r\n{headers}\r\n"
        )

        def answer(connection):
            connection.sendall(head.encode())
            for byte in content if pause else [content]:
                connection.sendall(bytes([byte]) if pause else byte)
                time.sleep(pause)
            if length is not None and length > len(content):
                connection.shutdown(socket.SHUT_RDWR)

        self.answer = answer

    def close(self):
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, connection.makefile("rb") as incoming, contextlib.suppress(OSError):
            while request := incoming.readline():
                while not request.endswith(b"\r\n\r\n"):
                    request += incoming.readline() or b"\r\n\r\n"
                length = re.search(rb"(?i)content-length: (\d+)", request)
                self.requests.append(request + incoming.read(int(length[1]) if length else 0))
                self.answer(connection)


@pytest.fixture
def wire():
    with contextlib.closing(Wire()) as wire:
        yield wire


@pytest.fixture
def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_in_child(work):
    """What `work()` returns (JSON) in a forked child, as an RQ work-horse would run it."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork with threads; RQ forks all the same, and this is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.write(write, json.dumps(work()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


@pytest.fixture
def in_child():
    return run_in_child
