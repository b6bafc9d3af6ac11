"""docs/runbooks/dead-letters.md: its commands, in its order, beside a worker process."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from billing_service.documents import ReplayBatch, WebhookEvent

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbooks" / "dead-letters.md"


@pytest.fixture
def worker(app, environment, tmp_path):
    path = tmp_path / "worker.log"
    with path.open("wb") as log:
        command = [sys.executable, "-m", "billing_service.cli", "worker"]
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while "worker_started" not in path.read_text():
        assert process.poll() is None, path.read_text()
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.1)
    yield
    process.terminate()
    process.wait(20)


@pytest.fixture
def shell(environment):
    """Runs a script in which `billing-service` is the command of this environment."""

    def run(script, given):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=os.environ | environment | given | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def scripts():
    return re.findall(r"^ *```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL | re.MULTILINE)


def test_its_commands_work(worker, shell, lost, dead):
    made = lost(4)
    sent_to_the_wrong_place = dead(reason="wrong_mode", fingerprint=None).event_id
    given = {
        "EVENT_ID": made[0][1],
        "OTHER_EVENT_ID": sent_to_the_wrong_place,
        "TYPE": "customer.subscription.created",
        "FINGERPRINT": "ValueError: no plan for #",
        "COUNT": "3",
    }
    *steps, verify, cancel = scripts()
    assert len(steps) == 5
    for script in steps:
        done = shell(script, given)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
    given["BATCH_ID"] = str(ReplayBatch.objects.get().pk)
    done = shell(verify, given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"batch {given['BATCH_ID']} succeeded: 3 of 3 (3 succeeded)",
        "0 of 0 dead letters",
    ]
    assert [it.plan for it, _ in made] == ["pro"] * 4
    assert WebhookEvent.objects(event_id=sent_to_the_wrong_place).first().state == "closed"
    # It has ended, so there is nothing to cancel.
    done = shell(cancel, given)
    assert (done.returncode, done.stderr.split(":")[0]) == (1, "batch_ended")


def test_each_reason_of_a_dead_letter_is_explained():
    reasons = {
        "handler_failed",
        "organization_unknown",
        "organization_conflict",
        "customer_shared",
        "wrong_mode",
        "wrong_account",
        "extras_unsupported",
        "topup_missing",
        "pack_unknown",
        "pack_mismatch",
        "currency_mismatch",
        "outage",
        "lease_losses",
    }
    rows = re.findall(r"^ *\| (`[a-z_`, ]+`) \|", RUNBOOK.read_text(), re.MULTILINE)
    assert set(re.findall(r"[a-z_]{3,}", " ".join(rows))) == reasons
