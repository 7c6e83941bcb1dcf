"""An agent as a program that runs once: without a terminal, with an empty home, with only the gateway in reach."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support import mcp_server
from support.agent_engine import Call, Say, tools_of
from support.alone import alone, can_be_alone, way_out
from support.jobs import wait_for_job
from support.needs import ROOT, lacking

NODE = ROOT / "tests" / "agents" / "node_modules" / ".bin"
SECONDS = 240
"""How long one run may take on a busy machine; each takes some seconds on an idle one."""

Made = Call | Say
"""What an engine answers for an agent to do something: a call of its tool, or text in a form that it obeys."""


@dataclass(frozen=True)
class Place:
    """Where an agent runs."""

    home: Path
    work: Path
    gateway: str
    """The gateway's address without /v1."""

    def write(self, name: str, text: str) -> None:
        """Write a file of the agent's home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    @property
    def words(self) -> Path:
        """The file in which the MCP server writes down what it was asked."""
        return self.home / "asked.txt"

    def server(self) -> list[str]:
        """Give the command of the MCP server `words` (support/mcp_server.py)."""
        return [sys.executable, mcp_server.__file__, str(self.words)]


@dataclass(frozen=True)
class Ran:
    """What came of a run."""

    code: int
    out: str

    @property
    def said(self) -> str:
        """What it said, however its lines were broken."""
        return " ".join(self.out.split())


def with_tool(name: str) -> Callable[[Mapping[str, Any]], bool]:
    """Give the test of a request by a tool that it offers."""
    return lambda body: name in tools_of(body)


class Room(Enum):
    """What an agent does about a prompt that is too long."""

    GIVES_UP = auto()
    CUTS = auto()
    """Makes its conversation shorter by itself, and goes on."""
    SUMS_UP = auto()
    """Has the model sum it up, and goes on."""
    SUMS_UP_AND_ENDS = auto()
    """Has the model sum it up, and does not wait for the answer to what it asks then."""


@dataclass(frozen=True)
class Agent:
    """One agent on one route, as docs/agents.md tells to set it up."""

    name: str
    """What docs/compatibility.md calls it."""
    package: str
    command: Callable[[Place, str], list[str]]
    """Writes the agent's settings, and gives its command for a prompt."""
    binary: str
    installed: Path = NODE
    """Where scripts/agents.sh has put the program."""
    main: Callable[[Mapping[str, Any]], bool] = lambda _: True
    """Whether a request that reaches the engine is of the agent's main loop: not for a title or a summary."""
    environ: Callable[[Place], Mapping[str, str]] = lambda _: {}
    prepare: tuple[Callable[[Place], list[str]], ...] = field(default=())
    """Commands of the same program that run before."""
    full: str = ""
    """What it says of a prompt that is too long, and of nothing else; empty: nothing."""
    room: Room = Room.GIVES_UP
    asks_again: bool = True
    """Whether it asks anew when a stream has broken off."""
    has_tools: bool = True
    """Whether it is given calls; else text in a form that it obeys."""
    bash: Callable[[str], Made] | None = None
    write: Callable[[Path, str], Made] | None = None
    read: Callable[[Path], Made] | None = None
    edit: Callable[[Path, str, str], Made] | None = None
    look: Callable[[Path], Made] | None = None
    """Reads a picture."""
    lookup: str = ""
    """What the tool of the MCP server is called, where the agent has that."""

    def path(self) -> str:
        """Give the program, or leave the test out (in CI: fail)."""
        wait_for_job("agents")
        path = self.installed / self.binary
        if not path.exists():
            lacking(f"{self.binary} (scripts/agents.sh)")
        if self.installed == NODE and shutil.which("node") is None:
            lacking("node")
        if not can_be_alone():
            lacking("namespaces (unshare)")
        return str(path)

    def run(self, place: Place, prompt: str) -> Ran:
        """Run the agent with a prompt until it ends; fail when it does not."""
        program = self.path()
        place.home.mkdir(exist_ok=True)
        place.work.mkdir(exist_ok=True)
        environ = {"PATH": os.environ["PATH"], "HOME": str(place.home), "TERM": "dumb", "LANG": "C.UTF-8"}
        environ |= self.environ(place)
        with way_out(port := int(urlsplit(place.gateway).port or 80)) as path:
            for prepared in self.prepare:
                _run(alone(port, path, [program, *prepared(place)]), place, environ)
            return _run(alone(port, path, [program, *self.command(place, prompt)]), place, environ)


def _run(command: list[str], place: Place, environ: Mapping[str, str]) -> Ran:
    done = subprocess.run(
        command, cwd=place.work, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=SECONDS, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(errors="replace"))
