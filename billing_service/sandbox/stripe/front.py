"""The way of a request: log, faults, key, rate limit, permission, parameters, idempotency, endpoint, answer."""

from __future__ import annotations

import sys
import time
import traceback

import orjson

from . import accounts, parameters, rendering, resources, versions
from .accounts import presented_key, require_permission
from .books import Books, Cause
from .ids import new_id
from .problems import Problem, lock_timeout, rate_limited
from .routes import Call
from .server import Answer

LOST = Answer(0, b"", drop=True)


class Front:
    def __init__(self, sandbox):
        self.sandbox = sandbox

    def answer(self, request) -> Answer:
        key = presented_key(request.headers)
        entry = self.sandbox.request_log.open(request, key)
        started = time.perf_counter()
        exchange = Exchange(self.sandbox, request, key, entry)
        answer = exchange.answer()
        entry["status"] = None if answer.drop else answer.status
        entry["milliseconds"] = round((time.perf_counter() - started) * 1000, 2)
        return answer


class Exchange:
    """One request under /v1 and what becomes of it."""

    def __init__(self, sandbox, request, key, entry):
        self.sandbox, self.request, self.entry = sandbox, request, entry
        self.request_id = entry["request_id"] = new_id("req_")
        self.fault, self.lag = sandbox.faults.strike(request, key)
        self.kind = self.fault and self.fault["kind"]
        entry["fault"] = self.kind or (self.lag and "lag")
        posted = request.method == "POST"
        self.idempotency_key = request.headers.get("idempotency-key") if posted else None
        self.version = ""

    def answer(self) -> Answer:
        if self.kind == "drop":
            return LOST
        if self.kind == "timeout_before":
            return Answer(0, b"", drop=True, hold=self.fault["seconds"])
        try:
            answer = self.admitted()
        except Problem as problem:
            answer = self.refusal(problem)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            answer = self.refusal(Problem(500, "The sandbox has a bug: see its standard error.", type="api_error"))
        self.sandbox.deliveries.wake()
        if self.kind == "drop_after":
            return LOST
        if self.kind == "timeout_after":
            return Answer(0, b"", drop=True, hold=self.fault["seconds"])
        return self.addressed(answer)

    def admitted(self) -> Answer:
        self.caller = self.sandbox.accounts.authenticate(self.request.headers)
        self.version = versions.checked(self.request.headers.get("stripe-version") or self.caller.api_version)
        self.sandbox.rate_limits.check(self.caller.account, self.request.method)
        if self.kind == "rate_limited":
            raise rate_limited(self.fault.get("reason", "global-rate"), self.fault.get("retry_after"))
        if self.kind == "lock_timeout":
            raise lock_timeout()
        route, path = resources.find(self.request.method, self.request.path)
        require_permission(self.caller, self.request.method, route.resource)
        call = self.call(route, path)
        for resource in accounts.expanded_resources(call.params.get("expand", [])):
            require_permission(self.caller, "GET", resource)
        with self.sandbox.idempotency.held(self.caller.account, self.idempotency_key):
            if self.kind == "delay":
                time.sleep(self.fault["seconds"])
            if self.request.method == "GET":
                with self.sandbox.store.lock:
                    return self.outcome(route, call)
            with self.sandbox.store.transaction():
                return self.once(route, call)

    def call(self, route, path) -> Call:
        given = parameters.decode(encoded(self.request))
        self.entry["params"] = given
        checked = parameters.checked(route.endpoint, given, route.takes)
        as_of = time.time() - self.lag["seconds"] if self.lag and self.request.method == "GET" else None
        books = Books(self.sandbox, self.caller.account, Cause(self.request_id, self.idempotency_key), as_of)
        return Call(self.sandbox, books, checked, path, self.version)

    def once(self, route, call) -> Answer:
        key = self.idempotency_key
        if not key:
            return self.outcome(route, call)
        told = (self.caller.account, key, self.request.path, self.request.body)
        repeated = self.sandbox.idempotency.repeated(*told)
        if repeated:
            self.entry["replayed"] = True
            return repeated
        answer = self.outcome(route, call)
        if self.kind != "error" or self.fault.get("stored", self.fault.get("status", 500) >= 500):
            # The answer names the request that had the effect, also when it is repeated.
            answer.headers.setdefault("Original-Request", self.request_id)
            self.sandbox.idempotency.keep(*told, answer)
        return answer

    def outcome(self, route, call) -> Answer:
        """The endpoint's answer or refusal; a refused one leaves no effect, unless it says so."""
        if self.kind == "error" and not self.fault.get("after_effect"):
            return self.armed_error()
        try:
            with self.sandbox.store.savepoint(lambda error: getattr(error, "keeps_effect", False)):
                answer = Answer(200, rendering.encoded(call, route.function(call)))
        except Problem as problem:
            if not problem.executed:
                raise
            answer = self.refusal(problem)
        return self.armed_error() if self.kind == "error" else answer

    def armed_error(self) -> Answer:
        unknown = {"error": {"message": "An unknown error occurred", "type": "api_error"}}
        body = self.fault.get("body") or unknown
        return Answer(self.fault.get("status", 500), orjson.dumps(body))

    def refusal(self, problem) -> Answer:
        url = f"https://dashboard.stripe.com/test/logs/{self.request_id}"
        body = orjson.dumps({"error": problem.error | {"request_log_url": url}})
        return Answer(problem.status, body, dict(problem.headers))

    def addressed(self, answer) -> Answer:
        headers = {"Request-Id": self.request_id, **answer.headers}
        if self.version:
            headers["Stripe-Version"] = self.version
        if self.idempotency_key:
            headers["Idempotency-Key"] = self.idempotency_key
            if not self.entry["replayed"]:
                headers.pop("Original-Request", None)
        return Answer(answer.status, answer.body, headers)


def encoded(request) -> str:
    body = ""
    if request.body:
        kind = (request.headers.get("content-type") or "").partition(";")[0].strip()
        if kind not in ("", "application/x-www-form-urlencoded"):
            raise Problem(
                400,
                "Invalid request (check that your POST content type is "
                "application/x-www-form-urlencoded). If you have any questions, we can help at "
                "https://support.stripe.com/.",
                executed=False,
            )
        body = request.body.decode("utf-8", "replace")
    return "&".join(part for part in (request.query, body) if part)
