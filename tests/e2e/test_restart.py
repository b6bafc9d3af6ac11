"""Restarts of the web process in service: every request is answered, whoever holds a connection open."""

import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pymongo
import pytest
import requests

import billing_service
from billing_service.sandbox import servers
from billing_service.sandbox.dev_child import Child

SECRET = "whsec_of_the_restart_0123456789"
CLI = [sys.executable, "-m", "billing_service.cli"]
CLIENTS = 6
PACKAGE = Path(billing_service.__file__).parent


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


@contextmanager
def started(command, folder, environment, **options):
    """A web process that answers; it is told to stop at the end, and must."""
    log = folder / "web.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output, **options)
    url = f"http://{servers.HOST}:{command[-1]}"
    try:
        deadline = time.monotonic() + 60
        while not servers.answers_http(f"{url}/readyz"):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.05)
        yield process, url
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


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
    """Threads that post webhooks one after the other: half on a connection that is kept, half on new ones."""

    def __init__(self, url):
        self.url = f"{url}/api/billing/webhook"
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
            if place % 2:
                session.close()
            with self.lock:
                self.answers[status] += 1
                if status == 200:
                    self.accepted.add(f"evt_restart_{name}")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as listed:
        return {int(each) for each in listed.read().split()}


def test_hup_under_load_drops_no_request(installation):
    child, url, _, database = installation
    with Clients(url) as clients:
        time.sleep(1)
        for _ in range(3):
            before = children(child.pid)
            os.kill(child.pid, signal.SIGHUP)
            deadline = time.monotonic() + 40
            while children(child.pid) & before or len(children(child.pid)) != 2:
                assert time.monotonic() < deadline, child.log_tail()
                time.sleep(0.1)
            time.sleep(0.5)
    assert set(clients.answers) == {200}, clients.answers
    assert clients.answers[200] > 100
    stored = {each["event_id"] for each in database.webhook_events.find({}, {"event_id": 1})}
    assert clients.accepted <= stored


def test_hup_never_mixes_two_versions(installation, tmp_path):
    """What was installed over the running code meanwhile is not read: its parts do not fit to those that were."""
    _, _, environment, _ = installation
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    with started([*CLI, "web", "--port", str(servers.free_port())], tmp_path, environment) as (process, url):
        for path in (tmp_path / PACKAGE.name).rglob("*.py"):
            path.write_text("raise RuntimeError('of another version')\n")
        before = children(process.pid)
        os.kill(process.pid, signal.SIGHUP)
        deadline = time.monotonic() + 40
        while children(process.pid) & before or len(children(process.pid)) != 2:
            assert process.poll() is None, (tmp_path / "web.log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert requests.get(f"{url}/readyz", timeout=10).status_code == 200
        assert requests.get(f"{url}/api/openapi.json", timeout=10).status_code == 200


def test_a_restart_behind_systemds_socket_refuses_nobody(installation, tmp_path):
    """systemd holds the socket of deploy/systemd/billing-web.socket: who comes meanwhile waits in its queue."""
    _, _, environment, database = installation
    with socket.create_server((servers.HOST, 0), backlog=128) as held:
        port, number = held.getsockname()[1], held.fileno()
        # As systemd does: the first socket is number 3, and the variables name the process. Counters of an earlier one
        # with its number are there, as in a container that is started again.
        script = (
            f'exec 3<&{number}; export LISTEN_FDS=1 LISTEN_PID=$$; mkdir "$TMPDIR/billing-metrics-$$-old"; exec "$@"'
        )
        environment = environment | {"TMPDIR": str(tmp_path)}
        command = ["bash", "-c", script, "web", *CLI, "web", "--port", str(port)]
        with ExitStack() as first, ExitStack() as second:
            first.enter_context(started(command, tmp_path, environment, pass_fds=(number,)))
            assert [each.name for each in tmp_path.glob("billing-metrics-*-old")] == []
            with Clients(f"http://{servers.HOST}:{port}") as clients:
                time.sleep(1)
                answered = clients.answers.total()
                first.close()
                second.enter_context(started(command, tmp_path, environment, pass_fds=(number,)))
                time.sleep(1)
            assert set(clients.answers) == {200}, clients.answers
            assert clients.answers[200] > answered + CLIENTS > 50
            stored = {each["event_id"] for each in database.webhook_events.find({}, {"event_id": 1})}
            assert clients.accepted <= stored
