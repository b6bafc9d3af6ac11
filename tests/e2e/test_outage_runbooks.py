"""The commands of four runbooks, on the running product with its demo data."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
COUNTS = {"stripe-is-down": 4, "mongodb-or-redis-lost": 4, "job-did-not-run": 4, "events-wait": 5}


@pytest.fixture(scope="module")
def running(start):
    with start(RECONCILE_CONFIRM_SECONDS="1") as it:
        yield it


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", COUNTS)
def test_the_runbooks_commands_work(running, name):
    told = running.told
    given = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "WEB": running.url,
        "BASE": f"{running.url}/api/admin/billing",
        "TOKEN": told["adminToken"],
        "JOB": "missed_events",
        "MONGODB_URI": told["mongodbUri"],
        "REDIS_URL": told["redisUrl"],
        "STRIPE_API_BASE": told["stripeApiBase"],
        "STRIPE_SECRET_KEY": told["stripeSecretKey"],
        "STRIPE_WEBHOOK_SECRETS": told["webhookSecret"],
        "JWT_SECRET_KEY": "not used by these commands, but needed to start",
        "RECONCILE_CONFIRM_SECONDS": "1",
    }
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["When", "Do", "Verify", "If it does not work"]
    scripts = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert len(scripts) == COUNTS[name]
    for script in scripts:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=os.environ | given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)


def test_what_they_name_is_there():
    for path in RUNBOOKS.glob("*.md"):
        for link in re.findall(r"\]\(([\w./-]+\.md)\)", path.read_text()):
            assert (path.parent / link).exists(), (path.name, link)
