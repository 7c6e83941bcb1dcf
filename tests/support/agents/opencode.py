"""opencode: any route, by the package that its provider names."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from support.agent_engine import Call
from support.agents.program import Agent, Place, Room, with_tool


def _opencode(package: str, *, server: bool = False) -> Callable[[Place, str], list[str]]:
    def command(place: Place, prompt: str) -> list[str]:
        provider = {
            "npm": package,
            "name": "Capstan",
            "options": {"baseURL": f"{place.gateway}/v1", "apiKey": "any"},
            "models": {"coder": {"name": "coder", "attachment": True, "modalities": {"input": ["text", "image"]}}},
        }
        config: dict[str, Any] = {"provider": {"capstan": provider}}
        if server:
            config["mcp"] = {"words": {"type": "local", "command": place.server(), "enabled": True}}
        place.write(".config/opencode/opencode.json", json.dumps(config))
        return ["run", "--model", "capstan/coder", prompt]

    return command


def opencode(name: str, package: str) -> Agent:
    """Give opencode on one route."""
    return Agent(
        name=name,
        package="npm:opencode-ai",
        binary="opencode",
        main=with_tool("bash"),
        command=_opencode(package),
        environ=lambda _: {
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        },
        room=Room.SUMS_UP,
        bash=lambda command: Call("bash", {"command": command, "description": "Runs it"}),
        write=lambda path, text: Call("write", {"filePath": str(path), "content": text}),
        read=lambda path: Call("read", {"filePath": str(path)}),
        edit=lambda path, old, new: Call("edit", {"filePath": str(path), "oldString": old, "newString": new}),
        look=lambda path: Call("read", {"filePath": str(path)}),
    )


OPENCODE_CHAT = opencode("opencode, chat", "@ai-sdk/openai-compatible")
OPENCODE_RESPONSES = opencode("opencode, Responses", "@ai-sdk/openai")
OPENCODE_MESSAGES = replace(opencode("opencode, Messages", "@ai-sdk/anthropic"), asks_again=False)
OPENCODE_MCP = replace(
    OPENCODE_CHAT, command=_opencode("@ai-sdk/openai-compatible", server=True), lookup="words_lookup"
)
