"""The control plane's client, for tests and demo data."""

from __future__ import annotations

import json

import requests


class ControlError(Exception):
    """The control plane refused: its status and words."""


class Control:
    """`Control("http://127.0.0.1:8420")`; every method answers what the control plane answers."""

    def __init__(self, base_url: str, timeout: float = 60):
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self.session = requests.Session()
        self.session.trust_env = False

    def close(self):
        self.session.close()

    def call(self, method: str, path: str = "", body: dict | None = None, query: dict | None = None) -> dict:
        wanted = {name: value for name, value in (query or {}).items() if value is not None}
        # The SDK makes Decimals of unit_amount_decimal, which the API writes as strings.
        data = None if body is None else json.dumps(body, default=str)
        url = f"{self.base_url}/_control{path}"
        answer = self.session.request(method, url, data=data, params=wanted, timeout=self.timeout)
        if not answer.ok:
            raise ControlError(f"{answer.status_code}: {answer.json()['error']}")
        return answer.json()

    def state(self):
        return self.call("GET")

    def reset(self):
        return self.call("POST", "/reset", {})

    def now(self) -> int:
        return self.state()["now"]

    def advance(self, seconds: float):
        return self.call("POST", "/clock", {"advance": seconds})

    def set_clock(self, epoch: float):
        return self.call("POST", "/clock", {"set": epoch})

    def stop_clock(self, epoch: float):
        return self.call("POST", "/clock", {"set": epoch, "stop": True})

    def seed_ids(self, seed: int | None):
        return self.call("POST", "/ids", {"seed": seed})

    def settings(self, **changes):
        return self.call("POST", "/settings", changes) if changes else self.call("GET", "/settings")

    def arm(self, kind: str, *, method=None, path=None, key=None, times: int | None = 1, after=0, **more):
        """`times=None`: for ever. `path` is a regular expression searched in the request's path."""
        match = {name: value for name, value in (("method", method), ("path", path), ("key", key)) if value}
        return self.call("POST", "/faults", {"kind": kind, "match": match, "times": times, "after": after, **more})

    def disarm(self, fault_id: int | None = None):
        return self.call("DELETE", "/faults" if fault_id is None else f"/faults/{fault_id}")

    def faults(self):
        return self.call("GET", "/faults")["items"]

    def requests(self, *, method=None, path=None, status=None, key=None, limit=100):
        wanted = {"method": method, "path": path, "status": status, "key": key, "limit": limit}
        return self.call("GET", "/requests", query=wanted)

    def clear_requests(self):
        return self.call("POST", "/requests/clear", {})

    def hold(self):
        return self.call("POST", "/deliveries", {"mode": "hold"})

    def auto(self):
        return self.call("POST", "/deliveries", {"mode": "auto"})

    def deliveries(self, *, state=None, type=None, event=None):
        return self.call("GET", "/deliveries", query={"state": state, "type": type, "event": event})["items"]

    def release(self, ids: list[str] | None = None, wait: bool = True):
        """Sends what is held, one after the other: all of it, or these (pending ones too) in this order."""
        body = {"wait": wait} | ({} if ids is None else {"ids": ids})
        return self.call("POST", "/deliveries/release", body)["items"]

    def drop(self, delivery: str):
        return self.call("POST", f"/deliveries/{delivery}/drop", {})

    def duplicate(self, delivery: str):
        return self.call("POST", f"/deliveries/{delivery}/duplicate", {})

    def delay(self, delivery: str, seconds: float):
        return self.call("POST", f"/deliveries/{delivery}/delay", {"seconds": seconds})

    def reorder(self, delivery: str, position: int):
        return self.call("POST", f"/deliveries/{delivery}/reorder", {"position": position})

    def resend(self, event: str, endpoint: str | None = None):
        return self.call("POST", f"/events/{event}/resend", {"endpoint": endpoint})

    def add_account(self, **details):
        """`id`, `key`, `api_version`, `name`, each optional."""
        return self.call("POST", "/accounts", details)

    def add_key(self, **details):
        """`account`, `key`, `permissions` ({resource: none | read | write}, `*` for the rest)."""
        return self.call("POST", "/keys", details)["key"]

    def payment(self, customer: str, outcome: str, code: str | None = None, **more):
        return self.call("POST", f"/customers/{customer}/payment", {"outcome": outcome, "code": code, **more})

    def complete_checkout(self, session: str, outcome: str | None = None, **more):
        """The buyer pays: paid, unpaid (a delayed payment), no_payment_required, declined (it stays open)."""
        body = more | ({} if outcome is None else {"outcome": outcome})
        return self.call("POST", f"/checkout/sessions/{session}/complete", body)

    def settle_checkout(self, session: str, outcome: str, **more):
        """The end of a delayed payment: succeed or fail."""
        return self.call("POST", f"/checkout/sessions/{session}/settle", {"outcome": outcome, **more})

    def pend_refunds(self, times: int = 1, **more):
        """The account's next refunds will be pending; `pending_reason` says why."""
        return self.call("POST", "/refunds/next", {"times": times, **more})

    def settle_refund(self, refund: str, outcome: str, **more):
        """succeed or fail; a succeeded refund can fail as well."""
        return self.call("POST", f"/refunds/{refund}/settle", {"outcome": outcome, **more})

    def dispute(self, charge: str, **more):
        """`reason`, `amount` in minor units, `inquiry`: each optional."""
        return self.call("POST", f"/charges/{charge}/dispute", more)

    def close_dispute(self, dispute: str, outcome: str, **more):
        """won, lost, or of an inquiry warning_closed."""
        return self.call("POST", f"/disputes/{dispute}/close", {"outcome": outcome, **more})

    def patch(self, object_id: str, patch: dict, event: str | None = None, **more):
        return self.call("POST", f"/objects/{object_id}", {"patch": patch, "event": event, **more})

    def remove(self, object_id: str, **more):
        return self.call("DELETE", f"/objects/{object_id}", more)

    def roll_secret(self, endpoint: str, expires_in: float = 86400, **more):
        return self.call("POST", f"/endpoints/{endpoint}/roll", {"expires_in": expires_in, **more})

    def emit(self, type: str, object: dict, **more):
        """An event out of thin air; `previous` gives what its object was before."""
        return self.call("POST", "/events", {"type": type, "object": object, **more})

    def seed(self, count: int, prices: list[str], **more):
        return self.call("POST", "/seed", {"count": count, "prices": prices, **more})
