"""Claude Code: /v1/messages."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from support.agent_engine import Call
from support.agents.program import Agent, Place, Room, with_tool

SUMMARY = "Your task is to create a detailed summary of the conversation"


def _command(_: Place, prompt: str) -> list[str]:
    return ["-p", prompt, "--allowedTools", "Bash Edit Write Read", "--max-turns", "20"]


def _is_main(body: Mapping[str, Any]) -> bool:
    # What it has summed up it asks with all of its tools.
    return with_tool("Bash")(body) and SUMMARY not in json.dumps(body["messages"][-1])


def _with_server(place: Place, prompt: str) -> list[str]:
    program, *arguments = place.server()
    servers = {"mcpServers": {"words": {"command": program, "args": arguments}}}
    return [*_command(place, prompt), "--mcp-config", json.dumps(servers), "--allowedTools", "mcp__words__lookup"]


CLAUDE = Agent(
    name="Claude Code",
    package="npm:@anthropic-ai/claude-code",
    binary="claude",
    main=_is_main,
    command=_command,
    environ=lambda place: {
        "ANTHROPIC_BASE_URL": place.gateway,
        "ANTHROPIC_AUTH_TOKEN": "any",
        "ANTHROPIC_MODEL": "coder",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "coder",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    },
    room=Room.SUMS_UP,
    bash=lambda command: Call("Bash", {"command": command, "description": "Runs it"}),
    write=lambda path, text: Call("Write", {"file_path": str(path), "content": text}),
    read=lambda path: Call("Read", {"file_path": str(path)}),
    edit=lambda path, old, new: Call("Edit", {"file_path": str(path), "old_string": old, "new_string": new}),
    look=lambda path: Call("Read", {"file_path": str(path)}),
)
CLAUDE_MCP = replace(CLAUDE, command=_with_server, lookup="mcp__words__lookup")
