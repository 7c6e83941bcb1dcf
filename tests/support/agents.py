"""The agents that people use, as programs that run once, without a terminal and with an empty home."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.agent_engine import Call
from support.needs import ROOT, lacking

NODE = ROOT / "tests" / "agents" / "node_modules" / ".bin"
SECONDS = 240
"""How long one run may take on a busy machine; each takes some seconds on an idle one."""
NO_NETWORK = {
    "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost",
    "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1,localhost",
}  # fmt: skip
"""Nobody listens there: what an agent asks of the world fails at once."""


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


@dataclass(frozen=True)
class Ran:
    """What came of a run."""

    code: int
    out: str


@dataclass(frozen=True)
class Agent:
    """One agent on one route, as docs/agents.md tells to set it up."""

    name: str
    """What docs/compatibility.md calls it."""
    package: str
    command: Callable[[Place, str], list[str]]
    """Writes the agent's settings, and gives its command for a prompt."""
    binary: str
    main_tool: str = ""
    environ: Callable[[Place], Mapping[str, str]] = lambda _: {}
    bash: Callable[[str], Call] | None = None
    write: Callable[[Path, str], Call] | None = None
    read: Callable[[Path], Call] | None = None
    edit: Callable[[Path, str, str], Call] | None = None
    look: Callable[[Path], Call] | None = None
    """Reads a picture."""
    prepare: tuple[Callable[[Place], list[str]], ...] = field(default=())
    """Commands that run before."""

    def path(self) -> str:
        """Give the program, or leave the test out (in CI: fail)."""
        path = NODE / self.binary
        if not path.exists():
            lacking(f"{self.binary} (scripts/agents.sh)")
        if shutil.which("node") is None:
            lacking("node")
        return str(path)

    def run(self, place: Place, prompt: str) -> Ran:
        """Run the agent with a prompt until it ends; fail when it does not."""
        program = self.path()
        place.home.mkdir(exist_ok=True)
        place.work.mkdir(exist_ok=True)
        environ = {"PATH": os.environ["PATH"], "HOME": str(place.home), "TERM": "dumb", "LANG": "C.UTF-8"}
        environ |= {**NO_NETWORK, **self.environ(place)}
        for prepared in self.prepare:
            self._run([program, *prepared(place)], place, environ)
        return self._run([program, *self.command(place, prompt)], place, environ)

    def _run(self, command: list[str], place: Place, environ: Mapping[str, str]) -> Ran:
        done = subprocess.run(
            command, cwd=place.work, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=SECONDS, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout.decode(errors="replace"))


# --- Claude Code ----------------------------------------------------------------------------------------------------


def _claude(place: Place, prompt: str) -> list[str]:
    return ["-p", prompt, "--allowedTools", "Bash Edit Write Read", "--max-turns", "20"]


CLAUDE = Agent(
    name="Claude Code",
    package="npm:@anthropic-ai/claude-code",
    binary="claude",
    main_tool="Bash",
    command=_claude,
    environ=lambda place: {
        "ANTHROPIC_BASE_URL": place.gateway,
        "ANTHROPIC_AUTH_TOKEN": "any",
        "ANTHROPIC_MODEL": "coder",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "coder",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    },
    bash=lambda command: Call("Bash", {"command": command, "description": "Runs it"}),
    write=lambda path, text: Call("Write", {"file_path": str(path), "content": text}),
    read=lambda path: Call("Read", {"file_path": str(path)}),
    edit=lambda path, old, new: Call("Edit", {"file_path": str(path), "old_string": old, "new_string": new}),
    look=lambda path: Call("Read", {"file_path": str(path)}),
)

# --- Codex ----------------------------------------------------------------------------------------------------------

CODEX_CONFIG = """\
model = "{model}"
model_provider = "capstan"
check_for_update_on_startup = false

[model_providers.capstan]
name = "Capstan"
base_url = "{gateway}/v1"
wire_api = "responses"
env_key = "CAPSTAN_KEY"

[analytics]
enabled = false
"""


def _codex(model: str, more: str = "") -> Callable[[Place, str], list[str]]:
    def command(place: Place, prompt: str) -> list[str]:
        place.write(".codex/config.toml", CODEX_CONFIG.format(model=model, gateway=place.gateway) + more)
        return ["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", prompt]

    return command


def _exec(command: str) -> Call:
    return Call("exec_command", {"cmd": command})


def _patch(path: Path, old: str, new: str) -> Call:
    patch = f"*** Begin Patch\n*** Update File: {path.name}\n@@\n-{old}\n+{new}\n*** End Patch\n"
    return Call("apply_patch", {"input": patch})


CODEX = Agent(
    name="Codex",
    package="npm:@openai/codex",
    binary="codex",
    main_tool="exec_command",
    command=_codex("coder"),
    environ=lambda _: {"CAPSTAN_KEY": "any"},
    bash=_exec,
    write=lambda path, text: _exec(f"printf '%s' '{text}' > {path}"),
    read=lambda path: _exec(f"cat {path}"),
    edit=lambda path, old, new: _exec(f"sed -i 's/{old}/{new}/' {path}"),
    look=lambda path: Call("view_image", {"path": str(path)}),
)
CODEX_PATCH = Agent(
    name="Codex, with `apply_patch`",
    package="npm:@openai/codex",
    binary="codex",
    main_tool="exec_command",
    command=_codex("gpt-5.5"),
    environ=CODEX.environ,
    bash=_exec,
    read=CODEX.read,
    edit=_patch,
    look=CODEX.look,
)

# --- opencode -------------------------------------------------------------------------------------------------------


def _opencode(package: str) -> Callable[[Place, str], list[str]]:
    def command(place: Place, prompt: str) -> list[str]:
        provider = {
            "npm": package,
            "name": "Capstan",
            "options": {"baseURL": f"{place.gateway}/v1", "apiKey": "any"},
            "models": {"coder": {"name": "coder", "attachment": True, "modalities": {"input": ["text", "image"]}}},
        }
        place.write(".config/opencode/opencode.json", json.dumps({"provider": {"capstan": provider}}))
        return ["run", "--model", "capstan/coder", prompt]

    return command


def opencode(name: str, package: str) -> Agent:
    """Give opencode on one route."""
    return Agent(
        name=name,
        package="npm:opencode-ai",
        binary="opencode",
        main_tool="bash",
        command=_opencode(package),
        environ=lambda _: {
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        },
        bash=lambda command: Call("bash", {"command": command, "description": "Runs it"}),
        write=lambda path, text: Call("write", {"filePath": str(path), "content": text}),
        read=lambda path: Call("read", {"filePath": str(path)}),
        edit=lambda path, old, new: Call("edit", {"filePath": str(path), "oldString": old, "newString": new}),
        look=lambda path: Call("read", {"filePath": str(path)}),
    )


OPENCODE_CHAT = opencode("opencode, chat", "@ai-sdk/openai-compatible")
OPENCODE_RESPONSES = opencode("opencode, Responses", "@ai-sdk/openai")
OPENCODE_MESSAGES = opencode("opencode, Messages", "@ai-sdk/anthropic")

# --- pi -------------------------------------------------------------------------------------------------------------


def _pi(api: str) -> Callable[[Place, str], list[str]]:
    def command(place: Place, prompt: str) -> list[str]:
        base = place.gateway if api == "anthropic-messages" else f"{place.gateway}/v1"
        model = {"id": "coder", "name": "coder", "input": ["text", "image"], "contextWindow": 32768, "maxTokens": 4096}
        provider = {"baseUrl": base, "api": api, "apiKey": "any", "models": [model]}
        place.write(".pi/agent/models.json", json.dumps({"providers": {"capstan": provider}}))
        return ["-p", "--no-session", "--provider", "capstan", "--model", "coder", prompt]

    return command


def pi(name: str, api: str) -> Agent:
    """Give pi on one route."""
    return Agent(
        name=name,
        package="npm:@mariozechner/pi-coding-agent",
        binary="pi",
        main_tool="bash",
        command=_pi(api),
        environ=lambda _: {"PI_OFFLINE": "1"},
        bash=lambda command: Call("bash", {"command": command}),
        write=lambda path, text: Call("write", {"path": str(path), "content": text}),
        read=lambda path: Call("read", {"path": str(path)}),
        edit=lambda path, old, new: Call("edit", {"path": str(path), "edits": [{"oldText": old, "newText": new}]}),
        look=lambda path: Call("read", {"path": str(path)}),
    )


PI_CHAT = pi("pi, chat", "openai-completions")
PI_RESPONSES = pi("pi, Responses", "openai-responses")
PI_MESSAGES = pi("pi, Messages", "anthropic-messages")
