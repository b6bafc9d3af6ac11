"""The data folder of `billing-service dev`: who uses it, what is kept in it from one start to the next."""

import fcntl
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from billing_service.sandbox.dev_child import CannotStart

FREE_BYTES_NEEDED = 500_000_000
# As long as the last one may need to stop its servers in order.
STOPPING_SECONDS = 60.0


def write_privately(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that only its owner may read; a reader sees the old file or the new one, never a part."""
    _write(path, json.dumps(content, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class DataFolder:
    """Opened by one `dev` at a time; what must survive it is kept here."""

    def __init__(self, path: Path, free_bytes_needed: int = FREE_BYTES_NEEDED):
        self.path = path.absolute()
        self.free_bytes_needed = free_bytes_needed
        self._lock: TextIO | None = None

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def environment(self) -> Path:
        return self.path / "environment"

    def write_environment(self, variables: dict[str, str]) -> None:
        """What a shell reads so that commands work on this system: `. .data/environment`."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        _write(self.environment, "".join(lines))

    def open(self) -> None:
        """Make it, take its lock, see that the disk has room; raises CannotStart."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.logs.mkdir(exist_ok=True)
            # Handed down by fork: it stays taken until the supervisor, too, has ended.
            self._lock = (self.path / "dev.lock").open("a+")
            self._take(self._lock)
        except OSError as error:
            raise CannotStart(f"The data folder {self.path} cannot be used: {error.strerror}.") from error
        self._check_room()

    def close(self) -> None:
        """Let go of the lock, if this process is the last that holds it."""
        if self._lock:
            self._lock.close()

    def _take(self, lock: TextIO) -> None:
        deadline = time.monotonic() + STOPPING_SECONDS
        while not _try_lock(lock):
            owner = _owner(lock)
            if (owner and _is_alive(owner["pid"])) or time.monotonic() > deadline:
                raise CannotStart(_taken(self.path, owner))
            time.sleep(0.1)

    def say_who(self, url: str) -> None:
        """Write into the lock who holds it, for the next one to say."""
        assert self._lock is not None
        self._lock.truncate(0)
        self._lock.write(json.dumps({"pid": os.getpid(), "url": url}))
        self._lock.flush()

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free

    def _check_room(self) -> None:
        free = self.free_bytes()
        if free < self.free_bytes_needed:
            raise CannotStart(
                f"The disk of {self.path} has {free // 1_000_000} MB free and {self.free_bytes_needed // 1_000_000} MB"
                " are needed: free some, or name a folder on another disk with --data-dir."
            )

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """The value kept under this name; made and kept if there is none yet."""
        content = self._content()
        if name not in content:
            self.keep(name, make())
            content = self._content()
        return content[name]

    def keep(self, name: str, value: Any) -> None:
        write_privately(self.path / "dev.json", self._content() | {name: value})

    def _content(self) -> dict[str, Any]:
        try:
            return json.loads((self.path / "dev.json").read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise CannotStart(f"{self.path / 'dev.json'} is damaged: remove it to start with new secrets.") from error


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(file: TextIO) -> dict[str, Any] | None:
    file.seek(0)
    try:
        return json.loads(file.read())
    except ValueError:
        return None


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def _taken(path: Path, owner: dict[str, Any] | None) -> str:
    if owner is None:
        return f"Another billing-service dev is using {path}."
    return (
        f"One is already running on {path}: pid {owner['pid']}, {owner['url']}."
        " Stop it first, or start with another --data-dir and --port."
    )
