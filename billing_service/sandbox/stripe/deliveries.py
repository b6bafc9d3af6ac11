"""Webhook deliveries: queued with the change that caused them, signed when they are sent, retried on the sandbox's
clock; or held, so that a test decides what arrives when."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import requests

from .books import Books
from .ids import new_id
from .signatures import signature

SENDERS = 4
WAITING = ("pending", "held")
LONGEST = 3 * 86400


class Deliveries:
    def __init__(self, store, clock, settings):
        self.store, self.clock, self.settings = store, clock, settings
        self.sandbox: Any = None
        self.woken = threading.Event()
        self.stopping = False
        self.in_flight: set = set()
        self.local = threading.local()

    def start(self, sandbox):
        self.sandbox = sandbox
        self.pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="delivery")
        threading.Thread(target=self._watch, daemon=True, name="deliveries").start()

    def wake(self):
        self.woken.set()

    def stop(self):
        self.stopping = True
        self.wake()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def queue(self, account: str, event: dict):
        """Within the transaction of the change."""
        rows = self.store.all(
            "SELECT body FROM objects WHERE account = ? AND kind = 'webhook_endpoint' AND "
            "status = 'enabled' ORDER BY seq",
            (account,),
        )
        for row in rows:
            endpoint = orjson.loads(row["body"])
            if {"*", event["type"]} & set(endpoint["enabled_events"]):
                self.add(account, event, endpoint["id"])

    def add(self, account, event, endpoint_id) -> str:
        delivery_id = new_id("del_")
        state = "held" if self.settings.delivery_mode == "hold" else "pending"
        top = self.store.one("SELECT COALESCE(MAX(position), 0) AS top FROM deliveries")["top"]
        self.store.run(
            "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, 0, ?, NULL, NULL)",
            (
                delivery_id,
                top + 1,
                account,
                event["id"],
                event["type"],
                endpoint_id,
                state,
                self.clock.now(),
                self.clock.now(),
            ),
        )
        return delivery_id

    def pending_of(self, account, event_id) -> int:
        return self.store.one(
            "SELECT COUNT(*) AS n FROM deliveries WHERE account = ? AND event = ? AND state IN ('pending', 'held')",
            (account, event_id),
        )["n"]

    def row(self, delivery_id):
        return self.store.one("SELECT * FROM deliveries WHERE id = ?", (delivery_id,))

    def listed(self, state=None, type=None, event=None) -> list[dict]:
        rows = self.store.all(
            "SELECT * FROM deliveries WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR "
            "type = ?2) AND (?3 IS NULL OR event = ?3) ORDER BY position",
            (state, type, event),
        )
        return [self.described(row) for row in rows]

    def described(self, row) -> dict:
        names = ("id", "event", "type", "endpoint", "state", "attempts", "next_attempt_at", "last_status", "last_error")
        letter = self.letter(row)
        url, headers, body = letter or (None, None, None)
        return {name: row[name] for name in names} | {
            "url": url,
            "headers": headers,
            "body": body.decode() if body else None,
        }

    def letter(self, row) -> tuple[str, dict, bytes] | None:
        """Where to, the signed headers and the body, as of now; None when the endpoint or the event is gone."""
        books = Books(self.sandbox, row["account"])
        with self.store.lock:
            endpoint, event = books.find("webhook_endpoint", row["endpoint"]), books.find("event", row["event"])
            if not endpoint or not event:
                return None
            body = orjson.dumps(
                self.sandbox.event_for(books, event, endpoint["api_version"]), option=orjson.OPT_INDENT_2
            )
            secrets = self.secrets(row["account"], endpoint["id"])
        real = self.settings.signature_clock == "real"
        proof = signature(body, secrets, int(time.time()) if real else self.clock.now())
        return (
            endpoint["url"],
            {
                "Content-Type": "application/json; charset=utf-8",
                "Stripe-Signature": proof,
                "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            },
            body,
        )

    def secrets(self, account, endpoint_id) -> list[str]:
        rows = self.store.all(
            "SELECT secret FROM secrets WHERE account = ? AND endpoint = ? AND (expires_at IS NULL "
            "OR expires_at > ?) ORDER BY rowid DESC",
            (account, endpoint_id, self.clock.exact()),
        )
        return [row["secret"] for row in rows]

    def attempt(self, delivery_id) -> dict:
        row = self.row(delivery_id)
        if row is None:  # the sandbox was reset in the meantime
            return {"id": delivery_id, "event": None, "state": "dropped", "status": None, "error": "gone"}
        letter = self.letter(row)
        if not letter:
            return self._settle(row, "dropped", None, "endpoint or event is gone")
        status, error = self._post(*letter)
        if status is not None and 200 <= status < 300:
            return self._settle(row, "succeeded", status, None)
        retries = self.settings.delivery_retries
        tried = row["attempts"] + 1
        again = self.clock.now() + retries[tried - 1] if tried <= len(retries) else None
        if again is None or again - row["first_at"] > LONGEST:
            return self._settle(row, "failed", status, error)
        return self._settle(row, "pending", status, error, again)

    def _post(self, url, headers, body):
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
            self.local.session.trust_env = False
        try:
            answer = self.local.session.post(
                url, data=body, headers=headers, allow_redirects=False, timeout=self.settings.delivery_timeout
            )
            return answer.status_code, None if answer.ok else answer.text[:500]
        except requests.RequestException as error:
            return None, type(error).__name__

    def _settle(self, row, state, status, error, again=None) -> dict:
        with self.store.transaction():
            self.store.run(
                "UPDATE deliveries SET state = ?, attempts = attempts + 1, last_status = ?, "
                "last_error = ?, next_attempt_at = ? WHERE id = ?",
                (state, status, error, again, row["id"]),
            )
        return {"id": row["id"], "event": row["event"], "state": state, "status": status, "error": error}

    def _watch(self):
        while not self.stopping:
            self.woken.wait(0.2)
            self.woken.clear()
            try:
                self._send_due()
            except Exception:
                traceback.print_exc(file=sys.stderr)

    def _send_due(self):
        rows = self.store.all(
            "SELECT id FROM deliveries WHERE state = 'pending' AND next_attempt_at <= ? AND "
            "not_before <= ? ORDER BY position LIMIT 64",
            (self.clock.exact(), time.time()),
        )
        for row in rows:
            if row["id"] not in self.in_flight and not self.stopping:
                self.in_flight.add(row["id"])
                self.pool.submit(self._send, row["id"])

    def _send(self, delivery_id):
        try:
            self.attempt(delivery_id)
        finally:
            self.in_flight.discard(delivery_id)
            self.wake()
