"""The API server that tests start from KUBEBUILDER_ASSETS."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.needs import ROOT
from support.ports import free_port
from support.wait import wait_until

CODE = """
import sys
from pathlib import Path
from support.envtest import run_envtest
with run_envtest(Path(sys.argv[1]), Path(sys.argv[2]), port=int(sys.argv[3]), controllers=False):
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="left out: needs Linux, whose kernel ends the processes")
def test_a_run_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """Whoever kills the tests, and leaves them no time to end what they started, has ended that as well."""
    programs, home = tmp_path / "programs", tmp_path / "home"
    programs.mkdir()
    for name in ("etcd", "kube-apiserver"):
        (programs / name).write_text("#!/bin/sh\nexec sleep 600\n")
        (programs / name).chmod(0o755)
    command = [sys.executable, "-c", CODE, str(programs), str(home), str(free_port())]
    tests = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")})
    pids: list[int] = []
    try:
        files = [home / "pids" / name for name in ("etcd", "kube-apiserver")]
        wait_until(lambda: all(file.is_file() and file.read_text() for file in files), what="both processes")
        pids = [int(file.read_text()) for file in files]
        assert all(_runs(pid) for pid in pids)
        tests.kill()
        tests.wait(60)
        wait_until(lambda: not any(_runs(pid) for pid in pids), what="the end of both")
    finally:
        tests.kill()
        tests.wait(60)
        for pid in filter(_runs, pids):
            os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    """Say whether it is still the process that was started, and no zombie."""
    try:
        return b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
