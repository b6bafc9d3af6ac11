"""A stranger's first ten minutes: one command, then requests with the printed token, then the second start."""

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


class Running:
    """`billing-service dev` with demo data, until the block ends."""

    def __init__(self, folder, port):
        self.ready = folder / "ready.json"
        self.output = folder / "output.txt"
        self.command = [sys.executable, "-m", "billing_service.cli", "dev", "--port", str(port)]
        self.command += ["--data-dir", str(folder / "data"), "--ready-file", str(self.ready)]

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
        told = json.loads(self.ready.read_text())
        self.url, self.headers = told["url"], {"Authorization": f"Bearer {told['adminToken']}"}
        return self

    def __exit__(self, *error):
        self.process.terminate()
        assert self.process.wait(30) == 0

    @staticmethod
    def environment():
        given = ("MONGODB_URI", "REDIS_URL", "STRIPE_SECRET_KEY", "STRIPE_API_BASE")
        return {name: value for name, value in os.environ.items() if name not in given}

    def customer(self, org_id):
        answer = requests.get(f"{self.url}/api/admin/billing/customer/{org_id}", headers=self.headers, timeout=30)
        assert answer.status_code == 200
        return answer.json()

    def sync(self, org_id, query=""):
        url = f"{self.url}/api/admin/billing/sync/{org_id}{query}"
        return requests.post(url, headers=self.headers, timeout=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("story")


@pytest.fixture(scope="module")
def port():
    return servers.free_port()


def test_from_nothing_to_a_repaired_customer(folder, port):
    from billing_service.sandbox.demo import ORGANIZATIONS
    from billing_service.subscriptions.verdict import VERDICTS

    with Running(folder, port) as it:
        verdicts = {each.id: it.customer(each.id)["verdict"] for each in ORGANIZATIONS}
        assert verdicts == {each.id: each.verdict for each in ORGANIZATIONS}
        assert set(verdicts.values()) == set(VERDICTS)
        org_id = "650000000000000000000006"
        assert {each["field"] for each in it.customer(org_id)["differences"]} >= {"status", "plan"}
        assert it.sync(org_id, "?dryRun=true").json()["dryRun"] is True
        assert it.customer(org_id)["verdict"] == "diverged"
        assert it.sync(org_id).status_code == 200
        assert it.customer(org_id)["verdict"] == "in_sync"
        assert "Console" in it.output.read_text()


def test_the_second_start_has_what_was_done(folder, port):
    with Running(folder, port) as it:
        assert it.customer("650000000000000000000006")["verdict"] == "in_sync"


def test_the_readme_names_what_there_is():
    readme = (ROOT / "README.md").read_text()
    from billing_service.sandbox.demo import ORGANIZATIONS

    assert "make run" in readme
    assert "make test" in readme
    assert "650000000000000000000006" in readme
    assert next(each.verdict for each in ORGANIZATIONS if each.id == "650000000000000000000006") == "diverged"
    for image in (line.split("](")[1].split(")")[0] for line in readme.splitlines() if line.startswith("![")):
        assert (ROOT / image).is_file()
