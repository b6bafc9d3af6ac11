"""Gauges of the whole installation, read from MongoDB and Redis when they are asked for, at most every few seconds.

What a process counts itself stands in observability; this is the same whichever web process answers.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from .. import __version__, monitoring
from ..documents import STORE_ERRORS, patient_for
from ..jobs.queues import describe_queues
from ..jobs.schedule import SCHEDULE
from ..observability import log
from ..runtime import runtime

# However often somebody asks, the stores are asked once in this time by a process.
KEPT_SECONDS = 5.0
# A scrape must answer while MongoDB hangs: Prometheus itself gives up after ten.
PATIENCE_SECONDS = 2.0

Sample = tuple[tuple[str, ...], float]


class Installation:
    """A collector for prometheus_client; what it last read is kept for a while, failures too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[GaugeMetricFamily] = []
        self._until = 0.0

    def collect(self) -> list[GaugeMetricFamily]:
        """The gauges, of now or of a few seconds ago; while another thread reads them, the last ones there are."""
        if not self._lock.acquire(blocking=not self._kept):
            return self._kept
        try:
            if time.monotonic() >= self._until:
                self._kept = list(_read())
                self._until = time.monotonic() + KEPT_SECONDS
            return self._kept
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Read anew when next asked."""
        self._until = 0.0


installation = Installation()


def _read() -> Iterator[GaugeMetricFamily]:
    yield _gauge("billing_build_info", "Always 1; which version with which plan file", _built(), "version", "plans")
    yield from _of_redis()
    yield from _of_mongodb()


def _built() -> list[Sample]:
    return [((__version__, runtime.plans.sha256[:12]), 1)]


def _of_redis() -> Iterator[GaugeMetricFamily]:
    queues = describe_queues()
    yield _one("billing_redis_up", "Whether Redis answers", queues is not None)
    rate = runtime.settings.requests_per_second
    yield _one("billing_stripe_budget_requests_per_second", "Stripe requests a second, of all processes", rate)
    if queues is None:
        return
    waiting = [((each["name"],), each["waiting"]) for each in queues["queues"]]
    yield _gauge("billing_queue_jobs", "Jobs that wait in a queue", waiting, "queue")
    yield _one("billing_workers", "Workers that gave a sign of life lately", queues["workers"])
    if left := runtime.stripe.budget_left():
        pools = [((pool,), left[pool]) for pool in ("shared", "reserved", "ceiling")]
        yield _gauge("billing_stripe_budget_available", "Requests that could be sent at once", pools, "pool")
        yield _one("billing_stripe_budget_hold_seconds", "Seconds to wait after a 429", left["hold"])


def _of_mongodb() -> Iterator[GaugeMetricFamily]:
    try:
        with patient_for(PATIENCE_SECONDS):
            figures = monitoring.describe([row.job for row in SCHEDULE])
    except Exception as error:  # whatever it is: the rest of a scrape must not fail with it
        away = isinstance(error, STORE_ERRORS)
        log.warning("figures_not_read", error=type(error).__name__, exc_info=None if away else error)
        yield _one("billing_mongodb_up", "Whether MongoDB answers", 0)
        return
    yield _one("billing_mongodb_up", "Whether MongoDB answers", 1)
    for name, words in SINGLE.items():
        if figures[name] is not None:
            yield _one(f"billing_{name}", words, figures[name])
    for key, (name, words, *labels) in BY_LABEL.items():
        yield _gauge(name, words, _samples(figures[key]), *labels)


# Each name is that of the figure, with billing_ before it.
SINGLE = {
    "oldest_unhandled_seconds": "Age of the oldest webhook event that has no end yet; 0: there is none",
    "last_delivery_seconds": "Seconds since a verified webhook last arrived",
    "dead_letters": "Dead letters, counted to 10,000",
    "pauses": "Pauses of dispatch that are in force",
    "paused_seconds": "How long the longest of them has lasted",
    "signals_unsent": "Signals that wait to be sent, counted to 1,000",
    "signals_failing_seconds": "How long a signal could not be sent",
    "unknown_operations": "Operations at Stripe whose result nobody has seen yet, counted to 10,000",
    "unknown_refunds": "Refunds nobody knows of, counted to 10,000",
}
BY_LABEL = {
    "unhandled": ("billing_unhandled_events", "Webhook events without an end, counted to 10,000 each", "state"),
    "dead_groups": (
        "billing_dead_letters_by_group",
        "The newest 10,000 dead letters by what failed alike: the 20 largest groups and all others",
        "type",
        "error",
        "group",
    ),
    "findings": ("billing_open_findings", "Open findings of the reconciliation", "severity"),
    "job_seconds": (
        "billing_job_seconds_since_success",
        "Seconds since a job last ended well, or since it was first due",
        "job",
    ),
    "alerts": ("billing_open_alerts", "Conditions that people were told of and that hold", "condition"),
}


def _samples(found: dict[Any, float | None]) -> Iterator[Sample]:
    for labels, value in found.items():
        if value is not None:
            yield (labels if isinstance(labels, tuple) else (labels,)), value


def _gauge(name: str, words: str, samples: Iterable[Sample], *labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _one(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=float(value))
