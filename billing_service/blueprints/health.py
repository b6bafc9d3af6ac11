"""Is the process alive, can it work, and what has it counted."""

import os
from typing import Any

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from ..documents import STORE_ERRORS, ping
from ..runtime import runtime
from .gauges import installation

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Any:
    """Answer that the process is alive; no other part is asked."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> Any:
    """Say which parts work. Not ready (503) without MongoDB; degraded without Redis or Stripe, which may be away."""
    parts = {
        "mongodb": _mongodb(),
        "redis": _redis(),
        "stripe": _stripe(),
        "plans": {"status": "ok", "sha256": runtime.plans.sha256},
    }
    broken = parts["mongodb"]["status"] != "ok"
    degraded = any(part["status"] != "ok" for part in parts.values())
    answer = jsonify(status="not_ready" if broken else "degraded" if degraded else "ok", parts=parts)
    answer.status_code = 503 if broken else 200
    return answer


def _mongodb() -> dict[str, str]:
    try:
        hello = ping()
    except STORE_ERRORS as error:
        return {"status": "unreachable", "detail": type(error).__name__}
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        return {"status": "no_transactions", "detail": "MongoDB must be a replica set"}
    return {"status": "ok"}


def _redis() -> dict[str, str]:
    try:
        runtime.redis.quick().ping()
    except Exception as error:  # whatever it is, Redis does not answer
        return {"status": "unreachable", "detail": type(error).__name__}
    return {"status": "ok"}


def _stripe() -> dict[str, Any]:
    if not runtime.settings.stripe_secret_key:
        return {"status": "not_configured"}
    state = runtime.stripe.circuit.state
    return {
        "status": "ok" if state == "closed" else "circuit_open",
        "mode": "live" if runtime.settings.livemode else "test",
    }


@blueprint.get("/metrics")
def metrics() -> Response:
    """Show what the web processes here have counted and how the whole installation is, in Prometheus' text format."""
    counted: CollectorRegistry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        counted = CollectorRegistry()
        MultiProcessCollector(counted)
    return Response(generate_latest(counted) + generate_latest(installation), content_type=CONTENT_TYPE_LATEST)
