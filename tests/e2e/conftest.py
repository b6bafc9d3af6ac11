"""The whole product running, as `make run` starts it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from billing_service.sandbox import servers

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items):
    # Browsers compute, the others wait for leases and sweeps: what waits begins first.
    items.sort(key=lambda item: "console" in item.path.parts)


class Running:
    """`billing-service dev` with demo data, until the block ends."""

    def __init__(self, folder, port, *arguments, **variables):
        self.variables = variables
        self.ready = folder / "ready.json"
        self.output = folder / "output.txt"
        self.command = [sys.executable, "-m", "billing_service.cli", "dev", "--port", str(port)]
        self.command += ["--data-dir", str(folder / "data"), "--ready-file", str(self.ready), *arguments]

    def __enter__(self):
        started = time.monotonic()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT, env=self.environment()
            )
        while not self.ready.exists():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() - started < 90, self.output.read_text()
            time.sleep(0.05)
        self.told = told = json.loads(self.ready.read_text())
        self.url, self.headers = told["url"], {"Authorization": f"Bearer {told['adminToken']}"}
        return self

    def __exit__(self, *error):
        self.process.terminate()
        assert self.process.wait(30) == 0

    def environment(self):
        given = ("MONGODB_URI", "REDIS_URL", "STRIPE_SECRET_KEY", "STRIPE_API_BASE")
        return {name: value for name, value in os.environ.items() if name not in given} | self.variables

    def customer(self, org_id):
        answer = requests.get(f"{self.url}/api/admin/billing/customer/{org_id}", headers=self.headers, timeout=30)
        assert answer.status_code == 200
        return answer.json()

    def sync(self, org_id, query=""):
        return self.post(f"sync/{org_id}{query}")

    def post(self, path, body=None, **headers):
        url = f"{self.url}/api/admin/billing/{path}"
        return requests.post(url, headers=self.headers | headers, json=body or {}, timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("running")


@pytest.fixture(scope="module")
def port():
    return servers.free_port()


@pytest.fixture(scope="module")
def start(folder, port):
    """Starts the product in this module's folder; use it in a `with` block."""
    return lambda *arguments, **variables: Running(folder, port, *arguments, **variables)
