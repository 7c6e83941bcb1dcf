"""Tokenizers that were shipped with the config: who asks for a count has it from them, and a wrong one is found out."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.config import Provider, Task
from fakes.openai_upstream import FakeUpstream, Received, Wire, delta, frame, usage_chunk
from support.gateway import RunningGateway, entry, hosted_by, running_gateway
from support.tokenizers import ship_words
from support.wait import eventually

MESSAGES = [{"role": "user", "content": "a b"}]


async def ask(gateway: RunningGateway, path: str, **fields: Any) -> httpx2.Response:
    """Ask the model `m`."""
    async with httpx2.AsyncClient(timeout=60) as client:
        return await client.post(f"{gateway.url}{path}", json={"model": "m", **fields}, timeout=60)


def telling(tokens: int, *, count: int = 77) -> Any:
    """Give an engine whose prompts have so many tokens, and which tokenizes."""

    async def respond(received: Received, wire: Wire) -> None:
        if received.path == "/tokenize":
            await wire.json({"count": count, "max_model_len": 1, "tokens": [], "token_strs": None})
            return
        if received.document.get("stream"):
            await wire.stream_head()
            usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
            for document in (delta("m", "x"), delta("m", None, "stop"), {**usage_chunk("m"), "usage": usage}):
                await wire.chunk(frame(document))
            await wire.chunk(b"data: [DONE]\n\n")
            await wire.end()
            return
        message = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
        await wire.json({"id": "1", "object": "chat.completion", "choices": [message], "usage": usage})

    return respond


async def ready(gateway: RunningGateway) -> None:
    """Wait until the tokenizer is there."""
    await eventually(lambda: gateway.gateway.deps.counters.of("test/m") is not None, what="the tokenizer")


@pytest.mark.parametrize(
    ("path", "asked", "told"),
    [
        ("/tokenize", {"prompt": "a b"}, {"count": 2, "tokens": [2, 3], "counted_by": "file"}),
        ("/v1/tokenize", {"messages": MESSAGES}, {"count": 4, "counted_by": "file"}),
        ("/v1/messages/count_tokens", {"messages": MESSAGES}, {"input_tokens": 4}),
        ("/v1/messages/count_tokens", {"messages": MESSAGES, "system": "b"}, {"input_tokens": 6}),
    ],
)
async def test_who_asks_is_told_by_the_file(tmp_path: Path, path: str, asked: dict[str, Any], told: Any) -> None:
    """Of the model's own tokenizer and template, without a word to the engine; and it is said."""
    ship_words(tmp_path / "shipped" / "test" / "m")
    async with (
        FakeUpstream(telling(1)) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url), tokenizers_dir=tmp_path / "shipped") as gateway,
    ):
        await ready(gateway)
        reply = await ask(gateway, path, **asked)
        assert reply.status_code == 200
        assert {key: reply.json()[key] for key in told} == told
        assert reply.headers["x-capstan-counted-by"] == "file"
        assert gateway.metric("gateway_tokenizers", kind="file") == 1
    assert upstream.requests == []


@pytest.mark.parametrize(
    "asked",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]},
        {"prompt": "a", "return_token_strs": True},
    ],
)
async def test_what_the_file_cannot_tell_the_engine_does(tmp_path: Path, asked: dict[str, Any]) -> None:
    """Pictures, and the text of each token."""
    ship_words(tmp_path / "shipped" / "test" / "m")
    async with (
        FakeUpstream(telling(1)) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url), tokenizers_dir=tmp_path / "shipped") as gateway,
    ):
        await ready(gateway)
        assert (await ask(gateway, "/tokenize", **asked)).json()["counted_by"] == "engine"


async def test_who_only_asks_keeps_no_decision_waiting(tmp_path: Path) -> None:
    """Routes that count have a thread of their own, apart from the one by which requests are decided."""
    ship_words(tmp_path / "shipped" / "test" / "m")
    async with (
        FakeUpstream(telling(1)) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url), tokenizers_dir=tmp_path / "shipped") as gateway,
    ):
        await ready(gateway)
        deps, may = gateway.gateway.deps, threading.Event()
        hung = asyncio.create_task(deps.counting.run(may.wait))
        try:
            assert (await ask(gateway, "/tokenize", prompt="a")).json()["counted_by"] == "file"
        finally:
            may.set()
            await hung


async def test_a_broken_file_takes_nothing_away(tmp_path: Path) -> None:
    """It is said in the metric and in the notes of a gateway that is ready; the engine counts."""
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "own.tokenizer.json").write_text("{")
    async with (
        FakeUpstream(telling(1)) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url, tokenizer="own"), tokenizers_dir=shipped) as gateway,
    ):
        await eventually(
            lambda: gateway.metric("gateway_tokenizer_faults_total", tokenizer="own", reason="no tokenizer") == 1
        )
        assert (await ask(gateway, "/tokenize", prompt="a")).json()["counted_by"] == "engine"
        assert gateway.gateway.not_ready() is None
        assert [note for note in gateway.gateway.notes() if "own" in note]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_wrong_tokenizer_is_found_out(tmp_path: Path, stream: bool) -> None:
    """What it counts is not what the engine tells of the same prompts: the engine is asked from then on."""
    ship_words(tmp_path / "shipped" / "test" / "m")
    async with (
        FakeUpstream(telling(40)) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url), tokenizers_dir=tmp_path / "shipped") as gateway,
    ):
        await ready(gateway)

        async def is_out() -> bool:
            await ask(gateway, "/v1/chat/completions", messages=MESSAGES, stream=stream)
            return gateway.gateway.deps.counters.of("test/m") is None

        await eventually(is_out, what="that it is found out")
        assert (await ask(gateway, "/tokenize", prompt="a")).json()["counted_by"] == "engine"
        assert gateway.metric("gateway_tokenizer_faults_total", tokenizer="test/m", reason="distrusted") == 1


async def test_where_too_much_waits_the_next_source_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is refused because others count."""
    ship_words(tmp_path / "shipped" / "test" / "m")
    async with (
        FakeUpstream(telling(1)) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url), tokenizers_dir=tmp_path / "shipped") as gateway,
    ):
        await ready(gateway)
        monkeypatch.setattr(gateway.gateway.deps.tokenizing, "_most", 0)
        assert (await ask(gateway, "/tokenize", prompt="a")).json()["counted_by"] == "engine"


async def test_a_right_tokenizer_stays(tmp_path: Path) -> None:
    """Streams and whole answers are compared, and nothing else."""
    ship_words(tmp_path / "shipped" / "test" / "m")
    async with (
        FakeUpstream(telling(4)) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url), tokenizers_dir=tmp_path / "shipped") as gateway,
    ):
        await ready(gateway)
        for _ in range(10):
            assert (await ask(gateway, "/v1/chat/completions", messages=MESSAGES)).status_code == 200
        await gateway.settled()
        assert gateway.gateway.deps.counters.of("test/m") is not None


async def test_a_model_of_anthropic_is_counted_by_its_api(tmp_path: Path) -> None:
    """Whoever names a tokenizer for one: nobody has published it."""
    ship_words(tmp_path / "shipped" / "x")

    async def respond(_: Received, wire: Wire) -> None:
        await wire.json({"input_tokens": 99})

    async with FakeUpstream(respond) as upstream:
        model = entry("m", backend=hosted_by(Provider.ANTHROPIC, upstream.url, key=None), task=Task.CHAT, tokenizer="x")
        async with running_gateway(tmp_path, model, tokenizers_dir=tmp_path / "shipped") as gateway:
            await ready(gateway)
            told = await ask(gateway, "/v1/messages/count_tokens", messages=MESSAGES)
            assert (told.json()["input_tokens"], told.headers["x-capstan-counted-by"]) == (99, "provider")
