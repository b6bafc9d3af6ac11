"""The machine that is measured, and the memory of processes on it."""

import os
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("flask", "gunicorn", "pymongo", "mongoengine", "rq", "stripe")


def describe() -> str:
    """The processor, how many of it we may use, Python and the versions that count."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return f"{_model()}, {cores} cores, {platform.system()}, Python {platform.python_version()}\n{versions}"


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def megabytes(pid: int) -> float:
    """The resident memory of a process; 0 where /proc does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(found.split()[1]) / 1024


def peak_megabytes() -> float:
    """The most resident memory that this process has had; not getrusage's, which also knows whom it was forked from."""
    status = Path("/proc/self/status").read_text()
    found = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(found.split()[1]) / 1024


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(each) for each in listed.split()]


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used, in user and system mode."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
