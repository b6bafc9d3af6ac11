"""The process in front: it waits for the supervisor and cleans up whatever becomes of it.

Two processes, so that kill -9 of either leaves none behind: the supervisor hears of the front's death and stops
everything in order; the front adopts what a killed supervisor leaves and ends it.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable

from billing_service.sandbox import dev_orphans
from billing_service.sandbox.dev_launch import die_with

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def in_front(work: Callable[[], int]) -> int:
    """Run `work` in a child process, pass signals on to it as SIGTERM, return its exit code when all is gone."""
    dev_orphans.adopt()
    front = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    # Held back until each side has its own handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    pid = os.fork()
    if pid == 0:
        _behind(front, work)
    _pass_on_to(pid)
    status = os.waitpid(pid, 0)[1]
    dev_orphans.end_all()
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        print(f"billing-service: the supervisor was killed by {name}; everything is stopped.", file=sys.stderr)
        return 1
    return os.waitstatus_to_exitcode(status)


def _pass_on_to(pid: int) -> None:
    for each in SIGNALS:
        # nohup means it: a terminal that goes away is not our end.
        if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, lambda signum, frame: os.kill(pid, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _behind(front: int, work: Callable[[], int]) -> None:
    code = 1
    try:
        # A group of its own: Ctrl-C reaches the front alone, which passes it on once.
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        die_with(front, signal.SIGTERM)
        dev_orphans.adopt()
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
