"""Idempotency keys of POST requests: the first answer is kept for 24 hours of the sandbox's clock and repeated."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from urllib.parse import parse_qsl

import orjson

from .problems import Problem
from .server import Answer

LIFE = 24 * 3600
LONGEST = 255


class Idempotency:
    def __init__(self, store, clock):
        self.store = store
        self.clock = clock
        self.running: set = set()

    @contextmanager
    def held(self, account: str, key: str | None):
        """Only one request with a key runs at a time; another one is refused, not queued."""
        if not key:
            yield
            return
        if len(key) > LONGEST:
            raise refused(400, f"Idempotency key must be at most {LONGEST} characters")
        with self.store.lock:
            if (account, key) in self.running:
                raise refused(
                    409,
                    "There is currently another in-progress request using this Idempotent Key (that "
                    f"probably means you submitted twice, and the other request is still going through): "
                    f"{key}. Please try again later.",
                    "idempotency_key_in_use",
                )
            self.running.add((account, key))
        try:
            yield
        finally:
            with self.store.lock:
                self.running.discard((account, key))

    def repeated(self, account, key, path, body) -> Answer | None:
        row = self.store.one(
            "SELECT * FROM idempotency WHERE account = ? AND key = ? AND at > ?",
            (account, key, self.clock.now() - LIFE),
        )
        if not row:
            return None
        if row["path"] != path:
            raise refused(
                400,
                "Keys for idempotent requests can only be used for the same endpoint they were first "
                f"used for ('{path}' vs '{row['path']}'). Try using a key other than '{key}' if you meant "
                "to execute a different request.",
            )
        if row["hash"] != digest(body):
            raise refused(
                400,
                "Keys for idempotent requests can only be used with the same parameters they were "
                f"first used with. Try using a key other than '{key}' if you meant to execute a different "
                "request.",
            )
        return Answer(row["status"], row["body"], orjson.loads(row["headers"]) | {"Idempotent-Replayed": "true"})

    def keep(self, account, key, path, body, answer: Answer):
        self.store.run(
            "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                account,
                key,
                path,
                digest(body),
                answer.status,
                orjson.dumps(answer.headers).decode(),
                answer.body,
                self.clock.now(),
            ),
        )

    def forget_old(self):
        self.store.run("DELETE FROM idempotency WHERE at <= ?", (int(self.clock.exact()) - LIFE,))


def digest(body: bytes) -> str:
    """Of the parameters, whatever their order."""
    pairs = sorted(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return hashlib.sha256(repr(pairs).encode()).hexdigest()


def refused(status, message, code=None):
    return Problem(status, message, type="idempotency_error", code=code, executed=False)
