"""Gunicorn's settings and hooks."""

import os
from typing import Any

from prometheus_client import multiprocess

from . import observability, startup

worker_class = "gthread"
# A cancel waits for Stripe to show it: two requests with retries and the time to verify.
timeout = 90
graceful_timeout = 60
keepalive = 5
control_socket_disable = True
accesslog = None
logger_class = "gunicorn.glogging.Logger"


def post_worker_init(worker: Any) -> None:
    """Give each worker process the service's own logs."""
    observability.configure(os.environ.get("LOG_LEVEL") or "INFO")


def child_exit(server: Any, worker: Any) -> None:
    """Keep a dead worker's gauges out of the sums."""
    multiprocess.mark_process_dead(worker.pid)


def on_exit(server: Any) -> None:
    """Leave no folder behind."""
    startup.forget_metrics()
