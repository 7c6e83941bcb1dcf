"""Continue's `cn`: chat."""

import json
from dataclasses import replace

from support.agent_engine import Call
from support.agents.program import Agent, Place, with_tool

CONFIG = """\
{{name: Capstan, version: 1.0.0, schema: v1, models: [
  {{name: coder, provider: openai, model: coder, apiBase: {gateway}/v1, apiKey: any,
   capabilities: [tool_use], roles: [chat, edit, apply]}}]}}
"""


def _command(place: Place, prompt: str) -> list[str]:
    place.write("config.yaml", CONFIG.format(gateway=place.gateway))
    return ["-p", "--auto", "--config", str(place.home / "config.yaml"), prompt]


def _with_server(place: Place, prompt: str) -> list[str]:
    command = _command(place, prompt)
    program, *arguments = place.server()
    config = CONFIG.format(gateway=place.gateway).rstrip().removesuffix("}")
    servers = [{"name": "words", "command": program, "args": arguments}]
    place.write("config.yaml", f"{config}, mcpServers: {json.dumps(servers)}}}")
    return command


CN = Agent(
    name="Continue (`cn`)",
    package="npm:@continuedev/cli",
    binary="cn",
    main=with_tool("Bash"),
    command=_command,
    environ=lambda _: {"CONTINUE_TELEMETRY_ENABLED": "0"},
    full="Context length exceeded: ",
    bash=lambda command: Call("Bash", {"command": command}),
    write=lambda path, text: Call("Write", {"filepath": str(path), "content": text}),
    read=lambda path: Call("Read", {"filepath": str(path)}),
    edit=lambda path, old, new: Call("Edit", {"file_path": str(path), "old_string": old, "new_string": new}),
)
CN_MCP = replace(CN, command=_with_server, lookup="lookup")
