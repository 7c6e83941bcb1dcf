"""Engines that count a stream chunk by chunk: limits follow their counts, not an estimate, and so do bills."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from capstan_contract.config import ModelEntry, PolicyEntry, Price
from capstan_contract.limits import LimitRule, Per, RateLimitBody, Unit, rate_limit_entry
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, delta, frame, usage_chunk
from support.counts import Counts
from support.dialects import read_chat, read_messages
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

SLICE = 8
WORD = "abcd"
"""One token, by the rule for estimates."""
EACH = 3
"""And so many by the engine's own."""
INPUT = 11
DAY = 86_400_000
ASKED = {"include_usage": True, "continuous_usage_stats": True}
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"]


class Engine:
    """Is like vLLM: tells what it has counted so far with every chunk, when it is asked to."""

    def __init__(self, words: int = 500) -> None:
        self.words = words
        self.told = 0

    async def __call__(self, request: Received, wire: Wire) -> None:
        """Answer."""
        options, chat = request.document["stream_options"], request.path.endswith("/chat/completions")
        await wire.stream_head()
        for number in range(1, self.words + 1):
            await wire.chunk(self.chunk(number, WORD, None, chat=chat, options=options))
            self.told = number * EACH
            await asyncio.sleep(0.001)
        end = usage_chunk("chat")
        end["usage"] = count(self.words)
        await wire.chunk(self.chunk(self.words, "", "stop", chat=chat, options=options) + frame(end) + DONE)
        await wire.end()

    @staticmethod
    def chunk(number: int, text: str, finish: str | None, *, chat: bool, options: dict[str, Any]) -> bytes:
        """Write a chunk."""
        chunk = delta("chat", text, finish)
        if not chat:
            chunk |= {"object": "text_completion"}
            chunk["choices"] = [{"index": 0, "text": text, "finish_reason": finish}]
        if options.get("continuous_usage_stats"):
            chunk["usage"] = count(number)
        return frame(chunk)


def count(words: int) -> dict[str, int]:
    """Give what the engine counts when it has written so many words."""
    output = words * EACH
    return {"prompt_tokens": INPUT, "total_tokens": INPUT + output, "completion_tokens": output}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine."""
    async with FakeUpstream(Engine()) as fake:
        yield fake


def tokens(amount: int) -> PolicyEntry:
    """Give a policy that has so many tokens of output for a day."""
    rule = LimitRule(name="out", per=Per.KEY, unit=Unit.OUTPUT_TOKENS, amount=amount, windowMillis=DAY, burst=amount)
    return rate_limit_entry("test", "p", RateLimitBody(limits=(rule,)))


def vllm(upstream: FakeUpstream, *policies: PolicyEntry, **fields: Any) -> ModelEntry:
    """Give a model whose engine counts."""
    given = {"policies": tuple(policy.id for policy in policies), "continuousUsage": True, **fields}
    return entry("chat", upstream.url, price=Price(inputPerMillion=0, outputPerMillion=1_000_000), **given)


def body(path: str, **more: Any) -> dict[str, Any]:
    """Give a request for a long stream."""
    said: dict[str, Any] = {"messages": [{"role": "user", "content": "say hello"}], "max_tokens": 500}
    if path == "/v1/completions":
        said = {"prompt": "say hello", "max_tokens": 500}
    if path == "/v1/responses":
        said = {"input": "say hello", "max_output_tokens": 500}
    return {"model": "chat", "stream": True, **said, **more}


async def ask(gateway: RunningGateway, path: str, **more: Any) -> bytes:
    """Give the stream."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        found = await client.post(path, json=body(path, **more))
    await gateway.settled()
    assert found.status_code == 200, found.text
    return found.content


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """Give what the frames of a stream hold."""
    data = [line.removeprefix(b"data: ") for line in stream.split(b"\n") if line.startswith(b"data: ")]
    return [orjson.loads(one) for one in data if one != b"[DONE]"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_cut_stream_costs_what_its_engine_has_counted(
    tmp_path: Path, upstream: FakeUpstream, path: str
) -> None:
    """In every dialect: a limit ends it by those counts, and they are what is told, charged and billed."""
    policy, store = tokens(60), Counts()
    async with running_gateway(
        tmp_path, vllm(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        asks_usage = path in PATHS[:2]
        stream = await ask(gateway, path, **({"stream_options": {"include_usage": True}} if asks_usage else {}))
        assert upstream.requests[0].document["stream_options"] == ASKED
        words = stream.count(b'"%b"' % WORD.encode())
        if path == "/v1/messages":
            message = read_messages(stream)
            assert message["stop_reason"] == "max_tokens"
            told = message["usage"]["output_tokens"]
        elif path == "/v1/responses":
            last = events_of(stream)[-1]["response"]
            assert last["incomplete_details"]["reason"] == "max_output_tokens"
            told = last["usage"]["output_tokens"]
        else:
            *chunks, end, usage = events_of(stream)
            assert end["choices"][0]["finish_reason"] == "length"
            assert not any(chunk.get("usage") for chunk in [*chunks, end])
            told = usage["usage"]["completion_tokens"]
            assert usage["usage"]["prompt_tokens"] == INPUT
        assert store.used() == [told] == [words * EACH]
        assert 60 - SLICE < told <= 60 + SLICE
        assert gateway.metric("llm_calls_settled_total", model="chat", how="told") == 1
        assert gateway.metric("llm_tokens_total", model="chat", direction="output") == told
        assert gateway.metric("llm_tokens_total", model="chat", direction="input") == INPUT


@pytest.mark.parametrize("path", PATHS)
async def test_a_whole_stream_is_as_it_would_be_without_counts(
    tmp_path: Path, upstream: FakeUpstream, path: str
) -> None:
    """A client cannot tell whether its stream was counted."""
    upstream.respond = Engine(words=20)
    policy = tokens(1000)
    async with running_gateway(
        tmp_path, vllm(upstream, policy), policies=[policy], limiter=Counts().limiter, stream_slice_tokens=8
    ) as gateway:
        counted = await ask(gateway, path)
    (tmp_path / "other").mkdir()
    async with running_gateway(tmp_path / "other", vllm(upstream)) as gateway:
        plain = await ask(gateway, path)
    assert upstream.requests[0].document["stream_options"] == ASKED
    assert upstream.requests[1].document["stream_options"] == {"include_usage": True}
    if path in PATHS[:2]:
        assert counted == plain
    else:
        assert counted.count(WORD.encode()) == plain.count(WORD.encode())
        assert [event["type"] for event in events_of(counted)] == [event["type"] for event in events_of(plain)]


@pytest.mark.parametrize("more", [{"continuousUsage": False}, {"policies": ()}], ids=["another engine", "no limits"])
async def test_nobody_else_is_asked(tmp_path: Path, upstream: FakeUpstream, more: dict[str, Any]) -> None:
    """An engine that may not know the option, and a stream that no limit follows."""
    upstream.respond = Engine(words=20)
    policy = tokens(1000)
    async with running_gateway(
        tmp_path, vllm(upstream, policy, **more), policies=[policy],
        limiter=Counts().limiter, stream_slice_tokens=SLICE,
    ) as gateway:  # fmt: skip
        await ask(gateway, PATHS[0])
    assert upstream.requests[0].document["stream_options"] == {"include_usage": True}


async def test_a_client_that_asks_for_counts_gets_them(tmp_path: Path, upstream: FakeUpstream) -> None:
    """They are its own: nothing is taken out."""
    upstream.respond = Engine(words=20)
    policy = tokens(1000)
    async with running_gateway(
        tmp_path, vllm(upstream, policy), policies=[policy], limiter=Counts().limiter, stream_slice_tokens=8
    ) as gateway:
        stream = await ask(gateway, PATHS[0], stream_options=ASKED)
    assert [event["usage"]["completion_tokens"] for event in events_of(stream)][:20] == [*range(EACH, 61, EACH)]


async def test_a_client_that_leaves_pays_what_was_counted(tmp_path: Path, upstream: FakeUpstream) -> None:
    """As far as its engine had come when it was stopped, and not by an estimate."""
    engine = Engine()
    upstream.respond = engine
    policy, store = tokens(10_000), Counts()
    async with running_gateway(
        tmp_path, vllm(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        came = 0
        async with (
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
            client.stream("POST", PATHS[0], json=body(PATHS[0])) as found,
        ):
            async for line in found.aiter_lines():
                came += WORD in line
                if came > 20:
                    break
        await gateway.settled()
        await eventually(lambda: upstream.active == 0)
        (kept,) = store.used()
        assert kept % EACH == 0
        assert came * EACH <= kept <= engine.told + EACH
        assert gateway.metric("llm_calls_settled_total", model="chat", how="told") == 1


async def test_many_chunks_in_one_piece_are_counted_one_by_one(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A role comes first, with a count of nothing; no more is given than there is left."""

    async def respond(request: Received, wire: Wire) -> None:
        options = request.document["stream_options"]
        role = delta("chat", "")
        role["choices"][0]["delta"]["role"] = "assistant"
        role["usage"] = count(0)
        words = [Engine.chunk(number, WORD, None, chat=True, options=options) for number in range(1, 301)]
        await wire.stream_head()
        await wire.chunk(frame(role) + b"".join(words))
        await asyncio.Event().wait()

    upstream.respond = respond
    policy, store = tokens(60), Counts()
    async with running_gateway(
        tmp_path, vllm(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        answer = await ask(gateway, PATHS[0])
    assert read_chat(answer)["choices"][0]["finish_reason"] == "length"
    (kept,) = store.used()
    assert kept == EACH * answer.count(b'"%b"' % WORD.encode())
    assert 60 - SLICE < kept <= 60 + SLICE
