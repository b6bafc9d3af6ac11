"""The demo's divergences, found by the running product, and the runbook that repairs them."""

import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from billing_service.sandbox import demo

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "divergence.md"
# The organization that pays for Pro and has Free.
FJORD = next(each.id for each in demo.ORGANIZATIONS if each.slug == "fjord-cartography")


@pytest.fixture(scope="module")
def running(start):
    with start(RECONCILE_CONFIRM_SECONDS="1") as it:
        yield it


def shown(running, path):
    answer = requests.get(f"{running.url}/api/admin/billing/{path}", headers=running.headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.timeout(180)
def test_a_run_finds_what_the_demo_let_drift(running):
    asked = running.post("reconcile")
    assert asked.status_code == 202
    deadline = time.monotonic() + 90
    while (run := shown(running, f"reconciliations/{asked.json()['reconciliationId']}"))["state"] == "running":
        assert time.monotonic() < deadline, run
        time.sleep(0.3)
    assert run["state"] == "completed"
    assert run["findings"] == {
        "cancel_intent": 1,
        # Two organizations', and one of a customer that names nobody (its event is a dead letter, too).
        "missing_in_db": 3,
        "missing_in_stripe": 1,
        "org_plan": 1,
        "overridden": 1,
        "plan": 1,
        "plan_unresolved": 1,
        "several_live_subscriptions": 1,
        "status": 4,
    }
    assert [each["code"] for each in run["errorSample"]] == ["missing_unproven"]
    found = {each["kind"]: each for each in shown(running, f"findings?state=open&orgId={FJORD}")["items"]}
    assert (found["missing_in_db"]["severity"], found["missing_in_db"]["moneyAtRisk"][0]["currency"]) == (
        "critical",
        "usd",
    )


@pytest.mark.timeout(420)
def test_the_runbooks_commands_work(running, tmp_path):
    customer = shown(running, f"customer/{FJORD}")
    [finding] = shown(running, "findings?state=open&kind=org_plan")["items"]
    until = (datetime.now(UTC) + timedelta(days=7)).isoformat(timespec="seconds")
    told = running.told
    given = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BASE": f"{running.url}/api/admin/billing",
        "TOKEN": told["adminToken"],
        "ORG": FJORD,
        "FINDING": finding["id"],
        "UNTIL": until,
        "SUBSCRIPTION": customer["live"]["subscriptions"][0]["id"],
        "MONGODB_URI": told["mongodbUri"],
        "REDIS_URL": told["redisUrl"],
        "STRIPE_API_BASE": told["stripeApiBase"],
        "STRIPE_SECRET_KEY": told["stripeSecretKey"],
        "STRIPE_WEBHOOK_SECRETS": told["webhookSecret"],
        "JWT_SECRET_KEY": "not used by these commands, but needed to start",
        "RECONCILE_CONFIRM_SECONDS": "1",
    }
    scripts = re.findall(r"```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL)
    assert len(scripts) == 9
    for script in scripts:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=os.environ | given,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
    assert (tmp_path / "findings.csv").read_text().startswith("id,kind,severity")
    assert shown(running, f"customer/{FJORD}")["verdict"] == "in_sync"
    assert shown(running, f"findings?state=open&orgId={FJORD}")["items"] == []
    assert shown(running, "findings?state=acknowledged")["items"][0]["id"] == finding["id"]
