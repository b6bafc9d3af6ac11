"""A backup is restored, and what happened since is got back from Stripe, by the commands of docs/deployment.md."""

import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_load import proof
from tests.e2e.test_load.installation import SECRET, Installation
from tests.e2e.test_load.load import Load
from tests.e2e.test_load.test_nothing_is_lost import settle, under_load

GUIDE = Path(__file__).parents[3] / "docs" / "deployment.md"
SERVICES = ("web", "worker-1", "worker-2", "scheduler")


def block(name):
    (found,) = re.findall(rf"```sh {name}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return found


def bash(script, environment):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment | {"PATH": path, "RECONCILE_CONFIRM_SECONDS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout


def busy(installation, load):
    with load:
        installation.carry_out([], 4, load.watch)
        load.finish(60)
    settle(installation, 60, every=2)


@pytest.mark.timeout(300)
def test_a_backup_is_restored(tmp_path):
    with Installation(tmp_path, seed=41) as installation:
        load = under_load(installation, organizations=8, rate=40)
        installation.run("jobs", "run", "missed_events")
        busy(installation, load)
        mongod = installation.parts["mongod"]
        given = {
            "NODE": f"mongodb://127.0.0.1:{installation.mongod.port}",
            "DBPATH": str(tmp_path / "mongodb"),
            "BACKUP": str(tmp_path / "backup"),
        }
        bash(block("backup"), installation.environment() | given)
        known = set(installation.database.webhook_events.distinct("event_id"))
        # What the backup does not have: customers go on, and all of it is answered 2xx.
        later = Load(load.urls, SECRET, load.base, load.customers, load.rate, random.Random(1))
        later.newest = load.newest
        busy(installation, later)
        lost = set(later.accepted) - known
        assert len(lost) > 20
        for name in SERVICES:
            installation.parts[name].kill()
        mongod.kill()
        shutil.rmtree(tmp_path / "mongodb")
        (tmp_path / "backup").rename(tmp_path / "mongodb")
        mongod.start()
        mongod.child.wait_ready()
        assert set(installation.database.webhook_events.distinct("event_id")) == known
        redis = installation.kill("redis:emptied")
        redis.start()
        redis.child.wait_ready()
        for name in SERVICES:
            installation.parts[name].start()
        installation.wait_up()
        first, second = block("restore").splitlines()
        bash(first, installation.environment())
        # Stripe's list leaves out what nobody handles.
        handled = {each["event_id"] for each in installation.database.webhook_events.find({"source": "missed"})}
        assert len(handled & lost) > 10
        settle(installation, 90, every=2)
        bash(second.replace(" || test $? -eq 1", ""), installation.environment())
        assert installation.database.findings.count_documents({}) == 0
        proof.assert_none_failed(installation.database)
        proof.assert_rows_are_as_at_stripe(installation.database, installation.stripe.url, load.customers.organizations)
