"""What a running process has at hand: settings, plans, the door to Stripe, Redis and the clock."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import redis
from flask import current_app
from redis.backoff import NoBackoff
from redis.retry import Retry
from werkzeug.local import LocalProxy

from .plans import Plans
from .settings import Settings
from .stripe_gateway import StripeGateway


def utc_now() -> datetime:
    """The time in the resolution that MongoDB stores (milliseconds)."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class RedisDoor:
    """A Redis client for each process: one made before RQ forks must not be used after."""

    def __init__(self, url: str):
        self.url = url
        self._lock = threading.Lock()
        self._clients: dict[tuple[int, bool], redis.Redis] = {}

    def _client(self, quick: bool) -> redis.Redis:
        key = (os.getpid(), quick)
        with self._lock:
            if key not in self._clients:
                timeout = 0.2 if quick else 5.0
                # redis-py retries by itself, which would make a multiple of the timeout.
                retry = Retry(NoBackoff(), 0 if quick else 1)
                self._clients[key] = redis.Redis.from_url(
                    self.url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry
                )
            return self._clients[key]

    def quick(self) -> redis.Redis:
        """For what must not wait for Redis (200 ms): the budget, a webhook's wake-up, readiness."""
        return self._client(True)

    def client(self) -> redis.Redis:
        """For queues and jobs."""
        return self._client(False)


@dataclass(frozen=True)
class Runtime:
    """Handed to the rules piece by piece; they never reach for it themselves."""

    settings: Settings
    plans: Plans
    stripe: StripeGateway
    redis: RedisDoor = field(repr=False)
    clock: Callable[[], datetime] = utc_now


def build(settings: Settings) -> Runtime:
    """Wire the parts without opening a connection."""
    door = RedisDoor(settings.redis_url)
    stripe = StripeGateway(
        api_key=settings.stripe_secret_key,
        api_base=settings.stripe_api_base,
        requests_per_second=settings.requests_per_second,
        connect_timeout=settings.stripe_connect_timeout,
        read_timeout=settings.stripe_read_timeout,
        redis=door.quick,
    )
    return Runtime(settings=settings, plans=Plans.load(settings.billing_plans), stripe=stripe, redis=door)


runtime: Runtime = LocalProxy(lambda: current_app.extensions["billing"])  # type: ignore[assignment]
