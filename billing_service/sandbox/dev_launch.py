"""Becomes the program it is given, after asking the kernel to end it with its parent. Standard library only.

Run as a file, `python -I -S dev_launch.py PARENT_PID PROGRAM ARGUMENT…`, because this must happen between
fork and exec and a `preexec_fn` is not safe (and warns) in a parent that has threads, as pytest-xdist's has.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int, death_signal: int) -> None:
    """Have `death_signal` sent to this process when its parent ends; exits at once if it already has."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    # The parent may have gone before prctl: then no signal will ever come.
    if os.getppid() != parent_pid:
        sys.exit(1)


def become(argv: list[str]) -> None:
    """Replace this process by the program, with the signals as a fresh process has them."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTOU):
        signal.signal(each, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.exit(f"{argv[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    die_with(int(sys.argv[1]), signal.SIGKILL)
    become(sys.argv[2:])
