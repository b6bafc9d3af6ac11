"""Armed faults: which requests they strike and what happens then. Kept in the store, so that they survive a restart."""

from __future__ import annotations

import re

import orjson

KINDS = {
    "rate_limited": {"retry_after", "reason"},
    "error": {"status", "body", "stored", "after_effect"},
    "lock_timeout": set(),
    "drop": set(),
    "drop_after": set(),
    "delay": {"seconds"},
    "timeout_before": {"seconds"},
    "timeout_after": {"seconds"},
    "lag": {"seconds"},
}
NEEDS_SECONDS = {"delay", "timeout_before", "timeout_after", "lag"}


class Faults:
    def __init__(self, store):
        self.store = store
        self.reload()

    def reload(self):
        rows = self.store.all("SELECT * FROM faults ORDER BY id")
        self.armed = [
            {**orjson.loads(row["rule"]), "id": row["id"], "hits": row["hits"], "seen": row["seen"]} for row in rows
        ]

    def arm(self, rule: dict) -> dict:
        rule = {"match": {}, "times": 1, "after": 0} | rule
        refuse_nonsense(rule)
        with self.store.transaction():
            done = self.store.run(
                "INSERT INTO faults (rule, hits, seen) VALUES (?, 0, 0)", (orjson.dumps(rule).decode(),)
            )
            self.armed.append({**rule, "id": done.lastrowid, "hits": 0, "seen": 0})
        return self.listed()[-1]

    def disarm(self, fault_id: int | None = None) -> int:
        with self.store.transaction():
            gone = [fault for fault in self.armed if fault_id is None or fault["id"] == fault_id]
            for fault in gone:
                self.store.run("DELETE FROM faults WHERE id = ?", (fault["id"],))
                self.armed.remove(fault)
        return len(gone)

    def listed(self) -> list[dict]:
        return [fault | {"left": left(fault)} for fault in self.armed]

    def strike(self, request, key) -> tuple[dict | None, dict | None]:
        """The fault that this request meets, and the lag that its reads have; each counts as used."""
        if not self.armed:
            return None, None
        with self.store.transaction():
            fault = self._first(request, key, lambda kind: kind != "lag")
            lag = self._first(request, key, lambda kind: kind == "lag")
        return fault, lag

    def _first(self, request, key, wanted):
        for fault in self.armed:
            if wanted(fault["kind"]) and left(fault) != 0 and matches(fault["match"], request, key):
                fault["seen"] += 1
                struck = fault["seen"] > fault["after"]
                fault["hits"] += struck
                self.store.run(
                    "UPDATE faults SET hits = ?, seen = ? WHERE id = ?", (fault["hits"], fault["seen"], fault["id"])
                )
                if struck:
                    return fault
        return None


def left(fault):
    return None if fault["times"] is None else fault["times"] - fault["hits"]


def matches(match, request, key) -> bool:
    return (
        (match.get("method") or request.method).upper() == request.method
        and re.search(match.get("path") or "", request.path) is not None
        and match.get("key") in (None, key)
    )


def refuse_nonsense(rule):
    kind = rule.get("kind")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    unknown = set(rule) - KINDS[kind] - {"match", "times", "after", "kind"}
    unknown |= set(rule["match"]) - {"method", "path", "key"}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    if kind in NEEDS_SECONDS and not isinstance(rule.get("seconds"), (int, float)):
        raise ValueError(f"{kind} needs seconds")
    re.compile(rule["match"].get("path") or "")
