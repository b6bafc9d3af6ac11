"""A whole account, killed (-9) twice on the way: no row twice, and who cannot be mapped is listed."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_connection

from billing_service.documents import (
    AdminAction,
    ImportItem,
    ImportRun,
    Organization,
    OutboxSignal,
    Subscription,
    database_now,
)

LONG = os.environ.get("BILLING_TESTS") == "long"
COUNT = 100_000 if LONG else 2_000
# Of them: without a name, of an organization that nobody told us of, one that is billed twice.
NAMELESS, UNKNOWN, TWICE = COUNT // 100, COUNT // 200, COUNT // 1000
MEMORY_MB = 200
COMMAND = [sys.executable, "-c", "from billing_service.cli import main; main()", "import", "--apply", "--json"]


@pytest.fixture
def account(app, sandbox):
    """Subscriptions at Stripe and the organizations that are known here."""
    price = ["price_pro_monthly"]
    sandbox.seed(COUNT - NAMELESS - UNKNOWN - TWICE, price, batch=1)
    sandbox.seed(NAMELESS, price, batch=2, metadata_key="other")
    sandbox.seed(UNKNOWN, price, batch=3, organization_base="aaaa00000000000000000000")
    # The same organizations as the first ones, with customers of their own.
    sandbox.seed(TWICE, price, batch=4)
    first, count = 0x5EED00000000000000000000, COUNT - NAMELESS - UNKNOWN - TWICE
    for begin in range(0, count, 10_000):
        ids = [ObjectId(f"{first + number:024x}") for number in range(begin, min(count, begin + 10_000))]
        Organization._get_collection().insert_many([{"_id": each, "plan": "free"} for each in ids])
    sandbox.clear_requests()
    return count


class Child:
    """The command as a process of its own; `peak` is its largest resident memory in MB."""

    def __init__(self, environment, log):
        self.log = log
        self.out = log.with_suffix(".out")
        with log.open("a") as errors, self.out.open("w") as out:
            self.process = subprocess.Popen(COMMAND, env={**os.environ, **environment}, stdout=out, stderr=errors)
        self.peak = 0.0

    def wait_until(self, holds, seconds):
        deadline = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, ImportRun.objects.get().describe()
            self.measure()
            time.sleep(0.05)

    def measure(self):
        try:
            with open(f"/proc/{self.process.pid}/status") as status:
                told = dict(line.split(":", 1) for line in status)
            self.peak = max(self.peak, int(told["VmHWM"].split()[0]) / 1024)
        except (FileNotFoundError, KeyError, ProcessLookupError):
            pass

    def end(self, seconds):
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, ImportRun.objects.get().describe()
            self.measure()
            time.sleep(0.05)
        return self.process.returncode

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        # What a transaction of the dead has locked is let go of after a minute, as its lease is.
        get_connection().admin.command("killAllSessions", [])
        ImportRun.objects(active=True).update(set__lease_until=database_now() - timedelta(seconds=1))


@pytest.mark.timeout(3600 if LONG else 300)
def test_killed_twice_on_the_way(account, environment, sandbox, tmp_path, capsys):
    seconds, began = 3000 if LONG else 200, time.monotonic()
    peaks = []
    for share in ("listed", "settled"):
        child = Child(environment, tmp_path / "import.log")
        child.wait_until(lambda share=share: (run := ImportRun.objects.first()) and run[share] > COUNT * 0.4, seconds)
        child.kill()
        peaks.append(child.peak)
        run = ImportRun.objects.get()
        assert run.active, share
        assert 0 < run[share] < COUNT - NAMELESS - UNKNOWN
    assert 0 < len(Subscription.objects.only("id").limit(10)) <= run.organizations
    child = Child(environment, tmp_path / "import.log")
    assert child.end(seconds) == 1
    took = time.monotonic() - began
    peaks.append(child.peak)
    told = json.loads(child.out.read_text())
    assert_each_once(account, told)
    requests = sandbox.requests(path="/v1/", limit=0)["count"]
    with capsys.disabled():
        sys.stdout.write(f"\n{COUNT:,} in {took:.0f} s, {requests} requests, peak {max(peaks):.0f} MB\n")
    # A page may be read again for each of the readers that was killed; two looks for each that is billed twice.
    assert requests <= 1.05 * COUNT / 100 + 60 + 2 * 4 * TWICE
    assert max(peaks) < MEMORY_MB


def assert_each_once(account, told):
    made = account - TWICE
    assert (told["state"], told["listed"], told["organizations"], told["plansChanged"]) == (
        "completed",
        COUNT,
        made,
        made,
    )
    assert told["states"] == {"imported": made, "unmapped": NAMELESS + UNKNOWN + 2 * TWICE}
    assert told["reasons"] == {
        "organization_missing": NAMELESS,
        "organization_unknown": UNKNOWN,
        **({"several_live_subscriptions": 2 * TWICE} if TWICE else {}),
    }
    rows = Subscription._get_collection()
    assert rows.count_documents({}) == rows.count_documents({"synced_from": "import", "version": 1}) == made
    assert len(rows.distinct("stripe_subscription_id", {"_id": {"$exists": True}})) == made
    assert Organization._get_collection().count_documents({"plan": "pro"}) == made
    assert AdminAction._get_collection().count_documents({"organization": {"$ne": None}}) == made
    assert ImportItem._get_collection().count_documents({}) == COUNT
    assert len(OutboxSignal.objects) == 0
