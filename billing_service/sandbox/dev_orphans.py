"""Descendants whose own parent died: they come to the nearest subreaper, and it ends them.

The kernel's death signal reaches only direct children. A killed worker leaves its work-horse, a killed gunicorn
its workers: process groups do not catch them all (RQ gives a work-horse one of its own), adoption does.
"""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection

PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """From now on this process is the parent of every descendant whose own parent ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) was refused")


def end_all(but: Collection[int] = (), seconds: float = 5.0) -> None:
    """Kill and reap every child of this process except those named, and what they leave in turn."""
    deadline = time.monotonic() + seconds
    while orphans := _children() - set(but):
        for pid in orphans:
            # Ours and not yet reaped, so the id cannot have become anyone else's.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def _children() -> set[int]:
    return {int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _parent(pid) == os.getpid()}


def _parent(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            # The name, in parentheses, may hold spaces and parentheses itself.
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return None
