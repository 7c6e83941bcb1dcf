"""pi: any route, by the API that its provider names."""

import json
from collections.abc import Callable

from support.agent_engine import Call
from support.agents.program import Agent, Place, Room, with_tool


def _pi(api: str) -> Callable[[Place, str], list[str]]:
    def command(place: Place, prompt: str) -> list[str]:
        base = place.gateway if api == "anthropic-messages" else f"{place.gateway}/v1"
        model = {"id": "coder", "name": "coder", "input": ["text", "image"], "contextWindow": 32768, "maxTokens": 4096}
        provider = {"baseUrl": base, "api": api, "apiKey": "any", "models": [model]}
        place.write(".pi/agent/models.json", json.dumps({"providers": {"capstan": provider}}))
        return ["-p", "--no-session", "--provider", "capstan", "--model", "coder", prompt]

    return command


def pi(name: str, api: str, *, asks_again: bool) -> Agent:
    """Give pi on one route."""
    return Agent(
        name=name,
        package="npm:@mariozechner/pi-coding-agent",
        binary="pi",
        main=with_tool("bash"),
        command=_pi(api),
        environ=lambda _: {"PI_OFFLINE": "1"},
        asks_again=asks_again,
        room=Room.SUMS_UP_AND_ENDS,
        bash=lambda command: Call("bash", {"command": command}),
        write=lambda path, text: Call("write", {"path": str(path), "content": text}),
        read=lambda path: Call("read", {"path": str(path)}),
        edit=lambda path, old, new: Call("edit", {"path": str(path), "edits": [{"oldText": old, "newText": new}]}),
        look=lambda path: Call("read", {"path": str(path)}),
    )


PI_CHAT = pi("pi, chat", "openai-completions", asks_again=False)
PI_RESPONSES = pi("pi, Responses", "openai-responses", asks_again=True)
PI_MESSAGES = pi("pi, Messages", "anthropic-messages", asks_again=False)
