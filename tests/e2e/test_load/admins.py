"""Admins at work during a storm: each call is repeated with its key until it is answered, as a client should do."""

import random
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import requests

PLANS = ("starter", "pro", "business")
BASE = "/api/admin/billing"
# What says "ask again": the store or Stripe is away, another call of the same key is under way, or nothing was said.
AGAIN = frozenset({429, 500, 502, 503, 504})


class Admins:
    """One changes plans, one refunds; `done` are the calls that were answered with success, in their order."""

    def __init__(self, urls: list[str], token: str, organizations: list[str], charges: list[str], dice: random.Random):
        self.urls, self.dice = urls, dice
        self.headers = {"Authorization": f"Bearer {token}"}
        self.organizations, self.charges = organizations, list(charges)
        self.done: list[tuple[str, dict, dict]] = []
        self.answers: Counter = Counter()
        self.leave = threading.Event()

    def __enter__(self) -> "Admins":
        self.pool = ThreadPoolExecutor(2)
        self.work = [self.pool.submit(self._change_plans), self.pool.submit(self._refund)]
        return self

    def __exit__(self, *error) -> None:
        self.finish()

    def finish(self) -> None:
        """No new calls; those under way are brought to their answer. Raises what ended one of them."""
        self.leave.set()
        for each in self.work:
            each.result()
        self.pool.shutdown()

    def watch(self) -> None:
        for each in self.work:
            if each.done():
                each.result()

    def _change_plans(self) -> None:
        while not self.leave.wait(0.15):
            body = {"orgId": self.dice.choice(self.organizations), "planId": self.dice.choice(PLANS), "note": "storm"}
            self._call("PATCH", "plans/bump", body, f"bump-{uuid.uuid4().hex}")

    def _refund(self) -> None:
        while self.charges and not self.leave.wait(0.7):
            charge = self.charges.pop()
            number = f"storm-{charge}"
            # The refund's own id is its key: an answer that nobody saw is asked for again with it.
            self._call("POST", "refund", {"chargeId": charge, "amountCents": 700, "refundRequestId": number}, number)

    def _call(self, method: str, path: str, body: dict, key: str) -> None:
        deadline = time.monotonic() + 150
        while True:
            status, answer = self._ask(method, path, body, key)
            self.answers[f"{path} {status}"] += 1
            if status == 200:
                self.done.append((path, body, answer))
                return
            in_progress = status == 409 and answer.get("code") == "idempotency_in_progress"
            assert status in AGAIN or status in (0, 202) or in_progress, (method, path, status, answer)
            assert time.monotonic() < deadline, (method, path, status, answer)
            time.sleep(self.dice.uniform(0.3, 1))

    def _ask(self, method: str, path: str, body: dict, key: str) -> tuple[int, dict]:
        url = f"{self.dice.choice(self.urls)}{BASE}/{path}"
        headers = self.headers | {"Idempotency-Key": key}
        try:
            answer = requests.request(method, url, json=body, headers=headers, timeout=30)
            return answer.status_code, answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
        except requests.RequestException as error:
            return 0, {"error": type(error).__name__}


def assert_each_success_had_its_effect(admins: Admins, database, refunds: list[dict]) -> None:
    """What was answered with success is stored, once, and is at Stripe, once."""
    latest = {body["orgId"]: body["planId"] for path, body, _ in admins.done if path == "plans/bump"}
    rows = {str(each["organization"]): each for each in database.subscriptions.find({"override": {"$ne": None}})}
    assert {org: rows[org]["override"]["plan"] for org in latest} == latest
    plans = {str(each["_id"]): each["plan"] for each in database.organizations.find()}
    assert {org: plans[org] for org in latest} == latest
    bumps = [body["orgId"] for path, body, _ in admins.done if path == "plans/bump"]
    told = Counter(str(each["organization"]) for each in outcomes(database, "bump"))
    assert told == Counter(bumps), "an outcome is missing, or was written twice"
    asked = {
        body["refundRequestId"]: answer["stripeRefundId"] for path, body, answer in admins.done if path == "refund"
    }
    at_stripe = Counter(each["metadata"].get("refundRequestId", "") for each in refunds)
    assert at_stripe == Counter(dict.fromkeys(asked, 1)), "a refund was made twice, or was told and not made"
    assert {each["metadata"]["refundRequestId"]: each["id"] for each in refunds} == asked
    stored = {each["refund_request_id"]: each["state"] for each in database.refund_requests.find()}
    assert {number: stored[number] for number in asked} == dict.fromkeys(asked, "succeeded")


def outcomes(database, action: str) -> list[dict]:
    return list(database.admin_actions.find({"phase": "outcome", "action": action, "outcome": "succeeded"}))
