"""Limits and budgets that run out while an answer streams: it ends well, where it has to, in every dialect."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import orjson
import pytest

from capstan_contract.config import ModelEntry, PolicyEntry, Price, Provider, RouterBackend, RouterMember
from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    Mode,
    OnStoreFailure,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
    rate_limit_entry,
    read_body,
)
from fakes.anthropic_upstream import begin, block_events, end, event, text
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, delta, frame, usage_chunk
from support.counts import Counts
from support.dialects import read_chat, read_messages
from support.gateway import RunningGateway, entry, hosted_by, running_gateway
from support.redis_server import RedisServer
from support.wait import eventually

SLICE = 8
WORD = "abcd"
"""One token, by the rule for estimates."""
DAY = 86_400_000
DOLLAR_A_TOKEN = Price(inputPerMillion=0, outputPerMillion=1_000_000)


class Engine:
    """Sends a word at a time, as many as it is told to, and nothing more before the gateway has read it."""

    def __init__(self, words: int = 1000, *, at_once: bool = False, word: str = WORD) -> None:
        self.words = words
        self.word = word
        self.at_once = at_once
        self.sent = 0
        self.done = False

    async def __call__(self, request: Received, wire: Wire) -> None:
        """Answer."""
        await wire.stream_head()
        frames = [frame(delta("chat", self.word)) for _ in range(self.words)]
        if self.at_once:
            await wire.chunk(b"".join(frames))
        else:
            for one in frames:
                await wire.chunk(one)
                self.sent += 1
                await asyncio.sleep(0.001)
        await wire.chunk(frame(delta("chat", None, "stop")) + frame(usage_chunk("chat")) + DONE)
        await wire.end()
        self.done = True


def tokens(amount: int, **more: Any) -> PolicyEntry:
    """Give a policy that has so many tokens of output for a day."""
    rule = LimitRule(name="out", per=Per.KEY, unit=Unit.OUTPUT_TOKENS, amount=amount, windowMillis=DAY, burst=amount)
    return rate_limit_entry("test", "p", RateLimitBody(limits=(rule,), **more))


def dollars(amount: int, **more: Any) -> PolicyEntry:
    """Give a policy with a budget of so many dollars, which are tokens of output."""
    rule = BudgetRule(name="spend", per=Per.KEY, nanoDollars=amount * 10**9, period=Period(type=PeriodType.DAY))
    return rate_limit_entry("test", "p", RateLimitBody(budgets=(rule,), **more))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine."""
    async with FakeUpstream(Engine()) as fake:
        yield fake


@pytest.fixture
def store() -> Counts:
    """The counts."""
    return Counts()


def chat(upstream: FakeUpstream, policy: PolicyEntry, **fields: Any) -> ModelEntry:
    """Give a model under a policy."""
    return entry("chat", upstream.url, policies=(policy.id,), price=DOLLAR_A_TOKEN, **fields)


def body(**more: Any) -> dict[str, Any]:
    """Give a request for a long stream."""
    messages = [{"role": "user", "content": "say hello"}]
    return {"model": "chat", "messages": messages, "max_tokens": 500, "stream": True, **more}


async def stream(gateway: RunningGateway, **more: Any) -> tuple[int, list[dict[str, Any]], str]:
    """Ask for a stream; give its status, its chunks and what came last."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        found = await client.post("/v1/chat/completions", json=body(**more))
    await gateway.settled()
    if found.status_code != 200:
        return found.status_code, [found.json()], ""
    events = [line.removeprefix("data: ") for line in found.text.split("\n\n") if line]
    return found.status_code, [orjson.loads(event) for event in events if event != "[DONE]"], events[-1]


def text_of(chunks: list[dict[str, Any]]) -> str:
    """Give the text of a stream."""
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("make", [tokens, dollars])
async def test_a_stream_ends_well_when_a_limit_does(
    tmp_path: Path, upstream: FakeUpstream, store: Counts, make: Any, at_once: bool
) -> None:
    """With finish reason `length`, usage, the reason and the end marker; what was streamed is what is charged."""
    upstream.respond = Engine(at_once=at_once)
    policy = make(30)
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        status, chunks, last = await stream(gateway, stream_options={"include_usage": True})
        given = len(text_of(chunks)) // len(WORD)
        assert (status, last) == (200, "[DONE]")
        *_, end, usage = chunks
        assert end["choices"][0]["finish_reason"] == "length"
        budget = make is dollars
        assert (end["capstan"]["ended_by"], end["capstan"]["limit"]) == (
            ("budget", "spend") if budget else ("limit", "out")
        )
        assert end["capstan"]["reset"].endswith("Z")
        assert usage["usage"]["completion_tokens"] == given
        assert 30 - SLICE < given <= 30 + SLICE
        assert store.used() == [given * 10**9 if budget else given]
        if not at_once:
            await eventually(lambda: upstream.gone == 1 and upstream.active == 0)
        rule = "spend" if budget else "out"
        assert (
            gateway.metric("llm_limit_decisions_total", policy="test/p", mode="enforce", rule=rule, outcome="cut") == 1
        )


async def test_what_is_reserved_as_a_whole_is_never_cut(tmp_path: Path, upstream: FakeUpstream, store: Counts) -> None:
    """A stream that may have few tokens has all of them at its beginning, or is refused there."""
    upstream.respond = Engine(words=2 * SLICE)
    policy = tokens(2 * SLICE + 1)
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        status, chunks, _ = await stream(gateway, max_tokens=2 * SLICE)
        assert status == 200
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        refused, _, _ = await stream(gateway, max_tokens=2 * SLICE)
        assert refused == 429
        assert len(upstream.requests) == 1


async def test_no_more_is_reserved_than_a_slice_at_a_time(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """So that a client that allows much keeps nobody away who asks for little."""
    upstream.respond = Engine(words=4)
    policy = tokens(100)
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        status, chunks, last = await stream(gateway, max_tokens=100_000)
        assert (status, last, chunks[-1]["choices"][0]["finish_reason"]) == (200, "[DONE]", "stop")
        reserved = gateway.metric("llm_limit_tokens_total", policy="test/p", rule="out", stage="reserved")
        assert reserved == SLICE


@pytest.mark.parametrize("at_once", [False, True])
async def test_short_tokens_are_tokens(tmp_path: Path, upstream: FakeUpstream, store: Counts, at_once: bool) -> None:
    """Each piece with text is one at least, though its bytes say less: no limit is passed with digits or code."""
    upstream.respond = Engine(at_once=at_once, word="7")
    policy = tokens(30)
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        _, chunks, _ = await stream(gateway)
        given = len(text_of(chunks))
        assert 24 <= given <= 30 + SLICE
        assert store.used() == [given]


async def test_a_client_that_leaves_pays_what_it_was_sent(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """Once, and nothing of its slices is lost."""
    policy = tokens(1000)
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        came = 0
        async with (
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
            client.stream("POST", "/v1/chat/completions", json=body()) as found,
        ):
            async for line in found.aiter_lines():
                came += "abcd" in line
                if came > 3 * SLICE:
                    break
        await gateway.settled()
        (kept,) = store.used()
        assert came <= kept <= came + 200
        assert not store.under_way


async def warm(gateway: RunningGateway, store: Counts) -> int:
    """Ask until requests are decided by shares; give what that took."""
    for _ in range(20):
        await stream(gateway, max_tokens=1)
        if store.limiter.tally.from_shares:
            return sum(store.used())
    raise AssertionError("no share was taken")


@pytest.mark.parametrize("make", [tokens, dollars])
async def test_a_stream_that_shares_decide_ends_where_the_limit_does(
    tmp_path: Path, upstream: FakeUpstream, store: Counts, make: Any
) -> None:
    """It takes slices of the shares, then of the store, until there is no more; nothing is charged twice, or lost."""
    upstream.respond = Engine(words=1)
    policy, one = make(1000), 10**9 if make is dollars else 1
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        spent = await warm(gateway, store) // one
        upstream.respond = Engine(words=2000, at_once=True)
        before = store.limiter.tally.from_shares
        _, chunks, last = await stream(gateway, max_tokens=5000)
        assert store.limiter.tally.from_shares > before
        spent += len(text_of(chunks)) // len(WORD)
        assert (last, chunks[-1]["choices"][0]["finish_reason"]) == ("[DONE]", "length")
        if spent <= 1000 - SLICE:  # A share was on its way back just then: the next one has what was in it.
            _, chunks, _ = await stream(gateway, max_tokens=5000)
            spent += len(text_of(chunks)) // len(WORD)
        assert 1000 - SLICE < spent <= 1000 + SLICE
        assert store.used() == [spent * one]
        assert not store.under_way


async def test_many_streams_that_shares_decide_keep_a_limit_together(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """Of many at once all are charged for what they were sent: no more than there is and a slice each. What they had
    taken when others were cut, and did not use, the next one has."""
    upstream.respond = Engine(words=1)
    policy = tokens(1000)
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        spent = await warm(gateway, store)
        upstream.respond = Engine(words=2000)
        found = await asyncio.gather(*(stream(gateway, max_tokens=5000) for _ in range(8)))
        ends = [chunks[-1]["choices"][0]["finish_reason"] for status, chunks, _ in found if status == 200]
        spent += sum(len(text_of(chunks)) // len(WORD) for status, chunks, _ in found if status == 200)
        assert set(ends) == {"length"}
        assert spent <= 1000 + 8 * SLICE
        assert store.used() == [spent]
        assert not store.under_way
        status, chunks, _ = await stream(gateway, max_tokens=5000)
        spent += len(text_of(chunks)) // len(WORD) if status == 200 else 0
        assert spent > 1000 - 2 * SLICE
        await eventually(lambda: store.used() == [spent], what="the settlement")


async def test_without_its_store_a_stream_ends_where_what_is_reserved_does(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    """Where the policy denies what nobody can count; and it ends as well as any other."""
    store = Counts(remote=True)
    store.extends = False
    policy = tokens(1000, onStoreFailure=OnStoreFailure.DENY)
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        status, chunks, last = await stream(gateway)
        assert (status, last) == (200, "[DONE]")
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert chunks[-1]["capstan"] == {"ended_by": "limiter_unavailable"}
        given = len(text_of(chunks)) // len(WORD)
        assert SLICE <= given <= 2 * SLICE
        await eventually(lambda: store.used() == [given], what="the settlement")


async def test_a_policy_that_looks_on_cuts_nothing(tmp_path: Path, upstream: FakeUpstream, store: Counts) -> None:
    """It charges what was streamed, whatever is left."""
    upstream.respond = Engine(words=60)
    policy = tokens(30, mode=Mode.SHADOW)
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        status, chunks, _ = await stream(gateway)
        assert (status, chunks[-1]["choices"][0]["finish_reason"]) == (200, "stop")
        assert text_of(chunks) == WORD * 60


async def test_the_sdk_of_openai_reads_a_cut_stream(tmp_path: Path, upstream: FakeUpstream, store: Counts) -> None:
    """It raises nothing, and says `length`: by chat completions, by its helper for them, and by responses."""
    policy = tokens(60)
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        messages: Any = [{"role": "user", "content": "say hello"}]
        async with gateway.client(max_retries=0) as client:
            chunks = [
                chunk
                async for chunk in await client.chat.completions.create(
                    model="chat", messages=messages, stream=True, max_tokens=500,
                    stream_options={"include_usage": True},
                )
            ]  # fmt: skip
            assert chunks[-2].choices[0].finish_reason == "length"
            assert chunks[-2].model_extra is not None
            assert chunks[-2].model_extra["capstan"]["ended_by"] == "limit"
            usage = chunks[-1].usage
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            assert usage is not None
            assert store.used() == [usage.completion_tokens] == [len(text) // len(WORD)]
            store.forget()
            created = await client.responses.create(model="chat", input="say hello", stream=True, max_output_tokens=500)
            events = [event async for event in created]
            last = events[-1]
            assert last.type == "response.incomplete"
            assert last.response.incomplete_details is not None
            assert last.response.incomplete_details.reason == "max_output_tokens"
            assert last.response.usage is not None
            assert store.used() == [last.response.usage.output_tokens] == [len(last.response.output_text) // len(WORD)]
            store.forget()
            async with client.chat.completions.stream(model="chat", messages=messages, max_tokens=500) as helped:
                async for _ in helped:
                    pass


async def test_the_sdk_of_anthropic_reads_a_cut_stream(tmp_path: Path, upstream: FakeUpstream, store: Counts) -> None:
    """It raises nothing, and says `max_tokens`; every block has its end."""
    policy = tokens(60)
    async with running_gateway(
        tmp_path, chat(upstream, policy), policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE
    ) as gateway:
        async with (
            anthropic.AsyncAnthropic(base_url=gateway.url, api_key="unused", max_retries=0) as client,
            client.messages.stream(
                model="chat", messages=[{"role": "user", "content": "say hello"}], max_tokens=500
            ) as events,
        ):
            kinds = [event.type async for event in events]
            message = await events.get_final_message()
        await gateway.settled()
        assert message.stop_reason == "max_tokens"
        assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1
        assert kinds[-1] == "message_stop"
        assert store.used() == [message.usage.output_tokens]


async def hosted_message(_: Received, wire: Wire) -> None:
    """Send a long message of Anthropic's, in two blocks."""
    await wire.stream_head()
    await wire.chunk(begin("chat"))
    for piece in block_events(0, {"type": "thinking", "thinking": WORD * 10}, 4):
        await wire.chunk(piece)
    for piece in block_events(1, text(WORD * 500), 4):
        await wire.chunk(piece)
        await asyncio.sleep(0.001)
    await wire.chunk(end("end_turn"))
    await wire.end()


async def hosted_response(_: Received, wire: Wire) -> None:
    """Send a long response of OpenAI's."""
    sequence = 0

    async def send(kind: str, **fields: Any) -> None:
        nonlocal sequence
        await wire.chunk(event(kind, sequence_number=sequence, **fields))
        sequence += 1

    await wire.stream_head()
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "chat", "status": "in_progress"}
    await send("response.created", response={**head, "output": []})
    await send("response.in_progress", response={**head, "output": []})
    item: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant"}
    await send("response.output_item.added", output_index=0, item={**item, "status": "in_progress", "content": []})
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    await send("response.content_part.added", **where, part=part)
    for _ in range(500):
        await send("response.output_text.delta", **where, delta=WORD)
        await asyncio.sleep(0.001)
    whole = {**item, "status": "completed", "content": [{**part, "text": WORD * 500}]}
    await send("response.completed", response={**head, "status": "completed", "output": [whole]})
    await wire.end()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_hosted_messages_are_cut_at_the_end_of_an_event(
    tmp_path: Path, upstream: FakeUpstream, store: Counts, path: str
) -> None:
    """As they are for clients of the same dialect, with the end of the block that was open, and as chat for others."""
    upstream.respond = hosted_message
    policy = tokens(60)
    claude = chat(upstream, policy, backend=hosted_by(Provider.ANTHROPIC, upstream.url))
    async with running_gateway(
        tmp_path, claude, policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE,
        credentials={"key": "k"},
    ) as gateway:  # fmt: skip
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
            found = await client.post(path, json=body())
        await gateway.settled()
        (kept,) = store.used()
        if path == "/v1/messages":
            message = read_messages(found.content)
            assert message["stop_reason"] == "max_tokens"
            assert [block["type"] for block in message["content"]] == ["thinking", "text"]
            assert kept == message["usage"]["output_tokens"] == 10 + len(message["content"][1]["text"]) // len(WORD)
        else:
            answer = read_chat(found.content)
            assert answer["choices"][0]["finish_reason"] == "length"
        assert 60 - SLICE < kept <= 60 + SLICE
        await eventually(lambda: upstream.gone == 1)


async def test_hosted_responses_are_cut_at_the_end_of_an_event(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """Their item ends as incomplete, and the last event tells all that was streamed."""
    upstream.respond = hosted_response
    policy = tokens(60)
    model = chat(upstream, policy, backend=hosted_by(Provider.OPENAI, upstream.url))
    async with running_gateway(
        tmp_path, model, policies=[policy], limiter=store.limiter, stream_slice_tokens=SLICE,
        credentials={"key": "k"},
    ) as gateway:  # fmt: skip
        async with gateway.client(max_retries=0) as client:
            created = await client.responses.create(model="chat", input="say hello", stream=True, max_output_tokens=500)
            events = [one async for one in created]
        await gateway.settled()
    assert [one.sequence_number for one in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    streamed = "".join(one.delta for one in events if one.type == "response.output_text.delta")
    assert last.response.output_text == streamed
    kinds = [one.type for one in events]
    assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert store.used() == [len(streamed) // len(WORD)]


async def test_policies_around_each_other_both_end_a_stream(
    tmp_path: Path, upstream: FakeUpstream, store: Counts
) -> None:
    """A router's and its member's: the tighter one does, whichever that is, and both charge what was streamed."""
    for outer, inner in ((40, 1000), (1000, 40)):
        store.forget()
        first, second = tokens(outer), rate_limit_entry("test", "q", read_body(tokens(inner)))
        member = chat(upstream, second)
        backend = RouterBackend(members=(RouterMember(model=member.id),))
        router = entry("router", backend=backend, policies=(first.id,))
        async with running_gateway(
            tmp_path, member, router, policies=[first, second], limiter=store.limiter, stream_slice_tokens=SLICE
        ) as gateway:
            status, chunks, last = await stream(gateway, model="router")
            assert (status, last, chunks[-1]["choices"][0]["finish_reason"]) == (200, "[DONE]", "length")
            given = len(text_of(chunks)) // len(WORD)
            assert 40 - SLICE < given <= 40 + SLICE
            assert store.used() == [given, given]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


async def test_gateways_with_one_redis_end_streams_where_the_limit_ends(
    tmp_path: Path, upstream: FakeUpstream, redis: RedisServer
) -> None:
    """Two at once take from one count: together they stream what there is, and a slice each beyond it at most."""
    policy = dollars(100)
    model = chat(upstream, policy)
    options: dict[str, Any] = {"policies": [policy], "redis_url": redis.url, "stream_slice_tokens": SLICE}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        running_gateway(tmp_path / "a", model, **options) as one,
        running_gateway(tmp_path / "b", model, **options) as other,
    ):
        (_, first, _), (_, second, _) = await asyncio.gather(stream(one), stream(other))
        given = 0
        for chunks in (first, second):
            assert chunks[-1]["choices"][0]["finish_reason"] == "length"
            assert chunks[-1]["capstan"]["ended_by"] == "budget"
            given += len(text_of(chunks)) // len(WORD)
        assert 100 - 2 * SLICE < given <= 100 + 2 * SLICE
        status, _, _ = await stream(one)
        assert status == 429 or given < 100


@pytest.mark.parametrize("on_failure", list(OnStoreFailure))
async def test_a_stream_whose_redis_goes_away(
    tmp_path: Path, upstream: FakeUpstream, redis: RedisServer, on_failure: OnStoreFailure
) -> None:
    """With AllowLocal it goes on by counts in memory; with Deny it ends well where what was reserved does."""
    policy = tokens(10_000, onStoreFailure=on_failure)
    engine = upstream.respond = Engine(words=300)
    model = chat(upstream, policy)
    async with running_gateway(
        tmp_path, model, policies=[policy], redis_url=redis.url, stream_slice_tokens=SLICE
    ) as gateway:
        asked = asyncio.create_task(stream(gateway))
        await eventually(lambda: engine.sent > 2 * SLICE)
        redis.kill()
        status, chunks, last = await asked
        assert (status, last) == (200, "[DONE]")
        if on_failure is OnStoreFailure.ALLOW_LOCAL:
            assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
            assert text_of(chunks) == WORD * 300
        else:
            assert chunks[-1]["choices"][0]["finish_reason"] == "length"
            assert chunks[-1]["capstan"] == {"ended_by": "limiter_unavailable"}
