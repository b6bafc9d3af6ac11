"""What every call to Stripe goes through: key, timeouts, budget, circuit, made anew in each process."""

import contextlib
import contextvars
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import stripe

from ..errors import StripeNotConfigured
from .attempts import PATIENCE_SECONDS, Answer, Attempts, Call, json_object
from .budget import Budget, Redis
from .circuit import Circuit
from .transport import Transport

# The version that the SDK was generated for; what an account's dashboard says does not reach us.
API_VERSION = stripe.api_version

_background: contextvars.ContextVar[bool] = contextvars.ContextVar("stripe_background", default=False)


class Connection:
    """The way to Stripe, and what it costs and allows; which calls there are is the gateway's matter."""

    def __init__(
        self,
        *,
        api_key: str,
        api_base: str,
        requests_per_second: float,
        connect_timeout: float,
        read_timeout: float,
        redis: Redis | Callable[[], Redis] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._api_key = api_key
        self._api_base = api_base.rstrip("/")
        self._rate = requests_per_second
        self._timeouts = (connect_timeout, read_timeout)
        self._redis = redis
        self._monotonic = monotonic
        self._sleep = sleep
        self._process: tuple[int, Attempts] | None = None

    @contextlib.contextmanager
    def background(self) -> Iterator[None]:
        """Calls inside are of the background class: they wait longer and give way to interactive ones.

        Holds for this thread only: a thread started inside has to say so itself.
        """
        token = _background.set(True)
        try:
            yield
        finally:
            _background.reset(token)

    @property
    def circuit(self) -> Circuit:
        return self._attempts.circuit

    @property
    def budget(self) -> Budget:
        return self._attempts.budget

    def budget_left(self) -> dict[str, float] | None:
        """What is left of the requests of all processes; see Budget.left."""
        return self._attempts.budget.left()

    def _get(
        self,
        operation: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        parse: Callable[[bytes], Any] = json_object,
    ) -> Answer:
        return self._carry_out(Call(operation, "get", path, params or {}, parse=parse))

    def _carry_out(self, call: Call) -> Answer:
        if not self._api_key:
            raise StripeNotConfigured("No Stripe key is configured: set STRIPE_SECRET_KEY.")
        return self._attempts.carry_out(call, background=_background.get())

    @property
    def _attempts(self) -> Attempts:
        # What belongs to a process (connections, locks, counts) is made anew in a child. Two threads that do it
        # at the same time only lose a count; a lock here could be held by another thread at the fork.
        process = self._process
        if process is None or process[0] != os.getpid():
            process = self._process = (os.getpid(), self._open())
        return process[1]

    def _open(self) -> Attempts:
        client = stripe.StripeClient(
            self._api_key or "none",
            stripe_version=API_VERSION,
            base_addresses={"api": self._api_base},
            # Retries are ours: the SDK's know no total time, no budget and no circuit.
            max_network_retries=0,
            http_client=Transport(*self._timeouts),
        )
        budget = Budget(self._rate, self._redis, monotonic=self._monotonic, sleep=self._sleep)
        # A timeout is never waited for twice, however short it is set.
        patience = min(PATIENCE_SECONDS, self._timeouts[1] / 2)
        circuit = Circuit(self._monotonic)
        return Attempts(client, circuit, budget, patience=patience, monotonic=self._monotonic, sleep=self._sleep)
