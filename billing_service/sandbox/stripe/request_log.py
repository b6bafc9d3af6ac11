"""What was asked: the last requests under /v1, for tests that assert what Stripe received."""

from __future__ import annotations

import re
import threading
import time
from collections import deque

LENGTH = 20_000


class RequestLog:
    def __init__(self):
        self.lock = threading.Lock()
        self.clear()

    def clear(self):
        with self.lock:
            self.total = 0
            self.entries: deque = deque(maxlen=LENGTH)

    def open(self, request, key) -> dict:
        entry = {
            "at": time.time(),
            "method": request.method,
            "path": request.path,
            "params": {},
            "query": request.query,
            "body": request.body.decode("utf-8", "replace"),
            "key": key,
            "idempotency_key": request.headers.get("idempotency-key"),
            "version": request.headers.get("stripe-version"),
            "status": None,
            "request_id": None,
            "fault": None,
            "replayed": False,
            "milliseconds": None,
        }
        with self.lock:
            self.total += 1
            self.entries.append(entry)
        return entry

    def listed(self, method=None, path=None, status=None, key=None, limit=100) -> dict:
        with self.lock:
            entries = list(self.entries)
        found = [
            entry
            for entry in entries
            if method in (None, entry["method"])
            and re.search(path or "", entry["path"])
            and status in (None, str(entry["status"]))
            and key in (None, entry["key"])
        ]
        return {"count": len(found), "total": self.total, "items": found[-limit:] if limit else []}
