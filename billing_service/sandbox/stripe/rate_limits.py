"""Requests per second of real time, counted per account."""

from __future__ import annotations

import threading
import time

from .problems import rate_limited


class RateLimits:
    def __init__(self, settings):
        self.settings = settings
        self.lock = threading.Lock()
        self.second = 0
        self.counts: dict = {}

    def check(self, account: str, method: str):
        kind = "rate_limit_reads" if method == "GET" else "rate_limit_writes"
        limits = {name: getattr(self.settings, name) for name in ("rate_limit", kind)}
        if not any(limits.values()):
            return
        with self.lock:
            now = int(time.time())
            if now != self.second:
                self.second, self.counts = now, {}
            for name, limit in limits.items():
                count = self.counts[account, name] = self.counts.get((account, name), 0) + 1
                if limit and count > limit:
                    raise rate_limited("global-rate")
