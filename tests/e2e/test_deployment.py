"""docs/deployment.md as a platform engineer follows it, with the embedded servers in the place of the real ones."""

import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import stripe as sdk

from billing_service import gunicorn_hooks
from billing_service.cli import cli
from billing_service.plans import Plans
from billing_service.sandbox import servers
from billing_service.settings import SAMPLE_PLANS
from billing_service.webhooks import HANDLERS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "deployment.md").read_text()
BLOCKS = re.findall(r"```sh( background)?\n(.*?)```", GUIDE, re.DOTALL)
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.fixture
def stores(tmp_path):
    with (
        servers.mongod(tmp_path) as mongod,
        servers.redis(tmp_path) as redis,
        servers.stripe_sandbox(tmp_path) as stripe,
    ):
        yield {
            "BILLING_PLANS": str(own_plans(tmp_path)),
            "PUBLIC_URL": "https://billing.example.com",
            "MONGODB_URI": mongod.url,
            "REDIS_URL": redis.url,
            "STRIPE_SECRET_KEY": "sk_test_sandbox",
            "STRIPE_API_BASE": stripe.url,
            "STRIPE_WEBHOOK_SECRETS": at_stripe(stripe.url),
            "JWT_SECRET_KEY": "0123456789abcdef0123456789abcdef0123456789abcdef",
        }


def own_plans(folder):
    """The sample without its packs: the seed makes recurring prices only."""
    path = folder / "plans.toml"
    path.write_text(SAMPLE_PLANS.read_text().partition("[[packs]]")[0])
    return path


def at_stripe(base):
    """What somebody has made at Stripe: prices and a webhook endpoint; returns its signing secret."""
    prices = [price for plan in Plans.load(SAMPLE_PLANS).plans for price in plan.prices]
    requests.post(f"{base}/_control/seed", json={"count": 1, "prices": prices}, timeout=10).raise_for_status()
    stripe = sdk.StripeClient("sk_test_sandbox", base_addresses={"api": base}).v1
    wanted = {"url": "https://billing.example.com/api/billing/webhook", "enabled_events": sorted(HANDLERS)}
    return stripe.webhook_endpoints.create(wanted).secret


@pytest.mark.timeout(240)
def test_the_guide_leads_to_a_start(stores, tmp_path):
    """Every block as written; only the two ports are others, because somebody may use them on this machine."""
    web, metrics = servers.free_port(), servers.free_port()
    stores["METRICS_LISTEN"] = f"127.0.0.1:{metrics}"
    (tmp_path / "billing.env").write_text("".join(f"{name}={value}\n" for name, value in stores.items()))
    shutil.copy(ROOT / "Procfile", tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    with (tmp_path / "processes.log").open("w+b") as log:
        started, out = [], []
        try:
            for background, block in BLOCKS:
                script = block.replace("8000", str(web)).replace("9101", str(metrics))
                if background:
                    started.append(begin(script, tmp_path, environment, log))
                    await_start(f"http://127.0.0.1:{web}/readyz", tmp_path / "processes.log")
                else:
                    out.append(follow(script, tmp_path, environment))
            assert len(BLOCKS) == 7
            assert any('"workers":2' in each.replace(" ", "") for each in out), out
            assert requests.get(f"http://127.0.0.1:{web}/readyz", timeout=5).json()["status"] == "ok"
        finally:
            for each in started:
                each.send_signal(signal.SIGTERM)
                each.wait(30)
    told = (tmp_path / "processes.log").read_text()
    assert (told.count("worker_started"), told.count("scheduler_started")) == (2, 1)
    assert (told.count("worker_stopped"), told.count("scheduler_stopped")) == (2, 1)


def begin(script, folder, environment, log):
    return subprocess.Popen(["bash", "-c", f"exec {script}"], cwd=folder, env=environment, stdout=log, stderr=log)


def follow(script, folder, environment):
    """What a block prints, with the variables as the guide says."""
    lines = f"set -euo pipefail; set -a; . ./billing.env; set +a\n{script}"
    done = subprocess.run(
        ["bash", "-c", lines], cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, script + done.stdout + done.stderr
    return done.stdout


def await_start(url, log):
    deadline = time.monotonic() + 90
    while not (servers.answers_http(url) and log.read_text().count("worker_started") == 2):
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)


def test_the_blocks_that_no_test_runs_are_few():
    """Installing takes a network and minutes; the others are no commands."""
    kinds = re.findall(r"```(\w[\w ]*)\n", GUIDE)
    named = ["console", "ini", "yaml", "sh background", "sh backup", "sh restore"]
    assert sorted(kinds) == sorted([*named, *["sh"] * (len(BLOCKS) - 1)])


def test_the_container_file_passes_its_linter():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_container_file_copies_what_is_there():
    text = (ROOT / "Dockerfile").read_text()
    copied = [
        source for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for source in line.split()[:-1]
    ]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in kept, source
    locked = (ROOT / "requirements" / "run.txt").read_text()
    removed = re.search(r"uninstall --yes (.*)", text).group(1).split()
    assert all(re.search(rf"^{name}==", locked, re.MULTILINE) for name in removed)


def test_the_procfile_and_the_units_start_commands_that_there_are():
    lines = [line.partition(": ")[2] for line in (ROOT / "Procfile").read_text().splitlines()]
    for unit in UNITS:
        parsed = configparser.ConfigParser(strict=False, interpolation=None)
        parsed.optionxform = str
        parsed.read(unit)
        lines.append(parsed["Service"]["ExecStart"])
        assert parsed["Service"]["Restart"] == "always"
        assert parsed["Install"]["WantedBy"]
        if "web" in unit.name:
            assert int(parsed["Service"]["TimeoutStopSec"]) > gunicorn_hooks.graceful_timeout
    commands = {re.search(r"billing-service (\S+)", line).group(1) for line in lines}
    assert commands == {"web", "worker", "scheduler"} <= set(cli.commands)
    assert len(lines) == 6


def test_the_socket_is_where_the_web_process_and_the_proxy_look_for_it():
    held = re.search(
        r"^ListenStream=(\S+):(\d+)$", (ROOT / "deploy/systemd/billing-web.socket").read_text(), re.MULTILINE
    )
    unit = (ROOT / "deploy/systemd/billing-web.service").read_text()
    assert f"web --host {held.group(1)} --port {held.group(2)}\n" in unit
    assert "Requires=billing-web.socket" in unit
    assert f"server {held.group(1)}:{held.group(2)} " in (ROOT / "deploy/nginx.conf").read_text()


def test_the_proxy_fits_the_service():
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    seconds = int(re.search(r"proxy_read_timeout (\d+)s", text).group(1))
    assert seconds > gunicorn_hooks.timeout
    assert "client_max_body_size 1m;" in text
    assert "X-Forwarded-For $proxy_add_x_forwarded_for" in text
