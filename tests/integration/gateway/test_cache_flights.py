"""Requests for one answer at once, through a running gateway."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.caches import CacheBody, cache_entry
from capstan_contract.limits import CountCached, LimitRule, Per, RateLimitBody, Unit, rate_limit_entry
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, answer, completion, delta, frame
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

POLICY = cache_entry("t", "c", CacheBody())
MESSAGES: Any = [{"role": "user", "content": "what is the capital of France?"}]


class Gate:
    """An engine that answers when a test says so."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.fails = 0
        self.usage: Any = None

    async def respond(self, received: Received, wire: Wire) -> None:
        """Wait, and answer."""
        await self.open.wait()
        if self.fails:
            self.fails -= 1
            await wire.json({"error": {"message": "no"}}, status=500)
        else:
            await answer(received, wire)


@pytest.fixture
def gate() -> Gate:
    """One that is closed."""
    return Gate()


@pytest.fixture
async def upstream(gate: Gate) -> AsyncIterator[FakeUpstream]:
    """An engine behind it."""
    async with FakeUpstream(gate.respond) as fake:
        yield fake


async def ask(gateway: RunningGateway, headers: str = "", **fields: Any) -> tuple[str, dict[str, str], str]:
    """Ask on a connection of its own; give status, head and body. A client of a library takes longer to be made."""
    body = json.dumps({"model": "chat", "messages": MESSAGES, **fields})
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1 << 22)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
    try:
        answered = (await reader.read()).decode()
    finally:
        writer.close()
    first, _, rest = answered.partition("\r\n")
    lines, _, said = rest.partition("\r\n\r\n")
    named = dict(line.split(": ", 1) for line in lines.split("\r\n") if ": " in line)
    return first.split(" ")[1], named, said


async def at_once(
    gateway: RunningGateway, gate: Gate, count: int, **fields: Any
) -> Sequence[tuple[str, dict[str, str], str]]:
    """Ask so often, and let the engine answer when all wait."""
    gate.open.clear()
    asking = [asyncio.create_task(ask(gateway, **fields)) for _ in range(count)]
    await eventually(lambda: len(gateway.gateway.requests) == count, seconds=60)
    gate.open.set()
    return await asyncio.gather(*asking)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_thousand_requests_at_once_are_one_call(
    stream: bool, gate: Gate, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """In one piece and as streams: everybody gets all of it, and one was tried."""
    model = entry("chat", upstream.url, policies=(POLICY.id,))
    async with running_gateway(tmp_path, model, policies=(POLICY,)) as gateway:
        answers = await at_once(gateway, gate, 1000, stream=stream)
    assert {status for status, _, _ in answers} == {"200"}
    words = [head["x-cache"] for _, head, _ in answers]
    assert (words.count("miss"), words.count("hit-memory")) == (1, 999)
    assert sorted(head["x-gateway-attempts"] for _, head, _ in answers) == ["0"] * 999 + ["1"]
    assert len({said for _, _, said in answers}) == 1
    assert len(upstream.requests) == 1


async def test_when_the_engine_fails_others_ask_one_at_a_time(
    gate: Gate, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Who led is told so; of those who waited one asks again, and all others have its answer."""
    gate.fails = 1
    model = entry("chat", upstream.url, policies=(POLICY.id,))
    async with running_gateway(tmp_path, model, policies=(POLICY,)) as gateway:
        answers = await at_once(gateway, gate, 50)
    statuses = [status for status, _, _ in answers]
    assert (statuses.count("200"), len(statuses)) == (49, 50)
    assert len(upstream.requests) == 2


async def test_clients_of_one_answer_get_it_in_the_form_that_each_asks_for(
    gate: Gate, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Who asks for the usage of a stream at once with who does not is told it, and the other one is not."""
    model = entry("chat", upstream.url, policies=(POLICY.id,))
    async with running_gateway(tmp_path, model, policies=(POLICY,)) as gateway:
        plain = asyncio.create_task(ask(gateway, stream=True))
        told = asyncio.create_task(ask(gateway, stream=True, stream_options={"include_usage": True}))
        await eventually(lambda: len(gateway.gateway.requests) == 2)
        gate.open.set()
        (_, _, without), (_, _, with_usage) = await asyncio.gather(plain, told)
    assert "prompt_tokens" not in without
    assert "prompt_tokens" in with_usage


async def test_a_client_that_stalls_keeps_others_from_nothing(
    gate: Gate, upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a stream that is longer than what is kept, who does not read is left behind; the others get all of it."""
    monkeypatch.setattr("capstan_gateway.pipeline.caches.recording.STALL_SECONDS", 0.2)

    async def long(received: Received, wire: Wire) -> None:
        await wire.stream_head()
        for _ in range(500):
            await wire.chunk(frame(delta(received.document["model"], "x" * 20_000)))
        await wire.chunk(frame(delta(received.document["model"], None, "stop")) + DONE)
        await wire.end()

    upstream.respond = long
    model = entry("chat", upstream.url, policies=(POLICY.id,))
    async with running_gateway(tmp_path, model, policies=(POLICY,)) as gateway:
        body = json.dumps({"model": "chat", "messages": MESSAGES, "stream": True})
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        _, head, said = await ask(gateway, stream=True)
        assert head["x-cache"] in ("hit-memory", "miss")
        assert said.count("x" * 20_000) == 500
        writer.transport.abort()
        del reader
    assert len(upstream.requests) == 1


async def test_who_takes_only_what_is_new_does_not_get_what_another_one_has_found(
    gate: Gate, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """`max-age` holds for who says it, also where it waits together with somebody who does not."""
    gate.open.set()
    model = entry("chat", upstream.url, policies=(POLICY.id,))
    async with running_gateway(tmp_path, model, policies=(POLICY,)) as gateway:
        await ask(gateway)
        answers = await asyncio.gather(ask(gateway), ask(gateway, "cache-control: max-age=0\r\n"))
    assert answers[0][1]["x-cache"] == "hit-memory"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("counts", "used"), [(CountCached.NONE, 7), (CountCached.FULL, 35)])
async def test_limits_count_who_joined_as_their_policy_says(
    counts: CountCached, used: int, stream: bool, gate: Gate, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """One of them has used what the model did; the others give back what was reserved, or keep as much."""

    async def counted(received: Received, wire: Wire) -> None:
        await gate.open.wait()
        name = received.document["model"]
        if not received.document.get("stream"):
            return await wire.json(completion(name))
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        await wire.stream_head()
        await wire.chunk(frame(delta(name, "Hello")) + frame(delta(name, None, "stop")))
        await wire.chunk(frame({**delta(name, None), "choices": [], "usage": usage}) + DONE)
        return await wire.end()

    upstream.respond = counted
    rule = LimitRule(name="all", per=Per.TENANT, unit=Unit.TOKENS, amount=9999, windowMillis=86_400_000, burst=9999)
    limit = rate_limit_entry("t", "l", RateLimitBody(limits=(rule,), countCached=counts))
    model = entry("chat", upstream.url, policies=(POLICY.id, limit.id))
    async with running_gateway(tmp_path, model, policies=(POLICY, limit)) as gateway:
        answers = await at_once(gateway, gate, 5, stream=stream, max_tokens=9)
        await gateway.settled()
        settled = gateway.metric("llm_limit_tokens_total", policy="t/l", rule="all", stage="settled")
    assert sorted(head["x-cache"] for _, head, _ in answers) == ["hit-memory"] * 4 + ["miss"]
    assert len(upstream.requests) == 1
    assert settled == used


async def test_a_limit_that_ends_a_stream_ends_the_call_where_nobody_else_waits(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """The engine is stopped, and what was cut is not kept."""

    async def endless(received: Received, wire: Wire) -> None:
        await wire.stream_head()
        for _ in range(100_000):
            await wire.chunk(frame(delta(received.document["model"], "word ")))

    upstream.respond = endless
    rule = LimitRule(name="all", per=Per.TENANT, unit=Unit.TOKENS, amount=600, windowMillis=86_400_000, burst=600)
    limit = rate_limit_entry("t", "l", RateLimitBody(limits=(rule,)))
    model = entry("chat", upstream.url, policies=(POLICY.id, limit.id))
    async with running_gateway(tmp_path, model, policies=(POLICY, limit), stream_slice_tokens=64) as gateway:
        status, _, said = await ask(gateway, stream=True)
        await eventually(lambda: upstream.active == 0, what="the end of the call")
        stored = gateway.gateway.caches.report().policies[POLICY.id].stored
    assert status == "200"
    assert '"ended_by":"limit"' in said
    assert stored == 0


async def test_a_config_that_changes_meanwhile_takes_nothing_from_who_waits(
    gate: Gate, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Who asked before has its answer; who asks of the model as it is now asks anew."""
    model = entry("chat", upstream.url, policies=(POLICY.id,))
    changed = entry("chat", upstream.url, policies=(POLICY.id,), contextWindow=4096)
    async with running_gateway(tmp_path, model, policies=(POLICY,)) as gateway:
        before = [asyncio.create_task(ask(gateway, stream=True)) for _ in range(2)]
        await eventually(lambda: len(gateway.gateway.requests) == 2)
        await gateway.configure(changed, policies=(POLICY,))
        after = asyncio.create_task(ask(gateway, stream=True))
        await eventually(lambda: len(upstream.requests) == 2)
        gate.open.set()
        answers = await asyncio.gather(*before, after)
        again = await ask(gateway)
    assert {status for status, _, _ in answers} == {"200"}
    assert sorted(head["x-cache"] for _, head, _ in answers) == ["hit-memory", "miss", "miss"]
    assert again[1]["x-cache"] == "hit-memory"
    assert len(upstream.requests) == 2


async def test_who_leaves_a_stream_that_others_wait_for_is_counted_for_what_came(
    gate: Gate, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """To a limit that counts what was there, though the call is on somebody else's bill."""

    async def halves(received: Received, wire: Wire) -> None:
        name = received.document["model"]
        await wire.stream_head()
        await wire.chunk(frame(delta(name, "one two three four ")))
        await gate.open.wait()
        await wire.chunk(frame(delta(name, None, "stop")) + DONE)
        await wire.end()

    upstream.respond = halves
    rule = LimitRule(
        name="out", per=Per.TENANT, unit=Unit.OUTPUT_TOKENS, amount=9999, windowMillis=86_400_000, burst=9999
    )
    limit = rate_limit_entry("t", "l", RateLimitBody(limits=(rule,), countCached=CountCached.FULL))
    model = entry("chat", upstream.url, policies=(POLICY.id, limit.id))
    settled = {"policy": "t/l", "rule": "out", "stage": "settled"}
    async with running_gateway(tmp_path, model, policies=(POLICY, limit)) as gateway:
        leaving, staying = (asyncio.create_task(ask(gateway, stream=True)) for _ in range(2))
        await eventually(lambda: len(gateway.gateway.requests) == 2 and len(upstream.requests) == 1)
        (_, room), *_ = gateway.gateway.caches.rooms()
        (flight,) = room.flights._flights.values()
        await eventually(lambda: flight.recording is not None)
        leaving.cancel()
        await eventually(lambda: len(gateway.gateway.requests) == 1)
        first = gateway.metric("llm_limit_tokens_total", **settled)
        gate.open.set()
        await staying
        await gateway.settled()
        both = gateway.metric("llm_limit_tokens_total", **settled)
    assert first > 0
    assert both == 2 * first


async def test_a_limit_holds_where_the_engine_is_ahead(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Nothing of a stream that limits count is read ahead of who pays for it: it ends where it would without a cache,
    and no more is on its bill."""

    async def at_once_(received: Received, wire: Wire) -> None:
        name = received.document["model"]
        await wire.stream_head()
        await wire.chunk(b"".join(frame(delta(name, "word")) for _ in range(600)))
        await wire.chunk(frame(delta(name, None, "stop")) + DONE)
        await wire.end()

    upstream.respond = at_once_
    rule = LimitRule(
        name="out", per=Per.TENANT, unit=Unit.OUTPUT_TOKENS, amount=100, windowMillis=86_400_000, burst=100
    )
    limit = rate_limit_entry("t", "l", RateLimitBody(limits=(rule,)))
    model = entry("chat", upstream.url, policies=(POLICY.id, limit.id))
    async with running_gateway(tmp_path, model, policies=(POLICY, limit), stream_slice_tokens=8) as gateway:
        _, _, said = await ask(gateway, stream=True, max_tokens=600)
        await gateway.settled()
        settled = gateway.metric("llm_limit_tokens_total", policy="t/l", rule="out", stage="settled")
    assert said.count('"word"') == settled
    assert settled <= 108
