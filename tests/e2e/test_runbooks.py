"""Runbooks of an installation's life: their commands, in their order, against the running product."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
SECRET = "whsec_of_the_next_year_0123456789"


@pytest.fixture(scope="module")
def running(start):
    with start(RECONCILE_CONFIRM_SECONDS="1") as it:
        yield it


@pytest.fixture
def carry_out(running, tmp_path):
    """Runs each command of a runbook in one environment; returns what each printed."""

    def run(name, **given):
        told = running.told
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MONGODB_URI": told["mongodbUri"],
            "REDIS_URL": told["redisUrl"],
            "STRIPE_API_BASE": told["stripeApiBase"],
            "STRIPE_SECRET_KEY": told["stripeSecretKey"],
            "STRIPE_WEBHOOK_SECRETS": told["webhookSecret"],
            "JWT_SECRET_KEY": "not used by these commands, but needed to start",
            "RECONCILE_CONFIRM_SECONDS": "1",
        }
        printed = []
        for script in re.findall(r"^ *```sh\n(.*?)```", (RUNBOOKS / name).read_text(), re.DOTALL | re.MULTILINE):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                env=os.environ | environment | given,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, (script, done.stdout, done.stderr)
            printed.append(done.stdout)
        return printed

    return run


def test_rotating_keys(running, carry_out):
    told = running.told
    printed = carry_out(
        "rotate-keys.md",
        NEW=SECRET,
        OLD=told["webhookSecret"],
        NEW_KEY=told["stripeSecretKey"],
        ACTOR="the backend",
    )
    _, secrets, _, next_secret, machine_token, verified = printed
    assert "Webhook secret 1 of 1 verified last" in secrets
    assert len(next_secret.strip()) == 64
    assert machine_token.count(".") == 2
    assert "ERROR" not in verified
    assert len(re.findall(r"^.*evt_\w+.*$", verified, re.MULTILINE)) == 5


@pytest.mark.timeout(420)
def test_going_live(carry_out):
    printed = carry_out("going-live.md")
    assert "customer.subscription.updated" in printed[0]
    assert "ERROR" not in printed[2]
