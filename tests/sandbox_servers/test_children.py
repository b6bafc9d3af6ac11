"""One child and several: its log, its death in words, its stop; who is restarted and who is swept."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from billing_service.sandbox.dev_child import CannotStart, Child

# In a process of its own: the supervisor ends every child of its process that it does not know.
SUPERVISED = """
import sys
from pathlib import Path
from billing_service.sandbox import dev_orphans
from billing_service.sandbox.dev_child import CannotStart, Child
from billing_service.sandbox.supervisor import Interrupted, Supervisor

def say(text):
    print(text, flush=True)

dev_orphans.adopt()
supervisor = Supervisor(say)
supervisor.take_signals()
folder = Path(sys.argv[1])
children = [Child(f"child{n}", ["sh", "-c", script], folder / f"{n}.log") for n, script in enumerate(sys.argv[2:])]
try:
    try:
        supervisor.start(*children)
        say("up")
        supervisor.watch(lambda: say("changed"), lambda: None)
    finally:
        supervisor.stop()
        say("stopped")
except Interrupted:
    say("interrupted")
except CannotStart as trouble:
    say(f"trouble: {trouble}")
"""


def child(folder: Path, script: str, **options) -> Child:
    return Child("it", ["sh", "-c", script], folder / "it.log", **options)


def run_to_its_end(one: Child) -> Child:
    one.start()
    assert one.process
    one.process.wait(10)
    return one


class Supervised:
    def __init__(self, folder: Path, *scripts: str):
        command = [sys.executable, "-c", SUPERVISED, str(folder), *scripts]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []

    def read_until(self, text: str) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if text in line:
                return line.strip()
        raise AssertionError(f"{text!r} was not said: {self.lines}")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def is_gone(pid: int, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def pid_in(file: Path) -> int:
    deadline = time.monotonic() + 5
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < deadline, f"{file} was not written"
        time.sleep(0.02)
    return int(file.read_text())


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "ended with exit code 3"),
        ("kill -KILL $$", "was killed by SIGKILL"),
        ("echo 'write failed: No space left on device'; exit 14", "the disk is full"),
        ("echo 'Error setting up listener: Address already in use'; exit 48", "its port is taken"),
        ("echo 'error while loading shared libraries: libfoo.so.1: cannot open'; exit 127", "libfoo.so.1 is missing"),
    ],
)
def test_a_death_is_told_in_words(tmp_path, script, words):
    assert words in run_to_its_end(child(tmp_path, script)).death()


def test_one_that_dies_before_it_is_ready_is_told_with_its_log(tmp_path):
    one = child(tmp_path, "echo what it said; exit 1", is_ready=lambda: False)
    one.start()
    with pytest.raises(CannotStart, match="it ended with exit code 1") as refusal:
        one.wait_ready()
    assert refusal.value.log_tail == "what it said"


def test_one_that_stays_silent_is_told(tmp_path):
    one = child(tmp_path, "sleep 60", is_ready=lambda: False, ready_seconds=0.2)
    one.start()
    try:
        with pytest.raises(CannotStart, match="did not answer within"):
            one.wait_ready()
    finally:
        one.kill()


def test_one_that_ignores_sigterm_is_killed_after_its_grace(tmp_path):
    one = child(tmp_path, "trap '' TERM; echo deaf; while :; do sleep 0.1; done", grace_seconds=0.3)
    one.is_ready = lambda: one.has_logged("deaf")
    one.start()
    one.wait_ready()
    one.stop()
    assert one.process.returncode == -signal.SIGKILL


def test_a_new_start_sets_the_old_logs_aside_and_keeps_three(tmp_path):
    one = child(tmp_path, "true")
    for number in range(6):
        one.rotate_log()
        one.log.write_text(str(number))
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"it.log": "5", "it.log.1": "4", "it.log.2": "3", "it.log.3": "2"}


def test_a_log_stays_bounded_while_it_is_written_to(tmp_path):
    one = child(tmp_path, "while :; do echo 0123456789; sleep 0.005; done")
    one.start()
    try:
        deadline = time.monotonic() + 10
        while not (tmp_path / "it.log.1").exists():
            assert time.monotonic() < deadline
            one.bound_log(most_bytes=1000)
        # A hole at its beginning would show as zero bytes.
        time.sleep(0.1)
        assert one.log.read_bytes().startswith(b"0123456789\n")
        assert one.log.stat().st_size < 1000
    finally:
        one.kill()


def test_what_it_logged_before_its_last_start_does_not_count(tmp_path):
    one = run_to_its_end(child(tmp_path, "echo started"))
    assert one.has_logged("started")
    one.argv = ["true"]
    assert not run_to_its_end(one).has_logged("started")


def test_children_stop_in_reverse_order(tmp_path):
    script = f"trap 'echo $0 >> {tmp_path}/order; exit 0' TERM; echo ok; while :; do sleep 0.05; done"
    scripts = [script.replace("$0", str(number)) for number in range(3)]
    with Supervised(tmp_path, *scripts) as supervised:
        supervised.read_until("up")
        for number in range(3):
            while "ok" not in (tmp_path / f"{number}.log").read_text():
                time.sleep(0.02)
        supervised.process.send_signal(signal.SIGTERM)
        supervised.read_until("interrupted")
    assert (tmp_path / "order").read_text().split() == ["2", "1", "0"]


def test_a_dead_child_is_started_again_and_what_it_left_is_swept(tmp_path):
    leaves_one = f"setsid sleep 300 & echo $! > {tmp_path}/orphan; echo $$ > {tmp_path}/pid; wait"
    with Supervised(tmp_path, leaves_one, "sleep 300") as supervised:
        supervised.read_until("up")
        orphan = pid_in(tmp_path / "orphan")
        os.kill(pid_in(tmp_path / "pid"), signal.SIGKILL)
        assert "started again" in supervised.read_until("child0 was killed by SIGKILL")
        supervised.read_until("changed")
        assert is_gone(orphan)
        second = pid_in(tmp_path / "orphan")
        supervised.process.send_signal(signal.SIGTERM)
        supervised.read_until("interrupted")
        assert is_gone(second)


def test_the_fifth_death_within_a_minute_ends_it(tmp_path):
    with Supervised(tmp_path, "sleep 0.3; exit 7", "sleep 300") as supervised:
        supervised.read_until("up")
        trouble = supervised.read_until("trouble")
    assert trouble == "trouble: child0 ended with exit code 7, for the fifth time within a minute."
    assert sum("started again" in line for line in supervised.lines) == 4
    assert "stopped" in supervised.lines


def test_asked_again_it_does_not_wait_for_the_grace(tmp_path):
    deaf = "trap '' TERM; echo ok; while :; do sleep 0.1; done"
    with Supervised(tmp_path, deaf) as supervised:
        supervised.read_until("up")
        while "ok" not in (tmp_path / "0.log").read_text():
            time.sleep(0.02)
        began = time.monotonic()
        supervised.process.send_signal(signal.SIGTERM)
        time.sleep(1.2)
        supervised.process.send_signal(signal.SIGTERM)
        supervised.read_until("interrupted")
        assert time.monotonic() - began < 4


def test_a_ready_file_is_never_half_written(tmp_path):
    from billing_service.sandbox.dev_folder import write_privately

    write_privately(tmp_path / "ready.json", {"pid": 1})
    write_privately(tmp_path / "ready.json", {"pid": 2})
    assert json.loads((tmp_path / "ready.json").read_text()) == {"pid": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["ready.json"]
