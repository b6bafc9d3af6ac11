"""`billing-service dev` as a stranger runs it, and every process that comes of it."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from billing_service.sandbox import servers

GIVEN = (
    "MONGODB_URI",
    "REDIS_URL",
    "STRIPE_SECRET_KEY",
    "STRIPE_API_BASE",
    "STRIPE_WEBHOOK_SECRETS",
    "BILLING_PLANS",
)


# What a shell in a new terminal window does before it runs a command.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Dev:
    """One run; its processes, grandchildren included, are known by a mark in their environment.

    Redis writes its title over its environment; it is known by the folder it works in.
    """

    # Web and its two workers, worker, scheduler, mongod, Redis, sandbox, supervisor, the process in front.
    FEWEST_PROCESSES = 10

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        port: int | None = None,
        terminal: bool = False,
    ):
        name, value = "DEV_TEST_MARK", uuid.uuid4().hex
        self.mark = f"{name}={value}"
        self.data_dir = folder / "data"
        self.ready_file = folder / f"{value}.json"
        self.output_file = folder / f"{value}.txt"
        self.port = port or servers.free_port()
        self.terminal, stdin = pty.openpty() if terminal else (None, None)
        inherited = {name: value for name, value in os.environ.items() if name not in GIVEN}
        command = [sys.executable, "-m", "billing_service.cli", "dev", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), "--ready-file", str(self.ready_file), *arguments]
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", IN_A_TERMINAL, *command] if terminal else command,
                env=inherited | (env or {}) | {name: value},
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if stdin is not None:
            os.close(stdin)

    def close_terminal(self) -> None:
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None

    @staticmethod
    def wait_for(question: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true answer; fails in words when there is none in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = question()
            if answer:
                return answer
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {what}")

    @property
    def output(self) -> str:
        return self.output_file.read_text()

    @property
    def ready(self) -> dict:
        return json.loads(self.ready_file.read_text())

    @property
    def pids(self) -> dict[str, int]:
        return {name: pid for name, pid in self.ready["pids"].items() if pid}

    def wait_ready(self, seconds: float = 60, fewest: int = FEWEST_PROCESSES) -> "Dev":
        """Return when the ready file is there and gunicorn, too, has forked all its workers."""
        self.wait_for(lambda: self.ready_file.exists() or self.process.poll() is not None, seconds, "a ready file")
        assert self.process.poll() is None, self.output
        self.wait_for(lambda: len(self.processes()) >= fewest, 10, f"{fewest} processes")
        return self

    def exit_code(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)

    def processes(self) -> set[int]:
        """The pids of everything that this run started and that has not ended."""
        return {pid for pid in self.all_processes() if self._is_ours(Path(f"/proc/{pid}"))}

    @staticmethod
    def all_processes() -> set[int]:
        return {int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()}

    def _is_ours(self, process: Path) -> bool:
        try:
            marked = self.mark.encode() in (process / "environ").read_bytes().split(b"\0")
            return marked or (process / "cwd").readlink().is_relative_to(self.data_dir)
        except OSError:
            return False

    def assert_none_left(self, seconds: float = 5) -> None:
        self.wait_for(lambda: not self.processes(), seconds, "the end of every process")

    def supervisor(self) -> int:
        """The pid of the process behind the one that was started: the parent of its children."""
        return int(Path(f"/proc/{self.pids['web']}/stat").read_text().rpartition(")")[2].split()[1])

    def wait_new_pid(self, name: str, old: int, seconds: float = 30) -> int:
        """The pid that the ready file names for a part once it is back."""
        changed = self.wait_for(lambda: self.pids[name] != old, seconds, f"a new {name} in the ready file")
        assert changed
        return self.pids[name]

    def end(self) -> None:
        """For the end of a test, whatever it left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.close_terminal()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """One that the tests of a file share; they leave it running and whole."""
    dev = Dev(tmp_path_factory.mktemp("dev"), "--no-demo")
    try:
        yield dev.wait_ready()
    finally:
        dev.end()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    """Start one of this test's own, in this test's folder; may be called again for a second start."""
    started: list[Dev] = []

    def start_one(*arguments: str, **options: Any) -> Dev:
        started.append(Dev(tmp_path, "--no-demo", *arguments, **options))
        return started[-1]

    yield start_one
    for each in started:
        each.end()
