"""Logs as one JSON line per event with the ids that join them, and the process's metrics.

Nothing here decides anything: a log or a metric that fails must not change what the service does.
"""

import logging
import re
import sys
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

import structlog
from flask import Flask, Response, g, request
from prometheus_client import Counter, Gauge, Histogram

log = structlog.get_logger("billing_service")

REQUESTS = Counter("billing_requests_total", "HTTP requests answered", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("billing_request_seconds", "Seconds from request to answer", ["method", "route"])
EVENTS = Counter("billing_webhook_events_total", "Webhook events: received, known, or an attempt's end", ["outcome"])
# Prometheus sees no increase in a series that begins with thirty.
EVENTS.labels("dead")
ATTEMPTS = Counter("billing_webhook_attempts_total", "Attempts at webhook events", ["type", "result"])
EVENT_SECONDS = Histogram(
    "billing_webhook_seconds",
    "Seconds from an event's arrival to its good end",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86_400),
)
JOBS = Counter("billing_job_runs_total", "Job runs by result", ["job", "result"])
JOB_SECONDS = Histogram(
    "billing_job_seconds", "Seconds a job ran", ["job"], buckets=(0.01, 0.05, 0.25, 1, 2.5, 5, 10, 20, 30, 60, 120)
)
SIGNALS = Counter("billing_signals_total", "Signals sent by result", ["name", "receiver", "result"])
STRIPE_REQUESTS = Counter("billing_stripe_requests_total", "Requests sent to Stripe by result", ["operation", "result"])
STRIPE_SECONDS = Histogram("billing_stripe_request_seconds", "Seconds that a request to Stripe took", ["operation"])
CIRCUIT_OPEN = Gauge(
    "billing_stripe_circuit_open", "1 while a process refuses calls to Stripe at once", multiprocess_mode="livemax"
)
BUDGET_WAITS = Counter("billing_stripe_budget_wait_seconds_total", "Seconds waited for the Stripe budget", ["kind"])
BUDGET_REFUSALS = Counter("billing_stripe_budget_refused_total", "Calls that the Stripe budget refused", ["kind"])

# Whatever else is sent as a method is one value more, not as many as somebody makes up.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Keys, webhook secrets, tokens and card numbers never reach a log line (product promise P7).
_SECRETS = re.compile(
    r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9_]+|whsec_[A-Za-z0-9+/=_]+|eyJ[\w-]+\.[\w-]+\.[\w-]+"
    r"|(?<=://)[^/@\s:]*:[^/@\s]+(?=@)|\b(?:\d[ -]?){13,19}\b"
)
_PATH_PART = re.compile(r"[A-Za-z0-9_.-]{0,300}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")


def mask(text: str) -> str:
    """The text with everything that looks like a secret or a card number replaced."""
    return _SECRETS.sub("[masked]", text)


def plain_path(path: str) -> str:
    """A path as it may be logged: a part that is no id or name of ours may be anything, an address or a password."""
    return "/".join(part if _PATH_PART.fullmatch(part) else "[...]" for part in path.split("/"))


def _mask_values(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: _mask_values(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask_values(each) for each in value]
    return value


def _mask_event(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: _mask_values(value) for key, value in event.items()}


_shared: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    structlog.processors.format_exc_info,
    _mask_event,
]


def configure(level: str = "INFO", stream: Any = None) -> None:
    """Send structlog's and the standard library's lines, as JSON, to `stream` (stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    structlog.configure(
        processors=[*_shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    for noisy in ("stripe", "urllib3", "pymongo", "werkzeug"):
        logging.getLogger(noisy).setLevel("WARNING")


def about(**ids: str) -> None:
    """Name what this request is about in all lines that follow, that of the request itself, too."""
    structlog.contextvars.bind_contextvars(**ids)


def register(app: Flask) -> None:
    """Give each request an id, a duration, a log line and a count."""

    @app.before_request
    def begin() -> None:
        sent = request.headers.get("X-Request-Id", "")
        # One that looks like a secret would be stored with all that it asks for.
        fit = _REQUEST_ID.fullmatch(sent) and mask(sent) == sent
        g.request_id = sent if fit else uuid.uuid4().hex
        g.started = time.perf_counter()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    def finish(response: Response) -> Response:
        # Each use of a proxy costs as much as a metric.
        asked, known = request._get_current_object(), g._get_current_object()  # type: ignore[attr-defined]
        route = asked.url_rule.rule if asked.url_rule else "unmatched"
        seconds = time.perf_counter() - known.get("started", time.perf_counter())
        method = asked.method if asked.method in METHODS else "other"
        REQUESTS.labels(method, route, response.status_code).inc()
        REQUEST_SECONDS.labels(method, route).observe(seconds)
        response.headers["X-Request-Id"] = known.get("request_id", "")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        log.info(
            "request",
            method=asked.method,
            path=plain_path(asked.path),
            route=route,
            status=response.status_code,
            milliseconds=round(seconds * 1000, 1),
            actor=known.get("actor"),
        )
        return response
