"""docs/runbooks/import.md: its commands, in its order, on an account where not all can be mapped."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from billing_service.documents import AdminAction, Subscription
from billing_service.errors import KINDS
from billing_service.importing import REASONS

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbooks" / "import.md"


def commands():
    """Each command of the runbook, in its order."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", RUNBOOK.read_text(), flags=re.S | re.M)
    return [line.strip() for block in blocks for line in block.splitlines()]


@pytest.mark.timeout(600)
def test_its_commands_do_what_it_says(
    app, environment, organization, customer, subscribe, billed, sandbox, row, tmp_path
):
    org_id, nobodys = organization(), subscribe(customer(), "pro")
    subscribe(customer(org_id), "pro")
    late = billed("pro")
    given = {"ACTOR": "ada", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    given["RECONCILE_CONFIRM_SECONDS"] = "0"
    printed = {}
    for command in commands():
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            env=os.environ | environment | given,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode in (0, 1), (command, done.stdout, done.stderr)
        printed.setdefault(command, done.stdout)
        if command == "billing-service import" and len(printed) == 1:
            assert row(org_id) is None
        if command == "billing-service reconcile":
            sandbox.patch(late.subscription, {"status": "unpaid"})
    assert "1 organizations would get a row" in printed["billing-service import"]
    assert nobodys in printed["billing-service import items --state unmapped"]
    assert json.loads(printed["billing-service import items --reason organization_missing --format json"])["reason"]
    assert len(list(csv.DictReader(io.StringIO((tmp_path / "import.csv").read_text())))) == 3
    assert (row(org_id).plan, AdminAction.objects(organization=org_id).first().actor) == ("pro", "ada")
    assert "missing_in_db: 1" in printed["billing-service reconcile"]
    assert len(Subscription.objects) == 2


def test_it_names_every_reason_and_no_other():
    told = set(re.findall(r"^\| `([a-z_]+)` \|", RUNBOOK.read_text(), flags=re.M))
    assert told == set(REASONS)
    mentioned = set(re.findall(r"^- `([a-z_]+)`:", RUNBOOK.read_text(), flags=re.M))
    assert mentioned <= {kind.code for kind in KINDS} | {"failed"}
