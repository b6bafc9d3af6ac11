"""The highest rate at which web and two workers on this machine keep up: the oldest unhandled event stays young."""

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from billing_service.sandbox.dev_child import Child

from . import machine
from .client import Answers, Load, Running
from .installation import Installation, Web
from .scale import CONNECTIONS, Scale

WORKERS = 2
OLDEST_SECONDS = 5.0
# What is still unanswered when the last is sent makes the measured rate a little lower than the wanted one.
ACCEPTED_SHARE = 0.97
DRAIN_SECONDS = 30.0
POLL_SECONDS = 0.25
UNHANDLED = ["received", "processing", "failed"]


@dataclass(frozen=True)
class Step:
    """What happened at one rate. `oldest` is the highest age of an unhandled event, in seconds."""

    rate: float
    answers: Answers
    oldest: float
    settled: list[float]

    @property
    def kept_up(self) -> bool:
        accepted = not self.answers.refused and self.answers.rate >= ACCEPTED_SHARE * self.rate
        return accepted and self.oldest < OLDEST_SECONDS

    def line(self) -> str:
        accept = " / ".join(f"{self.answers.percentile(share) * 1000:.0f}" for share in (0.5, 0.99))
        settle = " / ".join(f"{_percentile(self.settled, share) * 1000:.0f}" for share in (0.5, 0.99))
        end = "kept up" if self.kept_up else "fell behind"
        return (
            f"  {self.rate:7.0f}/s   accepted in {accept} ms, settled in {settle} ms (p50 / p99)   "
            f"oldest unhandled {self.oldest:.1f} s   {end}"
        )


def run(installation: Installation, scale: Scale, accepted: float) -> None:
    """Print each step of the bisection and the highest rate that was kept up with."""
    installation.database.webhook_events.delete_many({})
    print(f"Sustaining: web and {WORKERS} workers, steps of {scale.sustained_seconds:.0f} s, no scheduler")
    with installation.web() as web, installation.workers(WORKERS) as workers:
        _step(installation, web, 50.0, 2.0)
        best, low, high = None, 0.0, accepted
        for _ in range(scale.sustained_steps):
            rate = (low + high) / 2
            step = _step(installation, web, rate, scale.sustained_seconds)
            print(step.line())
            best, low, high = (step, rate, high) if step.kept_up else (best, low, rate)
        print(f"  highest sustained {low:.0f}/s, {low / accepted:.2f} of what is accepted (target: at least 0.50)")
        print(f"  RSS {_memory(installation, web, workers)}\n")


def _step(installation: Installation, web: Web, rate: float, seconds: float) -> Step:
    events = int(rate * seconds)
    first = installation.take(events)
    load = Running(Load(web.port, installation.population, seconds, CONNECTIONS, events, first, rate))
    begun, oldest = datetime.now(UTC), 0.0
    load.go()
    while not load.is_over():
        oldest = max(oldest, _oldest(installation))
        time.sleep(POLL_SECONDS)
    answers = load.answers()
    oldest = max(oldest, _drain(installation))
    return Step(rate, answers, oldest, _settled(installation, begun))


def _oldest(installation: Installation) -> float:
    waiting = installation.database.webhook_events.find({"state": {"$in": UNHANDLED}}, {"received_at": 1})
    with contextlib.closing(waiting.sort("received_at", 1).limit(1)) as found:
        return max(((datetime.now(UTC) - each["received_at"]).total_seconds() for each in found), default=0.0)


def _drain(installation: Installation) -> float:
    """Wait until all is handled; the highest age seen, infinite if it takes too long."""
    deadline, oldest = time.monotonic() + DRAIN_SECONDS, 0.0
    while age := _oldest(installation):
        oldest = max(oldest, age)
        if time.monotonic() > deadline:
            installation.database.webhook_events.delete_many({"state": {"$in": UNHANDLED}})
            return float("inf")
        time.sleep(POLL_SECONDS)
    return oldest


def _settled(installation: Installation, since: datetime) -> list[float]:
    """Seconds from received to settled of what was received since then."""
    wanted = {"received_at": {"$gte": since}, "state": "succeeded"}
    found = installation.database.webhook_events.find(wanted, {"received_at": 1, "history.at": 1})
    return sorted((each["history"][-1]["at"] - each["received_at"]).total_seconds() for each in found)


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def _memory(installation: Installation, web: Web, workers: list[Child]) -> str:
    mongod = int(installation.database.client.admin.command("serverStatus")["pid"])
    told = {
        "web": web.megabytes,
        "worker": [machine.megabytes(each.pid or 0) for each in workers],
        "mongod": [machine.megabytes(mongod)],
    }
    return ", ".join(f"{name} {' + '.join(f'{each:.0f}' for each in found)} MB" for name, found in told.items())
