"""The service's own processes as `billing-service dev` runs them, and how each shows that it is at work."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import redis

from billing_service.sandbox import servers
from billing_service.sandbox.dev_child import CannotStart, Child

CLI = [sys.executable, "-m", "billing_service.cli"]
TOKEN_HOURS = 12
TOKEN_SECONDS = 30


def indexes(log: Path, env: Mapping[str, str]) -> Child:
    return Child("billing-service indexes", [*CLI, "indexes"], log, env)


def web(log: Path, env: Mapping[str, str], port: int) -> Child:
    """gunicorn; it is at work when a worker of it answers and reaches MongoDB."""
    url = f"http://{servers.HOST}:{port}/readyz"
    return Child(
        "web",
        [*CLI, "web", "--port", str(port)],
        log,
        env,
        lambda: servers.answers_http(url),
        grace_seconds=10,
    )


def worker(log: Path, env: Mapping[str, str]) -> Child:
    """An RQ worker; it is at work when Redis lists its pid. A job that outlasts the grace is taken up again later."""
    child = Child("worker", [*CLI, "worker"], log, env, grace_seconds=5)
    client = redis.Redis.from_url(env["REDIS_URL"], socket_timeout=1, socket_connect_timeout=1)
    child.is_ready = lambda: _is_registered(client, child.pid)
    return child


def scheduler(log: Path, env: Mapping[str, str]) -> Child:
    """The rq-scheduler process; it leaves no trace in Redis that bears its pid, so its own word is taken."""
    child = Child("scheduler", [*CLI, "scheduler"], log, env)
    child.is_ready = lambda: child.has_logged("scheduler_started")
    return child


def _is_registered(client: redis.Redis, pid: int | None) -> bool:
    try:
        return any(int(client.hget(key, "pid") or 0) == pid for key in client.smembers("rq:workers"))
    except redis.RedisError:
        return False


def demo_data(log: Path, env: Mapping[str, str], url: str, token: str | None) -> Child:
    """The loading of the demo data: with the service's own variables, its address and a token."""
    told = {**env, "BILLING_URL": url, "BILLING_ADMIN_TOKEN": token or ""}
    return Child("demo data", [sys.executable, "-m", "billing_service.sandbox.demo"], log, told, ready_seconds=120)


def admin_token(env: Mapping[str, str]) -> str:
    """A token that may do everything, as `billing-service token` prints it; raises CannotStart."""
    command = [*CLI, "token", "--role", "admin", "--actor", "dev", "--minutes", str(TOKEN_HOURS * 60)]
    made = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=TOKEN_SECONDS, check=False)
    words = made.stdout.split()
    if made.returncode != 0 or not words:
        raise CannotStart("billing-service token made no token.", made.stderr.strip())
    return words[-1]
