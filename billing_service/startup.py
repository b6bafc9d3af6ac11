"""What a process checks before it works, and how the web process becomes gunicorn."""

import os
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from mongoengine.errors import NotUniqueError
from prometheus_client import start_http_server

from .documents import STORE_ERRORS, ServiceState, default_write_concern, denial_of, ping
from .errors import BillingError, WrongAccount
from .observability import log
from .runtime import Runtime
from .settings import Settings, UnsafeConfiguration
from .stripe_gateway import StripeGateway

METRICS = "billing-metrics-"
METRICS_PORTS = 16
STRIPE_MODE = "stripe_mode"


def check(runtime: Runtime) -> None:
    """Refuse a MongoDB without transactions and a key of another Stripe account; raises UnsafeConfiguration.

    What cannot be reached now is only logged: the service must start while a part is away.
    """
    try:
        hello = ping()
    except STORE_ERRORS as error:
        log.error("store_unavailable_at_start", error=type(error).__name__)
        return
    except Exception as error:
        if denial := denial_of(error):
            raise UnsafeConfiguration([f"MONGODB_URI: MongoDB denies access ({denial}); correct it"]) from error
        raise
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise UnsafeConfiguration(["MONGODB_URI: this MongoDB has no transactions; make it a replica set"])
    concern = default_write_concern()
    if concern is not None and concern != "majority":
        raise UnsafeConfiguration(
            [
                f"MONGODB_URI: the cluster's default write concern is {concern!r}; an answered webhook could be lost "
                "with one node. Set it to majority (setDefaultRWConcern)"
            ]
        )
    if not runtime.settings.stripe_secret_key:
        return
    try:
        claim_account(runtime.stripe, runtime.clock(), livemode=runtime.settings.livemode)
    except WrongAccount as refusal:
        raise UnsafeConfiguration([f"STRIPE_SECRET_KEY: {refusal.detail}"]) from refusal
    except BillingError as refusal:
        log.error("stripe_not_checked_at_start", code=refusal.code, detail=refusal.detail)


def claim_account(stripe: StripeGateway, now: datetime, *, livemode: bool) -> str:
    """Store the Stripe account's id and the key's mode at first start, compare them later; raises WrongAccount.

    Test and live mode of an account have the same id, and nothing else in common.
    """
    mode = "live" if livemode else "test"
    if (known := ServiceState.objects(name=STRIPE_MODE).first()) is not None:
        _compare_modes(known.value, mode)
    account = stripe.account().value
    stored = _first("stripe_account", account, now)
    if stored != account:
        raise WrongAccount(
            f"this database belongs to Stripe account {stored}, the key is of {account}; take the right key or "
            "another database"
        )
    _compare_modes(_first(STRIPE_MODE, mode, now), mode)
    return account


def _compare_modes(stored: str, mode: str) -> None:
    if stored != mode:
        raise WrongAccount(
            f"this database is of Stripe's {stored} mode, the key is of {mode} mode; take the right key or another "
            "database"
        )


def _first(name: str, value: str, now: datetime) -> str:
    """What was stored under the name first: this value, or that of an earlier start."""
    try:
        ServiceState(name=name, value=value, at=now).save(force_insert=True)
    except NotUniqueError:
        return ServiceState.objects(name=name).first().value
    return value


def exec_gunicorn(settings: Settings, host: str, port: int) -> None:
    """Replace this process by gunicorn; worker processes share their metrics through a folder of their own."""
    folder = _metrics_folder()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    os.environ["BILLING_METRICS_FOLDER"] = folder
    arguments = [
        sys.executable,
        "-m",
        "gunicorn",
        "billing_service:create_app()",
        "--config",
        "python:billing_service.gunicorn_hooks",
        f"--bind={host}:{port}",
        f"--workers={settings.web_workers}",
        f"--threads={settings.web_threads}",
    ]
    os.execv(sys.executable, arguments)  # noqa: S606  (no shell is wanted)


def serve_metrics(settings: Settings) -> int | None:
    """Show what this process counts, on a port of its own; returns the port, None if there is none.

    Several workers of a machine have the same setting: each takes the next port that is free.
    """
    if not settings.metrics_listen:
        return None
    host, _, first = settings.metrics_listen.rpartition(":")
    for port in range(int(first), min(int(first) + METRICS_PORTS, 65_536)):
        try:
            start_http_server(port, host.strip("[]"))
        except OSError as error:
            cause = error
            continue
        log.info("metrics_served", port=port)
        return port
    # Nobody sees what is counted; that is no reason to leave the work undone.
    log.error("metrics_not_served", listen=settings.metrics_listen, error=str(cause))
    return None


def _metrics_folder() -> str:
    """A new folder of this process id; those of processes that were killed are removed.

    One with this id is of an earlier process, too: a container's first process always has the same.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{METRICS}*"):
        pid = old.name.removeprefix(METRICS).split("-")[0]
        if pid == str(os.getpid()) or not Path("/proc", pid).exists():
            shutil.rmtree(old, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{METRICS}{os.getpid()}-")


def forget_metrics() -> None:
    """Remove the metrics folder of a web process that ends."""
    folder = os.environ.get("BILLING_METRICS_FOLDER")
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
