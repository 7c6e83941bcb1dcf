"""The libraries that people write clients with, each as the real package before a gateway whose engine answers by rule.

What is looked at is what the client saw and what reached the engine. Each script of this folder runs once.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.config import Capability, ModelEntry
from support.agent_engine import USAGE, agent_engine, pictures_of, tools_of
from support.client_engine import CALLS, DONE, OBJECT, SEEN, TEXT, THOUGHT, WORDS, ClientEngine
from support.clients import Script, node, own_python, python_of
from support.gateway import entry
from support.gateway_process import gateway_process
from support.pictures import data_url, picture
from support.redis_server import redis_server

openai2, openai3 = (functools.partial(python_of, name) for name in ("openai2", "openai3"))
OFFICIAL, OPEN_WEBUI = Script("official.py", own_python), Script("open_webui.py", openai3)
LANGCHAIN, LITELLM = Script("langchain_.py", openai3), Script("litellm_.py", openai3)
PYDANTIC_AI, AGENTS = Script("pydantic_ai_.py", openai3), Script("openai_agents.py", openai3)
LLAMA_INDEX, INSTRUCTOR = Script("llama_index_.py", openai2), Script("instructor_.py", openai2)
AI_SDK, AI_SDK_STORED = (Script("ai_sdk.mjs", node, stored=stored) for stored in (False, True))
ALL = ("chat", "stream", "tools", "structured output", "images", "errors", "counting")
UNCOUNTED = ALL[:-1]
OBJECTS = ("stream", "structured output", "images", "errors")
PLAIN = ("chat", "stream", "errors", "counting")
UNSCHEMED = tuple(does for does in ALL if does != "structured output")
OPENAIS = ("RateLimitError", "BadRequestError")
LITELLMS = ("RateLimitError", "ContextWindowExceededError")
LANGCHAINS = ("OpenAIRateLimitError", "OpenAIInvalidRequestError")
LANGCHAIN_CLAUDES = ("AnthropicRateLimitError", "AnthropicContextOverflowError")
PYDANTIC_AIS = ("ModelRateLimitError", "ModelContextWindowExceededError")
INSTRUCTORS = ("InstructorRetryException", "InstructorRetryException")
AI_SDKS = ("AI_APICallError", "AI_APICallError")
REFUSED = ("Refused", "Refused")


@dataclass(frozen=True)
class Client:
    """A row of docs/compatibility.md."""

    row: str
    package: str
    script: Script
    does: tuple[str, ...] = ALL
    raises: tuple[str, str] = OPENAIS
    """What it raises for a busy engine, and for a prompt that is too long."""
    forgets: bool = False
    """Whether it keeps what the model thought from the next request, also from an API of its own."""


CLIENTS = (
    Client("openai (Python), chat", "pypi:openai", OFFICIAL),
    Client("openai (Python), Responses", "pypi:openai", OFFICIAL),
    Client("anthropic (Python)", "pypi:anthropic", OFFICIAL),
    Client("langchain-openai, chat", "pypi:langchain-openai", LANGCHAIN, raises=LANGCHAINS, forgets=True),
    Client("langchain-openai, Responses", "pypi:langchain-openai", LANGCHAIN, raises=LANGCHAINS),
    Client("langchain-anthropic", "pypi:langchain-anthropic", LANGCHAIN, raises=LANGCHAIN_CLAUDES),
    Client("litellm, `openai/`", "pypi:litellm", LITELLM, raises=LITELLMS),
    Client("litellm, `openai/`, Responses", "pypi:litellm", LITELLM, PLAIN, LITELLMS),
    Client("litellm, `anthropic/`", "pypi:litellm", LITELLM, raises=LITELLMS),
    Client("pydantic-ai, chat", "pypi:pydantic-ai-slim", PYDANTIC_AI, raises=PYDANTIC_AIS),
    Client("pydantic-ai, Responses", "pypi:pydantic-ai-slim", PYDANTIC_AI, raises=PYDANTIC_AIS),
    Client("pydantic-ai, Messages", "pypi:pydantic-ai-slim", PYDANTIC_AI, raises=PYDANTIC_AIS),
    Client("llama-index, OpenAILike", "pypi:llama-index-llms-openai-like", LLAMA_INDEX, UNCOUNTED, forgets=True),
    Client("llama-index, OpenAIResponses", "pypi:llama-index-llms-openai", LLAMA_INDEX, UNCOUNTED, forgets=True),
    Client("llama-index, Anthropic", "pypi:llama-index-llms-anthropic", LLAMA_INDEX, UNCOUNTED),
    Client("openai-agents, Responses", "pypi:openai-agents", AGENTS),
    Client("openai-agents, chat", "pypi:openai-agents", AGENTS, forgets=True),
    Client("instructor, tools", "pypi:instructor", INSTRUCTOR, OBJECTS, INSTRUCTORS),
    Client("instructor, JSON schema", "pypi:instructor", INSTRUCTOR, OBJECTS, INSTRUCTORS),
    Client("instructor, Anthropic", "pypi:instructor", INSTRUCTOR, OBJECTS, INSTRUCTORS),
    Client("AI SDK, openai, with a Redis", "npm:@ai-sdk/openai", AI_SDK_STORED, raises=AI_SDKS),
    Client("AI SDK, openai, `store: false`", "npm:@ai-sdk/openai", AI_SDK, raises=AI_SDKS, forgets=True),
    Client("AI SDK, openai, chat", "npm:@ai-sdk/openai", AI_SDK, raises=AI_SDKS, forgets=True),
    Client("AI SDK, openai-compatible", "npm:@ai-sdk/openai-compatible", AI_SDK, raises=AI_SDKS),
    Client("AI SDK, anthropic", "npm:@ai-sdk/anthropic", AI_SDK, raises=AI_SDKS),
    Client("Open WebUI's calls", "pypi:open-webui", OPEN_WEBUI, UNSCHEMED, REFUSED, forgets=True),
    Client("Open WebUI's calls, Responses", "pypi:open-webui", OPEN_WEBUI, UNSCHEMED, REFUSED),
)  # fmt: skip


@dataclass
class World:
    """A gateway, the engine behind it, and what the scripts have seen so far."""

    engine: ClientEngine
    gateway: str
    folder: Path
    seen: dict[Script, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def seen_by(self, script: Script) -> dict[str, dict[str, Any]]:
        """Run a script, once for all tests of it."""
        if script not in self.seen:
            with self._gateway_for(script) as gateway:
                self.seen[script] = script.run(gateway, self.folder / "picture.png", self.folder)
        return self.seen[script]

    @contextmanager
    def _gateway_for(self, script: Script) -> Iterator[str]:
        """Give the gateway, or one that stores responses for as long as the script runs."""
        if not script.stored:
            yield self.gateway
            return
        folder = self.folder / "stored"
        folder.mkdir()
        flags = ("--redis-url",)
        with redis_server(folder) as redis, gateway_process(folder, models(self.engine), *flags, redis.url) as gateway:
            yield gateway.url


def models(engine: ClientEngine) -> list[ModelEntry]:
    """Give one model under three names: some libraries do not stream, or begin, with one that they do not know."""
    known = ("gpt-4o", "claude-sonnet-4-5")
    return [
        entry(
            "coder",
            engine.url,
            upstreamName="engine",
            aliases=known,
            contextWindow=200_000,
            capabilities=(Capability.REASONING,),
        )
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run a gateway with one model."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "gateway").mkdir()
    (folder / "picture.png").write_bytes(picture())
    engine = ClientEngine()
    with agent_engine(engine), gateway_process(folder / "gateway", models(engine)) as gateway:
        yield World(engine, gateway.url, folder)


Asked = list[dict[str, Any]]


def chat(seen: Any, asked: Asked) -> None:
    """The engine's text arrives, for one request that has the prompt."""
    assert seen == {"text": TEXT}
    assert len(asked) == 1
    assert asked[0]["model"] == "engine"


def stream(seen: Any, asked: Asked) -> None:
    """It arrives in pieces, and was asked for so."""
    assert [body["stream"] for body in asked] == [True]
    if "object" in seen:
        assert seen == {"object": OBJECT}
    else:
        assert len(seen["pieces"]) > 1
        assert "".join(seen["pieces"]).strip() == TEXT


def tools(seen: Any, asked: Asked, forgets: bool) -> None:
    """Both calls arrive with their arguments; the engine has the tool's schema, all that it said, and results by id."""
    assert seen["calls"] == [[call.name, call.arguments] for call in CALLS]
    assert seen["text"].strip() == DONE
    first, second = asked
    assert list(tools_of(first)["weather"]["parameters"]["properties"]) == ["city"]
    turns = [message for message in second["messages"] if message["role"] in ("assistant", "tool")]
    assert WORDS in str(turns)
    assert [turn["reasoning_content"] for turn in turns if "reasoning_content" in turn] == [THOUGHT] * (not forgets)
    made = [call["id"] for turn in turns for call in turn.get("tool_calls") or ()]
    assert len(set(made)) == len(CALLS)
    results = {turn["tool_call_id"]: str(turn["content"]) for turn in turns if turn["role"] == "tool"}
    assert list(results) == made
    assert ["7 degrees" in results[made[0]], "21 degrees" in results[made[1]]] == [True, True]


def structured_output(seen: Any, asked: Asked) -> None:
    """The object arrives, and the engine has its schema: as the form of the answer, or as a tool's."""
    assert seen == {"object": OBJECT}
    (body,) = asked
    form = body.get("response_format") or {}
    schemas = [form["json_schema"]["schema"]] if "json_schema" in form else []
    schemas += [tool["parameters"] for tool in tools_of(body).values()]
    assert [sorted(schema["properties"]) for schema in schemas] == [["city", "degrees"]]


def images(seen: Any, asked: Asked) -> None:
    """The engine has the picture as it was, and the client the answer."""
    assert seen in ({"text": SEEN}, {"object": OBJECT}) or seen["text"].strip() == SEEN
    assert [pictures_of(body) for body in asked] == [[data_url(picture())]]


def errors(seen: Any, asked: Asked, raises: tuple[str, str]) -> None:
    """What the engine refuses raises the class that the library has for it, with status and words, asked once."""
    assert [seen[why]["class"] for why in ("busy", "long")] == list(raises)
    assert [seen[why].get("status") or status for why, status in (("busy", 429), ("long", 400))] == [429, 400]
    assert "busy" in seen["busy"]["says"]
    assert "maximum context length" in seen["long"]["says"] or "prompt is too long" in seen["long"]["says"]
    assert len(asked) == 2


def counting(seen: Any, asked: Asked) -> None:
    """The engine's usage arrives with whole and streamed answers alike; what counts before it asks is told a number."""
    told = [USAGE["prompt_tokens"], USAGE["completion_tokens"]]
    assert (seen["whole"], seen["stream"]) == (told, told)
    assert seen.get("counted", 1) > 0
    assert len(asked) == 2


CHECKS: dict[str, Callable[[Any, Asked], None]] = {
    "chat": chat, "stream": stream, "structured output": structured_output, "images": images,
    "counting": counting,
}  # fmt: skip


def cases() -> list[Any]:
    """Give each client with each thing that it does, with the mark of its cell."""
    mark = pytest.mark.compatibility
    return [
        pytest.param(
            client,
            does,
            id=f"{client.row}-{does}",
            marks=mark(table="clients", row=client.row, package=client.package, does=does),
        )
        for client in CLIENTS
        for does in client.does
    ]


@pytest.mark.parametrize(("client", "does"), cases())
def test_client(world: World, client: Client, does: str) -> None:
    """The library does it here as with the API that it was written for."""
    seen = world.seen_by(client.script)[client.row][does]
    assert "failed" not in seen, seen["failed"]
    asked = world.engine.asked_by(client.row, does)
    if does == "errors":
        errors(seen, asked, client.raises)
    elif does == "tools":
        tools(seen, asked, client.forgets)
    else:
        CHECKS[does](seen, asked)


@pytest.mark.parametrize("script", list(dict.fromkeys(client.script for client in CLIENTS)))
def test_nothing_that_a_script_does_is_left_out(world: World, script: Script) -> None:
    """Each thing that a script tries is a cell of the page."""
    tried = {(row, does) for row, of in world.seen_by(script).items() for does in of}
    assert tried == {(client.row, does) for client in CLIENTS if client.script == script for does in client.does}
