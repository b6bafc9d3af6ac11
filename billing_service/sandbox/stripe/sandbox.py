"""The sandbox: its parts put together, and the thread that lets billing follow the clock."""

from __future__ import annotations

import sys
import threading
import traceback

from . import control_deliveries, control_payments, control_routes  # noqa: F401
from .accounts import Accounts
from .billing_calendar import BillingCalendar
from .clock import Clock
from .deliveries import Deliveries
from .faults import Faults
from .front import Front
from .idempotency import Idempotency
from .ids import ids
from .rate_limits import RateLimits
from .request_log import RequestLog
from .resources.events import event_for
from .seeds import Seeds
from .settings import Settings
from .store import Store

TICK_SECONDS = 1.0


class Sandbox:
    event_for = staticmethod(event_for)

    def __init__(self, path: str | None = None):
        self.store = Store(path)
        self.clock = Clock(self.store)
        self.settings = Settings(self.store)
        self.accounts = Accounts(self.store, self.clock)
        self.seeds = Seeds(self.store)
        self.faults = Faults(self.store)
        self.request_log = RequestLog()
        self.rate_limits = RateLimits(self.settings)
        self.idempotency = Idempotency(self.store, self.clock)
        self.deliveries = Deliveries(self.store, self.clock, self.settings)
        self.calendar = BillingCalendar(self)
        self.front = Front(self)
        self.stopping = threading.Event()

    def start(self):
        self.deliveries.start(self)
        threading.Thread(target=self._tick, daemon=True, name="calendar").start()

    def stop(self):
        self.stopping.set()
        self.deliveries.stop()

    def answer(self, request):
        if request.path == "/_control" or request.path.startswith("/_control/"):
            return control_routes.answer(self, request)
        return self.front.answer(request)

    def reset(self):
        with self.store.transaction():
            self.store.clear()
            for part in (self.clock, self.settings, self.seeds, self.faults):
                part.reload()
            ids.begin(None)
            self.accounts.ensure_default()
        self.request_log.clear()

    def _tick(self):
        while not self.stopping.wait(TICK_SECONDS):
            try:
                if self.settings.calendar_follows_time:
                    self.calendar.run()
                with self.store.transaction():
                    self.store.forget_history()
                    self.idempotency.forget_old()
            except Exception:
                traceback.print_exc(file=sys.stderr)
