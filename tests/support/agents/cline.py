"""cline: chat."""

import json
from dataclasses import replace

from support.agent_engine import Call
from support.agents.program import Agent, Place, Room, with_tool


def _with_server(place: Place, prompt: str) -> list[str]:
    program, *arguments = place.server()
    servers = {"mcpServers": {"words": {"command": program, "args": arguments}}}
    place.write(".cline/data/settings/cline_mcp_settings.json", json.dumps(servers))
    return CLINE.command(place, prompt)


CLINE = Agent(
    name="cline",
    package="npm:cline",
    binary="cline",
    main=with_tool("run_commands"),
    prepare=(
        lambda place: ["auth", "-p", "openai-compatible", "-k", "any", "-m", "coder", "-b", f"{place.gateway}/v1"],
    ),
    command=lambda _, prompt: ["-P", "openai-compatible", "-m", "coder", prompt],
    full="context window exceeded — compacting and retrying",
    room=Room.CUTS,
    asks_again=False,
    bash=lambda command: Call("run_commands", {"commands": [command]}),
    write=lambda path, text: Call("editor", {"path": str(path), "new_text": text}),
    read=lambda path: Call("read_files", {"files": [{"path": str(path)}]}),
    edit=lambda path, old, new: Call("editor", {"path": str(path), "old_text": old, "new_text": new}),
    look=lambda path: Call("read_files", {"files": [{"path": str(path)}]}),
)
CLINE_MCP = replace(CLINE, command=_with_server, lookup="words__lookup")
