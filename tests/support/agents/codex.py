"""Codex: /v1/responses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from support.agent_engine import Call
from support.agents.program import Agent, Place, with_tool

CONFIG = """\
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
SERVER = """
[mcp_servers.words]
command = "{0}"
args = ["{1}", "{2}"]
"""


def _codex(model: str, *, server: bool = False) -> Callable[[Place, str], list[str]]:
    def command(place: Place, prompt: str) -> list[str]:
        config = CONFIG.format(model=model, gateway=place.gateway)
        place.write(".codex/config.toml", config + (SERVER.format(*place.server()) if server else ""))
        return ["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", prompt]

    return command


def _exec(command: str) -> Call:
    return Call("exec_command", {"cmd": command})


def _patch(path: Path, old: str, new: str) -> Call:
    patch = f"*** Begin Patch\n*** Update File: {path.name}\n@@\n-{old}\n+{new}\n*** End Patch\n"
    return Call("apply_patch", {"input": patch})


def _add(path: Path, text: str) -> Call:
    return Call("apply_patch", {"input": f"*** Begin Patch\n*** Add File: {path.name}\n+{text}\n*** End Patch\n"})


CODEX = Agent(
    name="Codex",
    package="npm:@openai/codex",
    binary="codex",
    main=with_tool("exec_command"),
    command=_codex("coder"),
    environ=lambda _: {"CAPSTAN_KEY": "any"},
    full="ran out of room in the model's context window",
    bash=_exec,
    write=lambda path, text: _exec(f"printf '%s' '{text}' > {path}"),
    read=lambda path: _exec(f"cat {path}"),
    edit=lambda path, old, new: _exec(f"sed -i 's/{old}/{new}/' {path}"),
    look=lambda path: Call("view_image", {"path": str(path)}),
)
CODEX_PATCH = replace(CODEX, name="Codex, with `apply_patch`", command=_codex("gpt-5.5"), write=_add, edit=_patch)
CODEX_MCP = replace(CODEX, command=_codex("coder", server=True), lookup="mcp__words__lookup")
