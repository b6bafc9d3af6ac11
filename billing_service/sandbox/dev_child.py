"""One child process: started so that it cannot outlive us, its log, its death in words, its stop.

What to run, and when to run it again, is decided elsewhere (servers.py, supervisor.py).
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LAUNCH = Path(__file__).with_name("dev_launch.py")
LOG_BYTES = 10_000_000
LOGS_KEPT = 3
FULL_DISK_BYTES = 1_000_000
POLL_SECONDS = 0.03

# What a dead server's own words mean for the person who started it; the first that matches is said.
MEANINGS = [
    (r"loading shared libraries: (libcurl\S*?):", r"\1 is missing: install libcurl4, or set MONGODB_URI"),
    (
        r"loading shared libraries: (lib(?:ssl|crypto)\S*?):",
        r"\1 is missing: install OpenSSL 3, or set MONGODB_URI",
    ),
    (
        r"loading shared libraries: (\S+?):",
        r"the library \1 is missing: install it, or name a server of your own",
    ),
    (r"(?i)no space left on device", "the disk is full"),
    (r"(?i)address already in use", "its port is taken by another program"),
    (r"DBPathInUse|Unable to lock the lock file", "another mongod uses its data folder"),
    (
        r"Illegal instruction",
        "this processor cannot run it: set MONGODB_URI or REDIS_URL to a server of your own",
    ),
]


class CannotStart(Exception):
    """What the person at the terminal must know or change, in one sentence; `log_tail` is the evidence."""

    def __init__(self, sentence: str, log_tail: str = ""):
        super().__init__(sentence)
        self.log_tail = log_tail


@dataclass(eq=False)
class Child:
    """A program to keep running; without `env` it has ours.

    `is_ready` must answer within about a second and may be asked again and again.
    """

    name: str
    argv: list[str]
    log: Path
    env: Mapping[str, str] | None = None
    is_ready: Callable[[], bool] = lambda: True
    ready_seconds: float = 60.0
    grace_seconds: float = 5.0
    process: subprocess.Popen | None = field(default=None, init=False)
    log_offset: int = field(default=0, init=False)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it in a session of its own.

        Call this from the main thread: the kernel ends the child when the *thread* that started it ends.
        """
        argv = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), *self.argv]
        with self.log.open("ab") as log:
            self.log_offset = log.tell()
            self.process = subprocess.Popen(
                argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def check_ready(self, deadline: float) -> bool:
        """Whether it answers; raises CannotStart when it has died, or is silent at the (monotonic) deadline."""
        if not self.is_running:
            raise CannotStart(f"{self.name} {self.death()}.", self.log_tail())
        if self.is_ready():
            return True
        if time.monotonic() > deadline:
            sentence = f"{self.name} did not answer within {self.ready_seconds:.0f} seconds."
            raise CannotStart(sentence, self.log_tail())
        return False

    def wait_ready(self) -> None:
        """Return when it answers; raises CannotStart as `check_ready` does."""
        deadline = time.monotonic() + self.ready_seconds
        while not self.check_ready(deadline):
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """SIGKILL, waited for."""
        self.stop(grace_seconds=0)

    def stop(self, grace_seconds: float | None = None) -> None:
        """SIGTERM, the grace, SIGKILL. What it leaves behind itself is the supervisor's to sweep."""
        if self.process is None:
            return
        deadline = time.monotonic() + (self.grace_seconds if grace_seconds is None else grace_seconds)
        if self.is_running and time.monotonic() < deadline:
            self.process.terminate()
        while self.is_running and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if self.is_running:
            self.process.kill()
        self.process.wait()

    def death(self) -> str:
        """How it ended, in words: "ended with exit code 1", with the reason if its log gives one we know."""
        assert self.process is not None
        code = self.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        # It could not write down the reason itself.
        if shutil.disk_usage(self.log.parent).free < FULL_DISK_BYTES:
            return f"{how}: the disk is full"
        tail = self.log_tail()
        for pattern, meaning in MEANINGS:
            found = re.search(pattern, tail)
            if found:
                return f"{how}: {found.expand(meaning)}"
        return how

    def has_logged(self, text: str) -> bool:
        """Whether it wrote this since its last start."""
        with self.log.open("rb") as log:
            log.seek(self.log_offset)
            return text.encode() in log.read()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log, long ones shortened."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 64_000))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(textwrap.shorten(line, 400, placeholder="…") for line in text.splitlines()[-lines:])

    def rotate_log(self) -> None:
        """Set the last start's log aside, keeping a few; to be called before `start`."""
        older = [self.log.with_name(f"{self.log.name}.{n}") for n in range(1, LOGS_KEPT + 1)]
        for source, target in reversed(list(zip([self.log, *older], older, strict=False))):
            if source.exists():
                source.replace(target)

    def bound_log(self, most_bytes: int = LOG_BYTES) -> None:
        """Empty a log that has grown too long, after copying it; it is open for appending, so it goes on."""
        if not self.log.exists() or self.log.stat().st_size <= most_bytes:
            return
        # A full disk must not keep the log from being emptied.
        with contextlib.suppress(OSError):
            shutil.copyfile(self.log, self.log.with_name(self.log.name + ".1"))
        os.truncate(self.log, 0)
