"""What a request has cost, in the metrics and the header: every call that was sent, settled once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from capstan_contract.config import ExternalBackend, ExternalEndpoint, Price, Provider
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, completion, delta, frame
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

PROMPT = {"messages": [{"role": "user", "content": "x" * 4000}]}
PROMPT_TOKENS = 1006
Respond = Callable[[Received, Wire], Awaitable[None]]


async def _ask(gateway: RunningGateway, path: str = "chat/completions", **fields: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=60) as client:
        reply = await client.post(f"{gateway.url}/v1/{path}", json={"model": "m", **PROMPT, **fields}, timeout=60)
    await gateway.settled()
    return reply


def _tokens(gateway: RunningGateway, model: str = "m") -> tuple[float, float]:
    told = [gateway.metric("llm_tokens_total", model=model, direction=way) for way in ("input", "output")]
    return told[0], told[1]


def _calls(gateway: RunningGateway, how: str, model: str = "m") -> float:
    return gateway.metric("llm_calls_settled_total", model=model, how=how)


async def test_a_stream_that_its_client_leaves_has_cost_its_prompt_and_its_text(tmp_path: Path) -> None:
    """Nobody told the tokens of a stream that was cut off: its prompt and the text that came are estimated."""

    async def hangs(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        for word in ("one two ", "three four "):
            await wire.chunk(frame(delta("m", word)))
        await asyncio.Event().wait()

    price = Price(inputPerMillion=1000, outputPerMillion=2000)
    async with FakeUpstream(hangs) as upstream, running_gateway(tmp_path, entry("m", upstream.url, price=price)) as gw:
        async with (
            httpx2.AsyncClient(timeout=60) as client,
            client.stream(
                "POST", f"{gw.url}/v1/chat/completions", json={"model": "m", "stream": True, **PROMPT}
            ) as got,
        ):
            seen = b""
            async for piece in got.aiter_bytes():
                seen += piece
                if b"four" in seen:
                    break
        await gw.settled()
        assert _tokens(gw) == (PROMPT_TOKENS, 5)
        assert gw.metric("llm_cost_dollars", model="m") == pytest.approx((PROMPT_TOKENS * 1000 + 5 * 2000) / 1e6)
        assert (_calls(gw, "told"), _calls(gw, "estimated")) == (0, 1)


async def test_an_attempt_that_failed_behind_its_head_is_on_the_bill(tmp_path: Path) -> None:
    """A call that broke off may have been charged, and its retry as well: both are on the one bill."""
    asked = 0

    async def breaks_once(_: Received, wire: Wire) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            await wire.json(completion("m"))
            return
        await wire.head(200, "content-type: application/json", length=1000)
        await wire.raw(b"{")
        wire.reset()

    price = Price(inputPerMillion=1, outputPerMillion=1)
    async with (
        FakeUpstream(breaks_once) as one,
        FakeUpstream(breaks_once) as two,
        running_gateway(tmp_path, entry("m", one.url, two.url, price=price)) as gateway,
    ):
        reply = await _ask(gateway)
        assert reply.status_code == 200
        assert _tokens(gateway) == (PROMPT_TOKENS + 5, 2)
        assert (_calls(gateway, "told"), _calls(gateway, "estimated")) == (1, 1)
        assert reply.headers["x-capstan-cost"] == f"{(PROMPT_TOKENS + 7) / 1e6:.8f}"


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_what_was_refused_has_cost_nothing(tmp_path: Path, status: int) -> None:
    """An engine that answers with an error status charges nobody."""

    async def refuses(_: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "no"}}, status)

    async with FakeUpstream(refuses) as upstream, running_gateway(tmp_path, entry("m", upstream.url)) as gateway:
        assert (await _ask(gateway)).status_code >= 400
        assert _tokens(gateway) == (0, 0)
        assert (_calls(gateway, "told"), _calls(gateway, "estimated")) == (0, 0)


async def test_what_was_never_sent_has_cost_nothing(tmp_path: Path) -> None:
    """Nobody works on a request for which there was no connection."""
    async with running_gateway(tmp_path, entry("m", "http://127.0.0.1:1"), endpoint_wait_seconds=0.1) as gateway:
        assert (await _ask(gateway)).status_code >= 500
        assert _calls(gateway, "estimated") == 0


async def test_the_loser_of_a_race_is_on_the_bill(tmp_path: Path) -> None:
    """Of two attempts at one stream both have worked, though the client sees one of them."""

    async def first_hangs(request: Received, wire: Wire) -> None:
        await wire.stream_head()
        if sum(len(one.requests) for one in (slow, quick)) == 1:
            await asyncio.Event().wait()
        await wire.chunk(frame(delta("m", "four")) + frame(delta("m", None, "stop")))
        await wire.chunk(frame({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}) + DONE)
        await wire.end()

    async with FakeUpstream(first_hangs) as slow, FakeUpstream(first_hangs) as quick:
        settings = {"hedge_percent": 100.0, "hedge_after_seconds": 0.05}
        async with running_gateway(tmp_path, entry("m", slow.url, quick.url), **settings) as gateway:
            await _ask(gateway, stream=True)
            await eventually(lambda: _calls(gateway, "estimated") == 1, what="the loser to be settled")
            assert _tokens(gateway) == (PROMPT_TOKENS + 7, 1)
            assert _calls(gateway, "told") == 1


async def test_what_anthropic_writes_into_its_cache_has_its_own_price(tmp_path: Path) -> None:
    """Input, input from the cache, input into the cache and output are four prices."""
    usage = {
        "input_tokens": 10, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 100, "output_tokens": 5,
    }  # fmt: skip
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "usage": usage, "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "Hello"}],
    }  # fmt: skip

    async def answers(request: Received, wire: Wire) -> None:
        await wire.json({"input_tokens": 1000} if request.path.endswith("count_tokens") else message)

    async with FakeUpstream(answers) as upstream:
        claude = entry(
            "m",
            backend=ExternalBackend(
                provider=Provider.ANTHROPIC, endpoints=(ExternalEndpoint(name="a", url=upstream.url),)
            ),
            price=Price(inputPerMillion=3, cachedInputPerMillion=0.3, cacheWritePerMillion=3.75, outputPerMillion=15),
        )
        async with running_gateway(tmp_path, claude) as gateway:
            cost = (10 * 3 + 1000 * 3.75 + 100 * 0.3 + 5 * 15) / 1e6
            for path, fields in (("chat/completions", {}), ("messages", {"max_tokens": 9})):
                reply = await _ask(gateway, path, **fields)
                assert float(reply.headers["x-capstan-cost"]) == pytest.approx(cost)
            assert _tokens(gateway) == (2 * 1110, 10)
            await _ask(gateway, "messages/count_tokens")
            assert _calls(gateway, "told") + _calls(gateway, "estimated") == 2


NONSENSE: dict[str, tuple[dict[str, Any], Provider | None, Any]] = {
    "chat/completions": ({}, None, {
        "choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 2000, "completion_tokens": 30},
    }),
    "messages": ({"max_tokens": 9}, Provider.ANTHROPIC, {
        "type": "something else", "usage": {"input_tokens": 2000, "output_tokens": 30},
    }),
    "responses": ({"input": "x", "store": False}, Provider.OPENAI, {
        "object": "something else", "usage": {"input_tokens": 2000, "output_tokens": 30},
    }),
}  # fmt: skip


@pytest.mark.parametrize("path", NONSENSE)
async def test_nonsense_that_is_retried_costs_what_it_told(tmp_path: Path, path: str) -> None:
    """An answer that is none and is had elsewhere is on the bill as its provider counted it, once, in every dialect."""
    fields, provider, nonsense = NONSENSE[path]

    async def answers(_: Received, wire: Wire) -> None:
        await wire.json({**nonsense, "model": "m", "id": "1"})

    async with FakeUpstream(answers) as one, FakeUpstream(answers) as other:
        urls = {"a": one.url, "b": other.url}
        model = entry("m", *urls.values())
        if provider is not None:
            hosts = tuple(ExternalEndpoint(name=name, url=f"{url}/v1") for name, url in urls.items())
            model = entry("m", backend=ExternalBackend(provider=provider, endpoints=hosts))
        async with running_gateway(tmp_path, model) as gateway:
            assert (await _ask(gateway, path, **fields)).status_code == 502
            assert len(one.requests) + len(other.requests) == 2
            assert _tokens(gateway) == (4000, 60)
            assert _calls(gateway, "estimated") == 2


COSTED: dict[str, Any] = {"stream": True, "capstan": {"cost": True}}
PRICE = Price(inputPerMillion=1, outputPerMillion=2)


@pytest.mark.parametrize("include_usage", [None, True, False])
async def test_the_sdk_reads_what_a_stream_has_cost(tmp_path: Path, include_usage: bool | None) -> None:
    """In the usage of one last chunk, whatever is said of usage; the engine is asked nothing of the gateway's."""
    async with FakeUpstream() as upstream, running_gateway(tmp_path, entry("m", upstream.url, price=PRICE)) as gw:
        client = gw.client()
        more: dict[str, Any] = {} if include_usage is None else {"stream_options": {"include_usage": include_usage}}
        asking: Any = {"messages": [{"role": "user", "content": "x"}], "stream": True, **more}
        asking["extra_body"] = {"capstan": {"cost": True}}
        async with client:
            chunks = [chunk async for chunk in await client.chat.completions.create(model="m", **asking)]
        told = [chunk for chunk in chunks if chunk.usage is not None]
        assert told == [chunks[-1]]
        usage: Any = told[0].usage
        assert usage.cost == (usage.prompt_tokens + 2 * usage.completion_tokens) / 1e6 > 0
        assert (told[0].choices, told[0].id) == ([], chunks[0].id)
        await gw.settled()
        assert gw.metric("llm_cost_dollars", model="m") == usage.cost
        assert (_calls(gw, "told"), _calls(gw, "estimated")) == (1, 0)
        (asked,) = upstream.requests
        assert "capstan" not in asked.document
        assert asked.document["stream_options"] == {"include_usage": True}


async def test_a_cost_that_nobody_knows_is_null(tmp_path: Path) -> None:
    """A model without a price has a cost all the same; and who does not ask is told nothing."""
    async with FakeUpstream() as upstream, running_gateway(tmp_path, entry("m", upstream.url)) as gw:
        reply = await _ask(gw, **COSTED)
        assert reply.text.count('"cost":null') == 1
        assert reply.text.endswith("data: [DONE]\n\n")
        assert "cost" not in (await _ask(gw, stream=True)).text


@pytest.mark.parametrize("path", ["messages", "responses"])
async def test_other_dialects_tell_it_in_a_comment(tmp_path: Path, path: str) -> None:
    """Behind the last event: who reads events does not see it."""
    fields = {"max_tokens": 9} if path == "messages" else {"input": "x", "messages": None}
    async with FakeUpstream() as upstream, running_gateway(tmp_path, entry("m", upstream.url, price=PRICE)) as gw:
        reply = await _ask(gw, path, **COSTED, **fields)
        last = reply.text.rstrip().rpartition("\n\n")[2]
        assert last.startswith(": x-capstan-cost: 0.0000")
        assert float(last.rpartition(" ")[2]) == gw.metric("llm_cost_dollars", model="m")


async def test_the_cost_of_an_answer_in_one_piece_is_in_its_head(tmp_path: Path) -> None:
    """As without the field: its body stays what the engine said."""
    async with FakeUpstream() as upstream, running_gateway(tmp_path, entry("m", upstream.url, price=PRICE)) as gw:
        reply = await _ask(gw, capstan={"cost": True})
        assert float(reply.headers["x-capstan-cost"]) == gw.metric("llm_cost_dollars", model="m")
        assert "cost" not in reply.json()["usage"]


async def test_anthropics_sdk_passes_over_the_cost_of_a_stream(tmp_path: Path) -> None:
    """A comment behind the last event disturbs no client that did not look for it, whole messages are read as ever."""
    async with FakeUpstream() as upstream, running_gateway(tmp_path, entry("m", upstream.url, price=PRICE)) as gw:
        async with (
            anthropic.AsyncAnthropic(base_url=gw.url, api_key="unused", max_retries=0) as client,
            client.messages.stream(
                model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}],
                extra_body={"capstan": {"cost": True}},
            ) as stream,
        ):  # fmt: skip
            message = await stream.get_final_message()
        assert message.stop_reason is not None
        await gw.settled()
        cost = (message.usage.input_tokens + 2 * message.usage.output_tokens) / 1e6
        assert gw.metric("llm_cost_dollars", model="m") == pytest.approx(cost)
