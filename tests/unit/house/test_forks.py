"""What is forked is a process like any other, and its end is known."""

import os
import signal
import subprocess
from pathlib import Path
from typing import IO

import pytest

from support.forks import Forked, fork
from support.wait import wait_until

PROGRAM = """
import os, sys, time
LOADED_BY = os.getpid()

def main():
    print(sys.argv[1:], os.environ.get("SAID"), os.getcwd(), LOADED_BY != os.getpid(), os.getpgid(0) == os.getpid())
    sys.stderr.write("a complaint\\n")
    sys.stdout.flush()
    match sys.argv[1]:
        case "code":
            return int(sys.argv[2])
        case "raise":
            raise RuntimeError("broken")
        case "sleep":
            time.sleep(600)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the test's own."""
    name = f"forked_program_{os.getpid()}_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return name


@pytest.fixture
def output(tmp_path: Path) -> "IO[bytes]":
    """A file for what it says."""
    return (tmp_path / "output").open("ab")


def test_it_has_what_it_is_given(program: str, output: IO[bytes], tmp_path: Path) -> None:
    """Its arguments, environment, folder, files and session are its own, and its exit code is told."""
    folder = tmp_path / "folder"
    folder.mkdir()
    environ = {**os.environ, "SAID": "so"}
    with output, (tmp_path / "errors").open("wb") as errors:
        process = fork(
            program, ["code", "7"], environ=environ, stdout=output, stderr=errors, folder=folder, new_session=True
        )
        assert process.wait(60) == process.poll() == process.returncode == 7
        assert fork(program, ["code", "0"], environ={}, stdout=output, stderr=errors).wait(60) == 0
    assert (tmp_path / "output").read_text().splitlines() == [
        f"['code', '7'] so {folder} True True", f"['code', '0'] None {Path.cwd()} True False",
    ]  # fmt: skip
    assert (tmp_path / "errors").read_text() == "a complaint\n" * 2


def test_it_ends_by_what_ends_it(program: str, output: IO[bytes], tmp_path: Path) -> None:
    """A signal and an error end this one, and nobody else; who is waited for in vain goes on."""

    def sleeper() -> Forked:
        return fork(program, ["sleep"], environ=os.environ, stdout=output)

    with output:
        first, second, third = sleeper(), sleeper(), sleeper()
        wait_until(lambda: (tmp_path / "output").read_text().count("a complaint") == 3, what="all three")
        first.terminate()
        assert first.wait(60) == -signal.SIGTERM
        second.kill()
        assert second.wait(60) == -signal.SIGKILL
        second.kill()
        assert third.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            third.wait(0.01)
        third.send_signal(signal.SIGINT)
        assert third.wait(60) != 0
        assert fork(program, ["raise"], environ=os.environ, stdout=output).wait(60) == 1
    assert "RuntimeError: broken" in (tmp_path / "output").read_text()
