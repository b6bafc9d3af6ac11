"""Worker and scheduler as processes of their own, and a way to wait for what they do."""

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from billing_service.jobs import wakeups

COMMAND = [sys.executable, "-c", "from billing_service.cli import main; main()"]


@pytest.fixture(autouse=True)
def redis_may_be_asked():
    """What an earlier test taught this process about Redis is over."""
    wakeups.silence.end()


@pytest.fixture
def eventually():
    """Waits until something holds; fails with what was seen last."""

    def wait(look, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            assert time.monotonic() < deadline, f"still {seen!r} after {seconds} s"
            time.sleep(0.05)
        return seen

    return wait


@pytest.fixture
def process(app, environment, tmp_path):
    """Starts `billing-service worker`, `scheduler` or `web`; its log is in `.log`."""
    started = []

    def start(command, *arguments, **changes):
        path = tmp_path / f"{command}-{len(started)}.log"
        with path.open("w") as log:
            child = subprocess.Popen(
                [*COMMAND, command, *arguments],
                env={**os.environ, **environment, **changes},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        child.log = path
        started.append(child)
        return child

    yield start
    for child in started:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()


@pytest.fixture
def at(app):
    """Moves the clock of this process."""
    billing = app.extensions["billing"]

    def move(moment):
        app.extensions["billing"] = replace(billing, clock=lambda: moment)

    yield move
    app.extensions["billing"] = billing
