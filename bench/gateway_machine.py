"""Processes on one core each, and what they use, for bench/gateway.py."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
IDLE_SHARE = 0.1
IDLE_LOOK_SECONDS = 0.2


@contextmanager
def process(
    command: list[str], core: int, log: Path, environment: dict[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command on one core; end it and its children."""
    with log.open("w") as sink:
        child = subprocess.Popen(
            command,
            stdout=sink,
            stderr=sink,
            env=os.environ | environment,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        try:
            yield child
        finally:
            try:
                os.killpg(child.pid, 15)
            except ProcessLookupError:
                pass  # it ended by itself
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, 9)
                child.wait()


def tree(pid: int) -> list[int]:
    """Give a process and all below it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found.extend(int(child) for child in task.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, of a process and all below it."""
    clocks = [~one << 3 | 2 for one in tree(pid)]  # as clock_getcpuclockid(3) makes them; /proc counts in 10 ms
    return sum(time.clock_gettime(clock) for clock in clocks)


def rss_megabytes(pid: int) -> float:
    """Resident memory of a process and all below it."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait_idle(pid: int, seconds: float = 10.0, look_seconds: float = IDLE_LOOK_SECONDS) -> None:
    """Wait until it no longer works on requests whose client has gone; not for ever."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(look_seconds)
        if cpu_seconds(pid) - before < IDLE_SHARE * look_seconds:
            return


def machine() -> str:
    """Describe the machine in one line."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].split(":", 1)[1].strip() if models else platform.machine()
    return f"{model}, {len(CORES)} cores, Linux {platform.release()}, Python {' '.join(sys.version.split())}"
