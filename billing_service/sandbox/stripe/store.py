"""The sandbox's database: JSON documents in SQLite, one transaction at a time. Nothing here knows what a
subscription is."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager

import orjson

TABLES = """
CREATE TABLE IF NOT EXISTS objects (
    account TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, created INTEGER NOT NULL,
    customer TEXT, parent TEXT, status TEXT, due_at INTEGER, body TEXT, PRIMARY KEY (account, id));
CREATE INDEX IF NOT EXISTS objects_listed ON objects (account, kind, created, seq);
CREATE INDEX IF NOT EXISTS objects_of_customer ON objects (account, kind, customer, created, seq);
CREATE INDEX IF NOT EXISTS objects_of_parent ON objects (account, kind, parent, created, seq);
CREATE INDEX IF NOT EXISTS objects_of_status ON objects (account, kind, status, created, seq);
CREATE INDEX IF NOT EXISTS objects_due ON objects (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS history (
    n INTEGER PRIMARY KEY, at REAL NOT NULL, account TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
    seq INTEGER, created INTEGER, customer TEXT, parent TEXT, status TEXT, body TEXT);
CREATE INDEX IF NOT EXISTS history_of_object ON history (account, id, at);
CREATE INDEX IF NOT EXISTS history_at ON history (at);
CREATE TABLE IF NOT EXISTS idempotency (
    account TEXT, key TEXT, path TEXT, hash TEXT, status INTEGER, headers TEXT, body BLOB, at INTEGER,
    PRIMARY KEY (account, key));
CREATE TABLE IF NOT EXISTS accounts (id TEXT PRIMARY KEY, api_version TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, account TEXT, permissions TEXT);
CREATE TABLE IF NOT EXISTS payments (account TEXT, customer TEXT, outcome TEXT, code TEXT,
    PRIMARY KEY (account, customer));
CREATE TABLE IF NOT EXISTS secrets (account TEXT, endpoint TEXT, secret TEXT, expires_at REAL);
CREATE TABLE IF NOT EXISTS faults (id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT, hits INTEGER, seen INTEGER);
CREATE TABLE IF NOT EXISTS deliveries (
    id TEXT PRIMARY KEY, position REAL, account TEXT, event TEXT, type TEXT, endpoint TEXT, state TEXT,
    attempts INTEGER, next_attempt_at REAL, not_before REAL, first_at INTEGER, last_status INTEGER, last_error TEXT);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (state, next_attempt_at);
CREATE INDEX IF NOT EXISTS deliveries_of_event ON deliveries (account, event);
CREATE TABLE IF NOT EXISTS seeds (batch INTEGER, account TEXT, base_seq INTEGER, rule TEXT,
    PRIMARY KEY (account, batch));
CREATE TABLE IF NOT EXISTS seed_overrides (account TEXT, batch INTEGER, kind TEXT, position INTEGER,
    PRIMARY KEY (account, batch, kind, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT);
"""

NAMES = (
    "objects",
    "history",
    "idempotency",
    "accounts",
    "keys",
    "payments",
    "secrets",
    "faults",
    "deliveries",
    "seeds",
    "seed_overrides",
    "kept",
)
HISTORY_SECONDS = 3600


class Store:
    def __init__(self, path: str | None = None):
        self.lock = threading.RLock()
        self.depth = 0
        self.connection = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self.connection.row_factory = sqlite3.Row
        if path:
            self.connection.execute("PRAGMA journal_mode = WAL")
            # A killed process loses nothing that was committed; only a power cut could.
            self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.executescript(TABLES)
        self.last_seq = self._last_seq()

    def _last_seq(self) -> int:
        row = self.one("SELECT MAX(seq) AS top FROM objects")
        return max(row["top"] or 0, self.value("reserved_seq") or 0)

    @contextmanager
    def transaction(self):
        """One transaction; nested uses join it."""
        with self.lock:
            if self.depth == 0:
                self.connection.execute("BEGIN IMMEDIATE")
            self.depth += 1
            try:
                yield self
            except BaseException:
                self.depth -= 1
                if self.depth == 0:
                    self.connection.execute("ROLLBACK")
                raise
            self.depth -= 1
            if self.depth == 0:
                self.connection.execute("COMMIT")

    @contextmanager
    def savepoint(self, keeps_effect):
        """Inside a transaction: undo this block when it raises, unless `keeps_effect(error)`."""
        self.connection.execute("SAVEPOINT step")
        try:
            yield
        except BaseException as error:
            if not keeps_effect(error):
                self.connection.execute("ROLLBACK TO step")
            self.connection.execute("RELEASE step")
            raise
        self.connection.execute("RELEASE step")

    def run(self, sql, values=()):
        with self.lock:
            return self.connection.execute(sql, values)

    def all(self, sql, values=()):
        with self.lock:
            return self.connection.execute(sql, values).fetchall()

    def one(self, sql, values=()):
        with self.lock:
            return self.connection.execute(sql, values).fetchone()

    def next_seq(self, count: int = 1) -> int:
        """The first of `count` numbers that order objects made in the same second."""
        first = self.last_seq + 1
        self.last_seq += count
        if count > 1:
            self.keep("reserved_seq", self.last_seq)
        return first

    def value(self, name):
        row = self.one("SELECT value FROM kept WHERE name = ?", (name,))
        return orjson.loads(row["value"]) if row else None

    def keep(self, name, value):
        self.run("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, orjson.dumps(value).decode()))

    def read(self, account, object_id, as_of=None):
        """The row of an object, now or as it was at the wall time `as_of`; None if there is (was) none."""
        if as_of is not None:
            past = self.one(
                "SELECT * FROM history WHERE account = ? AND id = ? AND at > ? ORDER BY n LIMIT 1",
                (account, object_id, as_of),
            )
            if past:
                return past if past["body"] is not None else None
        return self.one("SELECT * FROM objects WHERE account = ? AND id = ?", (account, object_id))

    def write(self, row: dict, before=None):
        """Insert or replace an object's row. `before`: the row it had outside the table (a seeded object)."""
        self._remember(row["account"], row["kind"], row["id"], before)
        self.run(
            "INSERT OR REPLACE INTO objects (account, kind, id, seq, created, customer, parent, status, "
            "due_at, body) VALUES (:account, :kind, :id, :seq, :created, :customer, :parent, :status, "
            ":due_at, :body)",
            row,
        )

    def erase(self, account, kind, object_id, before=None):
        self._remember(account, kind, object_id, before)
        self.run("DELETE FROM objects WHERE account = ? AND id = ?", (account, object_id))

    def _remember(self, account, kind, object_id, before):
        if kind == "event":
            return
        row = self.read(account, object_id) or before
        values = {"at": time.time(), "account": account, "kind": kind, "id": object_id}
        for name in ("seq", "created", "customer", "parent", "status", "body"):
            values[name] = row[name] if row else None
        self.run(
            "INSERT INTO history (at, account, kind, id, seq, created, customer, parent, status, body) "
            "VALUES (:at, :account, :kind, :id, :seq, :created, :customer, :parent, :status, :body)",
            values,
        )

    def forget_history(self):
        self.run("DELETE FROM history WHERE at < ?", (time.time() - HISTORY_SECONDS,))

    def clear(self):
        with self.transaction():
            for name in NAMES:
                self.run(f"DELETE FROM {name}")
            self.last_seq = 0
