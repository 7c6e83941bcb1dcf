"""Requests that begin with a prompt of their model, by its name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.config import ModelEntry, PromptPrefix, RouterBackend, RouterMember
from fakes.openai_upstream import FakeUpstream, answer
from support.gateway import entry, running_gateway
from support.worker import simulator

RULES, OTHER = "You are the assistant of Example Inc.", "You translate."
PREFIXES = (PromptPrefix(name="rules", system=RULES), PromptPrefix(name="translator", system=OTHER))
USER: Any = {"role": "user", "content": "go on"}
SYSTEM: Any = {"role": "system", "content": RULES}
NAMED: tuple[dict[str, Any], ...] = (
    {"prefix_id": "rules"},
    {"capstan": {"prefix": "rules"}},
    {"prefix_id": "rules", "capstan": {"prefix": "rules", "cost": False}},
)
CHAT, MESSAGES, RESPONSES, TEXT = "/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"


@asynccontextmanager
async def serving(folder: Path, *more: ModelEntry) -> AsyncIterator[tuple[FakeUpstream, httpx2.AsyncClient]]:
    """A gateway with a model that has prompts, its engine, and a client."""
    async with FakeUpstream(answer) as upstream:
        model = entry("m", upstream.url, prefixes=PREFIXES)
        plain = entry("plain", upstream.url)
        async with (
            running_gateway(folder, model, plain, *more) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            yield upstream, client


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (CHAT, {"messages": [USER]}, {"messages": [SYSTEM, USER]}),
    (CHAT, {"messages": [USER], "stream": True}, {"messages": [SYSTEM, USER]}),
    (
        CHAT,
        {"messages": [{"role": "system", "content": "Be short."}, USER]},
        {"messages": [{"role": "system", "content": f"{RULES}\n\nBe short."}, USER]},
    ),
    (
        CHAT,
        {"messages": [{"role": "developer", "content": "Be short."}, USER]},
        {"messages": [{"role": "system", "content": f"{RULES}\n\nBe short."}, USER]},
    ),
    (
        CHAT,
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "Be short."}]}, USER]},
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": RULES}, {"type": "text", "text": "Be short."}]},
                USER,
            ]
        },
    ),
    (MESSAGES, {"messages": [USER], "max_tokens": 9}, {"messages": [SYSTEM, USER]}),
    (
        MESSAGES,
        {"messages": [USER], "max_tokens": 9, "system": "Be short."},
        {"messages": [{"role": "system", "content": f"{RULES}\n\nBe short."}, USER]},
    ),
    (RESPONSES, {"input": "go on"}, {"messages": [SYSTEM, USER]}),
    (
        RESPONSES,
        {"input": "go on", "instructions": "Be short.", "stream": True},
        {"messages": [{"role": "system", "content": f"{RULES}\n\nBe short."}, USER]},
    ),
    (TEXT, {"prompt": "Go on."}, {"prompt": f"{RULES}Go on."}),
    (TEXT, {"prompt": ["a", "b"]}, {"prompt": [f"{RULES}a", f"{RULES}b"]}),
]


@pytest.mark.parametrize(("path", "body", "sent"), CASES)
async def test_the_engine_gets_the_whole_prompt(
    path: str, body: dict[str, Any], sent: dict[str, Any], tmp_path: Path
) -> None:
    """In every dialect the prompt comes first, and nothing of how it was named goes out."""
    async with serving(tmp_path) as (upstream, client):
        for named in NAMED:
            response = await client.post(path, json={"model": "m", **body, **named})
            assert response.status_code == 200, response.text
        for received in upstream.requests:
            document = received.document
            assert {name: document[name] for name in sent} == sent
            assert {"prefix_id", "capstan"}.isdisjoint(document)
        assert len(upstream.requests) == len(NAMED)


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("m", CHAT, {"prefix_id": "no", "messages": [USER]}, "`rules`, `translator`"),
    ("m", CHAT, {"capstan": {"prefix": "no"}, "messages": [USER]}, "`rules`, `translator`"),
    ("m", MESSAGES, {"prefix_id": "no", "messages": [USER], "max_tokens": 1}, "`rules`, `translator`"),
    ("m", RESPONSES, {"prefix_id": "no", "input": "go on"}, "`rules`, `translator`"),
    ("plain", CHAT, {"prefix_id": "rules", "messages": [USER]}, "has no prefixes"),
    ("router", CHAT, {"prefix_id": "rules", "messages": [USER]}, "has no prefixes"),
    ("m", CHAT, {"prefix_id": 5, "messages": [USER]}, "name of a prefix"),
    ("m", CHAT, {"prefix_id": "", "messages": [USER]}, "name of a prefix"),
    ("m", CHAT, {"prefix_id": "rules", "capstan": {"prefix": "translator"}, "messages": [USER]}, "the same as"),
    ("m", TEXT, {"prefix_id": "rules", "prompt": [1, 2]}, "of text only"),
    ("m", TEXT, {"prefix_id": "rules", "prompt": [[1], [2]]}, "of text only"),
]


@pytest.mark.parametrize(("model", "path", "body", "says"), REFUSED)
async def test_what_names_no_prompt_is_refused(
    model: str, path: str, body: dict[str, Any], says: str, tmp_path: Path
) -> None:
    """With status 400, the names that there are, and before any engine is asked."""
    router = entry("router", backend=RouterBackend(members=(RouterMember(model="test/m"),)))
    async with serving(tmp_path, router) as (upstream, client):
        response = await client.post(path, json={"model": model, **body})
        assert response.status_code == 400
        assert says in response.json()["error"]["message"]
        assert upstream.requests == []


async def test_null_names_nothing(tmp_path: Path) -> None:
    """As in OpenAI's API, a field that is null is not there."""
    async with serving(tmp_path) as (upstream, client):
        body = {"model": "plain", "messages": [USER], "prefix_id": None, "capstan": {"prefix": None}}
        assert (await client.post(CHAT, json=body)).status_code == 200
        assert upstream.requests[0].document["messages"] == [USER]


async def test_the_engine_finds_what_it_has_computed(tmp_path: Path) -> None:
    """A continuation hits the blocks of the same prompt, whether it was written out or named."""
    text = " ".join(f"word{number}" for number in range(200))
    with simulator() as sim:
        model = entry("sim", sim.url, prefixes=(PromptPrefix(name="long", system=text),))
        async with (
            running_gateway(tmp_path, model) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            written = {"messages": [{"role": "system", "content": text}, {"role": "user", "content": "one"}]}
            await client.post(CHAT, json={"model": "sim", "max_tokens": 1, **written})
            named = {"messages": [{"role": "user", "content": "two"}], "prefix_id": "long"}
            told = await client.post(CHAT, json={"model": "sim", "max_tokens": 1, **named})
    usage = told.json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 0.8 * usage["prompt_tokens"]


async def test_the_prompt_is_counted(tmp_path: Path) -> None:
    """Who asks how many tokens a request has is told of the whole of it."""
    with simulator() as sim:
        model = entry("sim", sim.url, prefixes=PREFIXES)
        async with (
            running_gateway(tmp_path, model) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            path, base = "/v1/messages/count_tokens", {"model": "sim", "messages": [USER]}
            bodies = (base, {**base, "system": RULES}, {**base, "prefix_id": "rules"})
            counts = [(await client.post(path, json=body)).json()["input_tokens"] for body in bodies]
    assert counts[0] < counts[1] == counts[2]
