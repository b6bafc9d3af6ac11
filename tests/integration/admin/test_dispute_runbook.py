"""docs/runbooks/dispute.md: its commands, in its order, against a web process as operators run it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from billing_service import extras
from billing_service.errors import KINDS
from billing_service.sandbox.servers import free_port

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbooks" / "dispute.md"
COMMAND = [sys.executable, "-m", "billing_service.cli", "web", "--port"]


@pytest.fixture
def address(app, environment, tmp_path):
    """The address of a web process."""
    port = free_port()
    path = tmp_path / "log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, str(port)], env=os.environ | environment | {"WEB_WORKERS": "1"}, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, path.read_text()
            assert time.monotonic() < deadline, path.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/api/admin/billing"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def answers_of(script, given):
    """Run the commands in one shell; the JSON documents that they print."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    found, at, text = [], 0, done.stdout.strip()
    while at < len(text):
        document, at = json.JSONDecoder().raw_decode(text, at)
        found.append(document)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


def test_its_commands_work(address, admin, billed, stripe, sandbox, runtime):
    it = billed("pro")
    charge = stripe.charges.list({"customer": it.customer}).data[0]
    now = runtime.clock()
    pack = {"organization": it.org_id, "at": now, "charge": charge.id, "payment_intent": charge.payment_intent}
    extras.book(
        pack | {"kind": "topup", "units": 100_000, "ref": "topup:cs_1", "expires_at": now + timedelta(days=300)}
    )
    dispute = sandbox.dispute(charge.id)["id"]
    taken = {"kind": "debit", "units": -100_000, "ref": f"dispute:{dispute}", "amount": 4_900, "currency": "usd"}
    extras.book(pack | taken)
    sandbox.close_dispute(dispute, "won")
    scripts = re.findall(r"^ *```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL | re.MULTILINE)
    assert len(scripts) == 5
    given = {
        "BASE": address,
        "TOKEN": admin["Authorization"].split()[1],
        "ORG": str(it.org_id),
        "CHARGE": charge.id,
        "AMOUNT": "4900",
    }
    foretold, booked, again, audit = answers_of("\n".join(scripts), given)
    assert (foretold["dryRun"], foretold["units"], foretold["updated"]) == (True, 100_000, {"units": 100_000})
    assert (booked["applied"], booked["units"], booked["disputeId"]) == (True, 100_000, dispute)
    assert (again["applied"], again["units"]) == (False, 100_000)
    assert [each["note"] for each in audit["items"]] == [None, None, "won", "won"]
    assert extras.balance_of(it.org_id) == 100_000


def test_its_codes_are_codes():
    codes = {kind.code for kind in KINDS}
    named = re.findall(r"^- `([a-z_]+)`[:,]", RUNBOOK.read_text(), re.MULTILINE)
    assert len(named) > 5
    assert set(named) <= codes
