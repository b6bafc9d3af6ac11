"""The budget of requests to Stripe: all processes together keep the rate, interactive calls come first."""

import random
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import StripeRateLimited
from ..observability import BUDGET_REFUSALS, BUDGET_WAITS, log
from .bucket import SLOW_DOWN, TAKE, Bucket

KEY = "billing:stripe_budget"
INTERACTIVE_WAIT_SECONDS = 2.0
BACKGROUND_WAIT_SECONDS = 30.0
SLICE_SECONDS = 0.25
REDIS_TIMEOUT_SECONDS = 0.2
REDIS_PAUSE_SECONDS = 5.0
# The default installation has four processes that call Stripe (two web, worker, scheduler); an eighth
# leaves room for as many more. What goes over the rate in a larger one, Stripe's 429 slows down.
SHARES = 8

Redis = redis_py.Redis


class Budget:
    """`rate` is requests per second of the whole installation. `redis` is a client or gives one.

    Without Redis (None) the process is taken to be alone and has the whole rate.
    """

    def __init__(
        self,
        rate: float,
        redis: Redis | Callable[[], Redis] | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        background_wait: float = BACKGROUND_WAIT_SECONDS,
    ):
        self._rate = rate
        self._given = redis
        self._monotonic = monotonic
        self._sleep = sleep
        self._background_wait = background_wait
        self._lock = threading.Lock()
        self._bucket = Bucket(rate if redis is None else rate / SHARES, monotonic())
        self._impatient: Redis | None = None
        self._scripts: tuple[Any, Any] | None = None
        self._redis_again_at = 0.0 if redis is not None else float("inf")

    @property
    def state(self) -> Literal["shared", "share"]:
        """`shared`: counted in Redis with all processes; `share`: this process's own part, Redis being away."""
        return "shared" if self._monotonic() >= self._redis_again_at else "share"

    def left(self) -> dict[str, float] | None:
        """What each pool holds now, and for how long Stripe is to be left alone (`hold`); None: nobody knows.

        By this machine's clock: good enough to be looked at.
        """
        try:
            kept = None if self.state == "share" else self._client().hgetall(KEY)
        except (redis_py.RedisError, OSError):
            return None
        if kept is None:
            return None
        now = time.time()
        told = {str(name, "ascii"): float(value) for name, value in kept.items() if isinstance(name, bytes)}
        bucket = Bucket(self._rate, told.pop("filled_at", now))
        for name, value in told.items():
            setattr(bucket, name, value)
        return bucket.look(now)

    def take(self, background: bool) -> None:
        """Wait for a request's turn; raises StripeRateLimited with the fact `budget: ours` if it takes too long."""
        started = self._monotonic()
        kind = "background" if background else "interactive"
        longest = self._background_wait if background else INTERACTIVE_WAIT_SECONDS
        while (wait := self._ask(background)) > 0:
            left = started + longest - self._monotonic()
            if wait > left:
                BUDGET_REFUSALS.labels(kind).inc()
                raise StripeRateLimited(
                    f"Our own budget of {self._rate:g} Stripe requests a second is used up; try again.",
                    retry_after=wait,
                    budget="ours",
                )
            # Waiters that woke together would also lose together.
            pause = min(left, max(0.005, min(wait, SLICE_SECONDS)) * random.uniform(1.0, 1.2))  # noqa: S311
            BUDGET_WAITS.labels(kind).inc(pause)
            self._sleep(pause)

    def slow_down(self, hold_seconds: float) -> None:
        """Stripe answered 429: hold everybody for `hold_seconds`, halve the background for a minute."""
        with self._lock:
            self._bucket.slow_down(self._monotonic(), hold_seconds)
        self._run(1, hold_seconds)

    def _ask(self, background: bool) -> float:
        answer = self._run(0, self._rate, int(background))
        if answer is not None:
            return float(answer)
        with self._lock:
            return self._bucket.take(self._monotonic(), background)

    def _run(self, script: int, *arguments: float) -> Any:
        if self.state == "share":
            return None
        try:
            return self._prepared()[script](keys=[KEY], args=list(arguments))
        except (redis_py.RedisError, OSError) as error:
            self._redis_again_at = self._monotonic() + REDIS_PAUSE_SECONDS
            log.warning("stripe_budget_without_redis", error=type(error).__name__, share=self._rate / SHARES)
            return None

    def _prepared(self) -> tuple[Any, Any]:
        if self._scripts is None:
            client = self._client()
            self._scripts = client.register_script(TAKE), client.register_script(SLOW_DOWN)
        return self._scripts

    def _client(self) -> Redis:
        if self._impatient is None:
            self._impatient = _impatient(self._given() if callable(self._given) else self._given)
        return self._impatient


def _impatient(client: Any) -> Redis:
    # The given client may wait for seconds and repeat, as is right for a queue; a call to Stripe cannot.
    pool = client.connection_pool
    arguments = {
        key: value
        for key, value in pool.connection_kwargs.items()
        if not key.startswith(("orig_", "maint_", "himport_"))  # a pool's own, set again by the new one
    } | {
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
        "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    return redis_py.Redis(connection_pool=redis_py.ConnectionPool(connection_class=pool.connection_class, **arguments))
