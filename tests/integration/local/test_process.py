"""Child processes end, all of them, however their parent ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from capstan_operator.local import tether
from capstan_operator.local.process import Child, tail_of
from support.wait import eventually, wait_until

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
time.sleep(600)
"""
PARENT = """
import subprocess, time
print(subprocess.Popen(['sleep', '600']).pid, flush=True)
time.sleep(600)
"""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # also between the opening and the reading
        return False


async def _start(code: str, log: Path) -> Child:
    child = await Child.start([sys.executable, "-c", code], log=log, environment=os.environ)
    await eventually(lambda: log.read_text(), what="the first output")
    return child


async def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """After the grace nothing is left of it."""
    child = await _start(STUBBORN, tmp_path / "log")
    await child.stop(grace=0.1)
    assert not child.running
    assert await child.wait() == -signal.SIGKILL


async def test_grandchildren_end_too(tmp_path: Path) -> None:
    """What a child started ends with it, although it got no signal of its own."""
    child = await _start(PARENT, tmp_path / "log")
    grandchild = int((tmp_path / "log").read_text())
    assert _alive(grandchild)
    await child.stop(grace=10)
    await eventually(lambda: not _alive(grandchild), what="the grandchild's end")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_killed_parent_leaves_no_child() -> None:
    """Even SIGKILL of the parent ends the tethered program."""
    code = (
        "import os, subprocess, sys, time;"
        f"child = subprocess.Popen([sys.executable, {tether.__file__!r}, str(os.getpid()), 'sleep', '600']);"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text().strip() == "sleep", what="the tethered program")
        parent.kill()
        wait_until(lambda: not _alive(pid), what="the child's end")


def test_a_program_without_its_parent_does_not_begin() -> None:
    """When the parent ended before the tether was made, the program is not started."""
    done = subprocess.run(
        [sys.executable, str(tether.__file__), "1", "echo", "begun"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "begun" not in done.stdout


def test_the_tail_is_the_end(tmp_path: Path) -> None:
    """Of a long log only the last lines are shown, and only its end is read."""
    log = tmp_path / "log"
    log.write_bytes(b"\xff" * 300_000 + b"\n" + b"".join(b"line %d\n" % number for number in range(100)))
    assert tail_of(log, lines=2) == "line 98\nline 99"
