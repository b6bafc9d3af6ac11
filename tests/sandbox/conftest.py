"""The Stripe sandbox as a real process, the unmodified SDK as its client, and a place that receives webhooks."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
import stripe as sdk

from billing_service.sandbox.stripe.control import Control

KEY = "sk_test_sandbox"


class Process:
    """One sandbox process; `kill` is kill -9."""

    def __init__(self, *arguments):
        argv = [sys.executable, "-m", "billing_service.sandbox.stripe", "--port", "0", *arguments]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.url = json.loads(self.process.stdout.readline())["url"]

    def kill(self):
        self.process.kill()
        self.end()

    def stop(self):
        self.process.terminate()
        self.end()

    def end(self):
        self.process.wait(10)
        self.process.stdout.close()

    def memory_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


@pytest.fixture(scope="session")
def process():
    running = Process()
    yield running
    running.stop()


@pytest.fixture
def control(process):
    with contextlib.closing(Control(process.url)) as plane:
        plane.reset()
        yield plane


def connect(url, key=KEY, **options):
    return sdk.StripeClient(key, base_addresses={"api": url}, max_network_retries=0, **options)


@pytest.fixture
def stripe(process, control):
    return connect(process.url).v1


@pytest.fixture
def http(process, control):
    """Bare requests: `http("GET", "/v1/customers", params)`."""
    with requests.Session() as session:

        def send(method, path, data=None, key=KEY, **headers):
            said = {"Authorization": f"Bearer {key}"} | {
                name.replace("_", "-"): value for name, value in headers.items()
            }
            place = {"params" if method == "GET" else "data": data}
            return session.request(method, process.url + path, headers=said, timeout=10, **place)

        yield send


@pytest.fixture
def price(stripe):
    product = stripe.products.create({"name": "Pro"})
    return stripe.prices.create(
        {"product": product.id, "currency": "usd", "unit_amount": 2000, "recurring": {"interval": "month"}}
    )


@pytest.fixture
def subscribe(stripe, price):
    """A subscription of a new customer."""

    def make(control=None, outcome=None, **params):
        customer = stripe.customers.create({"email": "someone@example.com"})
        if outcome:
            control.payment(customer.id, outcome)
        wanted = {"customer": customer.id, "items": [{"price": price.id}]} | params
        return stripe.subscriptions.create(wanted)

    return make


class Receiver(ThreadingHTTPServer):
    """Takes webhooks; `answers` are the next statuses, 200 when there are none."""

    daemon_threads = True

    def __init__(self):
        self.got, self.answers = [], []
        super().__init__(("127.0.0.1", 0), ReceiverHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook"

    def wait(self, count, seconds=5):
        until = time.monotonic() + seconds
        while len(self.got) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.got) >= count, f"{len(self.got)} of {count} came"
        return self.got

    def types(self):
        return [json.loads(body)["type"] for _, body in self.got]


class ReceiverHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver(control):
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    control.reset()  # nothing may still be sent to a receiver that is gone
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def endpoint(stripe, receiver):
    return stripe.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})


@pytest.fixture
def events(stripe):
    """The types of the last events, oldest first; with `type`, the events themselves."""

    def read(type=None):
        found = stripe.events.list({"limit": 100}).data[::-1]
        return [event for event in found if event.type == type] if type else [event.type for event in found]

    return read
