"""The load: a process of its own that posts prepared events over several kept connections and times each answer."""

import json
import multiprocessing
import selectors
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from .population import Population
from .signed import Mint, header

PATH = "/api/billing/webhook"
USAGE_PATH = "/api/billing/usage"
# Connections stay with the worker that accepted them: now and then a new one evens that out.
REQUESTS_PER_CONNECTION = 100
GIVE_UP_SECONDS = 30.0


@dataclass(frozen=True)
class Load:
    """What to post: as fast as answers come or, with `rate`, so many a second whatever comes back.

    The events are of the subscriptions from `first` on, one each.
    """

    port: int
    population: Population
    seconds: float
    connections: int
    events: int
    first: int = 0
    rate: float | None = None

    def requests(self) -> list[bytes]:
        """All requests, made ahead of their use."""
        mint, now = Mint(self.population), time.time()
        indexes = (index % self.population.count for index in range(self.first, self.first + self.events))
        return [_signed_request(mint.event(index, now)[1]) for index in indexes]


@dataclass(frozen=True)
class UsageLoad(Load):
    """Usage to be recorded, each under a key of its own, of so many organizations in turn."""

    token: str = ""
    organizations: int = 1

    def requests(self) -> list[bytes]:
        head, run = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}, uuid.uuid4().hex
        people = [str(self.population.org_id(index)) for index in range(self.organizations)]
        bodies = (
            json.dumps({"orgId": people[number % len(people)], "key": f"{run}-{number}", "units": 1}).encode()
            for number in range(self.events)
        )
        return [request(USAGE_PATH, head, body) for body in bodies]


@dataclass
class Answers:
    """What came back: seconds per answer (with a rate from when it was due), and how many were not 200."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    posted: int = 0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """The latency that this share of the answers kept, in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Running:
    """A load under way in its process; `go` once it has prepared its events, then `answers`."""

    def __init__(self, load: Load):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(load, theirs), daemon=True)
        self._process.start()
        assert self._pipe.recv() == "ready"

    def go(self) -> None:
        self._pipe.send("go")

    def is_over(self) -> bool:
        return self._pipe.poll()

    def answers(self) -> Answers:
        found = self._pipe.recv()
        self._process.join()
        return found


def post(load: Load) -> Answers:
    """Carry out a load from beginning to end."""
    running = Running(load)
    running.go()
    return running.answers()


def _serve(load: Load, pipe) -> None:
    requests = load.requests()
    pipe.send("ready")
    pipe.recv()
    pipe.send(_Poster(load, requests).run())


def _signed_request(body: bytes) -> bytes:
    head = {
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": header(body),
    }
    return request(PATH, head, body)


def request(path: str, head: dict[str, str], body: bytes) -> bytes:
    """A POST as it is sent."""
    lines = (f"{name}: {value}" for name, value in (head | {"Content-Length": str(len(body))}).items())
    return "\r\n".join((f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", "")).encode() + body


class _Connection:
    def __init__(self, port: int):
        self.port = port
        self.socket: socket.socket | None = None
        self.received = b""
        self.since = 0.0
        self.left = 0
        self.asked = False

    def begin(self, request: bytes, since: float, selector: selectors.BaseSelector) -> None:
        if not self.left:
            self.open(selector)
        assert self.socket
        self.left -= 1
        self.since, self.received, self.asked = since, b"", True
        self.socket.sendall(request)

    def open(self, selector: selectors.BaseSelector) -> None:
        self.close(selector)
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.left = REQUESTS_PER_CONNECTION
        selector.register(self.socket, selectors.EVENT_READ, self)

    def close(self, selector: selectors.BaseSelector) -> None:
        if self.socket:
            selector.unregister(self.socket)
            self.socket.close()
            self.socket = None

    def status(self) -> int | None:
        """The status of the answer once all of it is here; 0 if the server hung up."""
        assert self.socket
        more = self.socket.recv(65_536)
        self.received += more
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not more:
            self.left = 0
            return 0
        if not end:
            return None
        fields = head.lower()
        length = int(fields.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        if b"connection: close" in fields:
            self.left = 0
        return int(head[9:12])


class _Poster:
    def __init__(self, load: Load, requests: list[bytes]):
        self.load, self.requests = load, requests
        self.selector = selectors.DefaultSelector()
        self.idle = [_Connection(load.port) for _ in range(load.connections)]
        self.busy = 0
        self.found = Answers()

    def run(self) -> Answers:
        self.begun = time.perf_counter()
        due = self._due()
        upcoming = next(due, None)
        while upcoming is not None or self.busy:
            now = time.perf_counter()
            while upcoming is not None and self.idle and upcoming <= now:
                self._post(upcoming if self.load.rate else now)
                upcoming = next(due, None)
            if upcoming is not None and now - self.begun > self.load.seconds + GIVE_UP_SECONDS:
                break
            waits = upcoming is not None and bool(self.idle)
            self._take(max(0.0, upcoming - now) if waits and upcoming is not None else 1.0)
        self.found.seconds = time.perf_counter() - self.begun
        return self.found

    def _due(self) -> Iterator[float]:
        """When each request is to be sent; without a rate at once, until the time is over."""
        for place in range(len(self.requests)):
            at = self.begun + place / self.load.rate if self.load.rate else time.perf_counter()
            if at - self.begun >= self.load.seconds:
                return
            yield at

    def _post(self, since: float) -> None:
        connection = self.idle.pop()
        connection.begin(self.requests[self.found.posted], since, self.selector)
        self.found.posted += 1
        self.busy += 1

    def _take(self, timeout: float) -> None:
        for key, _ in self.selector.select(timeout):
            connection = key.data
            status = connection.status()
            if not connection.asked:  # the server hung up on a connection that was idle
                connection.close(self.selector)
                continue
            if status is None:
                continue
            connection.asked = False
            self.busy -= 1
            self.idle.append(connection)
            if status == 200:
                self.found.latencies.append(time.perf_counter() - connection.since)
            else:
                self.found.refused += 1
