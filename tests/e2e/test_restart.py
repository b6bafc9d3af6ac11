"""A restart of the web process in service: every request is answered, whoever holds a connection open."""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack

import pymongo
import pytest
import requests

from billing_service.sandbox import servers
from billing_service.sandbox.dev_child import Child

SECRET = "whsec_of_the_restart_0123456789"
CLI = [sys.executable, "-m", "billing_service.cli"]
CLIENTS = 6


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """Stores and a web process; (its child, its address, its environment, the database)."""
    folder = tmp_path_factory.mktemp("restart")
    with ExitStack() as stack:
        mongod = stack.enter_context(servers.mongod(folder))
        redis = stack.enter_context(servers.redis(folder))
        environment = os.environ | {
            "MONGODB_URI": mongod.url,
            "REDIS_URL": redis.url,
            "STRIPE_WEBHOOK_SECRETS": SECRET,
            "JWT_SECRET_KEY": "the key of the restart, sixty-four bytes or more, which is enough for any HMAC",
        }
        subprocess.run([*CLI, "indexes"], env=environment, check=True, capture_output=True, timeout=60)
        port = servers.free_port()
        url = f"http://{servers.HOST}:{port}"
        child = Child("web", [*CLI, "web", "--port", str(port)], folder / "web.log", environment)
        child.is_ready = lambda: servers.answers_http(f"{url}/readyz")
        child.start()
        stack.callback(child.kill)
        child.wait_ready()
        client = stack.enter_context(pymongo.MongoClient(mongod.url, tz_aware=True))
        yield child, url, environment, client.get_default_database()


def signed(number):
    event = {
        "id": f"evt_restart_{number}",
        "object": "event",
        "type": "customer.created",
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": {"id": "cus_1", "object": "customer"}},
    }
    body, stamp = json.dumps(event).encode(), int(time.time())
    proof = hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return body, {"Stripe-Signature": f"t={stamp},v1={proof}", "Content-Type": "application/json"}


class Clients:
    """Threads that post webhooks one after the other, each on a connection that is kept, or on a new one each time."""

    def __init__(self, url, *, kept):
        self.url, self.kept = f"{url}/api/billing/webhook", kept
        self.answers, self.accepted = Counter(), set()
        self.lock, self.leave = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self._post, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self):
        for each in self.threads:
            each.start()
        return self

    def __exit__(self, *error):
        self.leave.set()
        for each in self.threads:
            each.join()

    def _post(self, place):
        session = requests.Session()
        while not self.leave.is_set():
            name = f"{time.time_ns()}_{place}"
            body, headers = signed(name)
            try:
                status = session.post(self.url, data=body, headers=headers, timeout=15).status_code
            except requests.RequestException as error:
                status = repr(error)
            if not self.kept:
                session.close()
            with self.lock:
                self.answers[status] += 1
                if status == 200:
                    self.accepted.add(f"evt_restart_{name}")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as listed:
        return {int(each) for each in listed.read().split()}


@pytest.mark.parametrize("kept", [False, True])
def test_hup_under_load_drops_no_request(installation, kept):
    child, url, _, database = installation
    with Clients(url, kept=kept) as clients:
        time.sleep(1)
        for _ in range(3):
            before = children(child.pid)
            os.kill(child.pid, signal.SIGHUP)
            deadline = time.monotonic() + 40
            while children(child.pid) & before or len(children(child.pid)) != 2:
                assert time.monotonic() < deadline, child.log_tail()
                time.sleep(0.1)
            time.sleep(1)
    assert set(clients.answers) == {200}, clients.answers
    assert clients.answers[200] > 100
    stored = {each["event_id"] for each in database.webhook_events.find({}, {"event_id": 1})}
    assert clients.accepted <= stored
