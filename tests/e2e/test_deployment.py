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

from billing_service import gunicorn_hooks
from billing_service.cli import cli
from billing_service.sandbox import servers

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
            "MONGODB_URI": mongod.url,
            "REDIS_URL": redis.url,
            "STRIPE_SECRET_KEY": "sk_test_sandbox",
            "STRIPE_API_BASE": stripe.url,
            "STRIPE_WEBHOOK_SECRETS": "whsec_of_the_deployment_01234",
            "JWT_SECRET_KEY": "0123456789abcdef0123456789abcdef0123456789abcdef",
        }


@pytest.mark.timeout(240)
def test_the_guide_leads_to_a_start(stores, tmp_path):
    """Every block as written; only the two ports are others, because somebody may use them on this machine."""
    web, metrics = servers.free_port(), servers.free_port()
    stores["METRICS_LISTEN"] = f"127.0.0.1:{metrics}"
    (tmp_path / "billing.env").write_text("".join(f"{name}={value}\n" for name, value in stores.items()))
    shutil.copy(ROOT / "Procfile", tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    begin = "set -euo pipefail; set -a; . ./billing.env; set +a\n"
    started, out = [], []
    try:
        for background, block in BLOCKS:
            script = block.replace("8000", str(web)).replace("9101", str(metrics))
            if background:
                log = (tmp_path / "processes.log").open("wb")
                started.append(
                    subprocess.Popen(
                        ["bash", "-c", f"exec {script}"], cwd=tmp_path, env=environment, stdout=log, stderr=log
                    )
                )
                await_start(f"http://127.0.0.1:{web}/readyz", tmp_path / "processes.log")
                continue
            done = subprocess.run(
                ["bash", "-c", begin + script],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=90,
            )
            assert done.returncode == 0, (script, done.stdout, done.stderr)
            out.append(done.stdout)
        assert len(BLOCKS) == 7
        assert any('"workers":2' in each.replace(" ", "") for each in out), out
        answer = requests.get(f"http://127.0.0.1:{web}/readyz", timeout=5)
        assert answer.json()["status"] == "ok"
        log = (tmp_path / "processes.log").read_text()
        assert log.count("worker_started") == 2
        assert log.count("scheduler_started") == 1
    finally:
        for each in started:
            each.send_signal(signal.SIGTERM)
            assert each.wait(30) is not None


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


def test_the_proxy_fits_the_service():
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    seconds = int(re.search(r"proxy_read_timeout (\d+)s", text).group(1))
    assert seconds > gunicorn_hooks.timeout
    assert "client_max_body_size 1m;" in text
    assert "X-Forwarded-For $proxy_add_x_forwarded_for" in text
