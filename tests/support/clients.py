"""The client libraries that people use, run as scripts of their own environment (scripts/clients.sh)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.jobs import wait_for_job
from support.needs import ROOT, lacking

SCRIPTS = ROOT / "tests" / "clients"
PINS, VENVS = SCRIPTS / "requirements", ROOT / ".venv-clients"
OPEN_RESPONSES = SCRIPTS / "open_responses"
SECONDS = 240
"""How long one script may take on a busy machine; each takes some seconds on an idle one."""
NO_NETWORK = {
    "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost",
    "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1,localhost",
}  # fmt: skip
"""Nobody listens there: what a library asks of the world fails at once."""


def own_python() -> str:
    """Give the project's Python: the official packages are among its tools."""
    return sys.executable


def python_of(name: str) -> str:
    """Give the Python of the environment that `requirements/NAME.txt` pins, or leave the test out (in CI: fail)."""
    wait_for_job("clients")
    pins, installed = PINS / f"{name}.txt", VENVS / name / "installed.txt"
    if not installed.exists() or installed.read_text() != pins.read_text():
        lacking(f"the client libraries in the versions of tests/clients/requirements/{name}.txt (scripts/clients.sh)")
    return str(VENVS / name / "bin" / "python")


def node() -> str:
    """Give Node, where the packages of tests/clients/package.json are there, or leave the test out (in CI: fail)."""
    need_packages(SCRIPTS)
    path = shutil.which("node")
    if path is None:
        lacking("node")
    return str(path)


def bun() -> str:
    """Give bun, where the packages of tests/clients/open_responses are there, or leave the test out (in CI: fail)."""
    need_packages(OPEN_RESPONSES)
    return str(OPEN_RESPONSES / "node_modules" / ".bin" / "bun")


def need_packages(folder: Path) -> None:
    """Leave the test out (in CI: fail) unless the packages of a folder's package.json are there, as they are pinned."""
    wait_for_job("clients")
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        found = folder / "node_modules" / name / "package.json"
        if not found.exists() or json.loads(found.read_text())["version"] != version:
            lacking(f"{name} {version} (scripts/clients.sh)")


@dataclass(frozen=True)
class Script:
    """One script, and what runs it."""

    name: str
    runs: Callable[[], str]
    stored: bool = False
    """Whether it wants a gateway that stores responses."""

    def run(self, gateway: str, picture: Path, home: Path) -> dict[str, dict[str, Any]]:
        """Run it against a gateway; give what its clients saw, by row and column.

        Raises:
            AssertionError: it ended with an error, or printed something else.

        """
        program = self.runs()
        environ = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
        done = subprocess.run(
            [program, str(SCRIPTS / self.name), gateway, str(picture), *["stored"] * self.stored],
            cwd=home, env={**environ, **NO_NETWORK}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        seen: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return seen
