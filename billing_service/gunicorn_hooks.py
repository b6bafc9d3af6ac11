"""Gunicorn's settings and hooks."""

import ctypes
import os
import signal
from typing import Any

from gunicorn.glogging import Logger
from prometheus_client import multiprocess

from . import observability, startup

PR_SET_PDEATHSIG = 1

worker_class = "gthread"
# The application is made once, in the master, and opens nothing there. So a new worker serves at once, and whatever was
# installed since the start is not half of it: much of the package is imported by this module anyway.
preload_app = True
# A cancel waits for Stripe to show it: two requests with retries and the time to verify.
timeout = 90
graceful_timeout = 60
keepalive = 5
control_socket_disable = True
accesslog = None
logger_class = "billing_service.gunicorn_hooks.JsonLogger"


class JsonLogger(Logger):
    """Gunicorn's own lines in the form of all others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        observability.configure(os.environ.get("LOG_LEVEL") or "INFO")
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def post_fork(server: Any, worker: Any) -> None:
    """End with the master: a worker that outlives it keeps the port from the next one for as long as it is busy."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only; elsewhere the port comes free when it is idle
    if prctl and prctl(PR_SET_PDEATHSIG, signal.SIGKILL) == 0 and os.getppid() != server.pid:
        os._exit(1)


def post_worker_init(worker: Any) -> None:
    """Give each worker process the service's own logs."""
    observability.configure(os.environ.get("LOG_LEVEL") or "INFO")


def child_exit(server: Any, worker: Any) -> None:
    """Keep a dead worker's gauges out of the sums."""
    multiprocess.mark_process_dead(worker.pid)


def on_exit(server: Any) -> None:
    """Leave no folder behind."""
    startup.forget_metrics()
