"""What the official `openai` client makes of stored responses: a real Redis behind the gateway."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from capstan_contract.config import Provider
from capstan_gateway.dialects.clients.responses_answer import response_head
from capstan_gateway.pipeline.recall import MOST_RESPONSES
from capstan_gateway.stores.responses import Stored
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, answer_at_limit, completion, delta, frame
from support.gateway import RunningGateway, entry, hosted_by, running_gateway
from support.keys import key_entry, key_text
from support.ports import free_port
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
ASK: dict[str, Any] = {"model": "chat", "input": "My name is Al."}
NEVER_KEPT = "resp_cs" + "0" * 40
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
TOOLS: list[Any] = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]


async def respond(request: Received, wire: Wire) -> None:
    """Say how many messages there were; think before, and call the tool where there is one and no result yet."""
    asked = request.document
    roles = [message["role"] for message in asked["messages"]]
    calls = bool(asked.get("tools")) and "tool" not in roles
    text = f"{len(roles)} messages"
    if not asked.get("stream"):
        message = {"role": "assistant", "content": None if calls else text, "reasoning_content": "Hm."}
        message |= {"tool_calls": [CALL]} if calls else {}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        await wire.json(completion("engine-name", choices=[choice]))
        return
    await wire.stream_head()
    await wire.chunk(frame(delta("engine-name", text)) + frame(delta("engine-name", None, "stop")) + DONE)
    await wire.end()


@pytest.fixture
async def engine() -> AsyncIterator[FakeUpstream]:
    """An engine that counts."""
    async with FakeUpstream(respond) as fake:
        yield fake


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


def models(engine: FakeUpstream) -> tuple[Any, ...]:
    """Give a chat model, and the same upstream as OpenAI's and as Anthropic's."""

    return (
        entry("chat", engine.url, upstreamName="engine-name"),
        entry("gpt", upstreamName="gpt-x", backend=hosted_by(Provider.OPENAI, engine.url, key=None)),
    )


@pytest.fixture
async def gateway(tmp_path: Path, engine: FakeUpstream, server: RedisServer) -> AsyncIterator[RunningGateway]:
    """A gateway with that Redis."""
    async with running_gateway(tmp_path, *models(engine), redis_url=server.url, redis_seconds=10.0) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, without retries."""
    async with gateway.client() as made:
        yield made


def asked(engine: FakeUpstream) -> list[tuple[str, Any]]:
    """Give the messages of the last request, in short."""
    return [(message["role"], message["content"]) for message in engine.requests[-1].document["messages"]]


async def streamed(client: openai.AsyncOpenAI, **request: Any) -> Any:
    """Ask for a stream; give its last response."""
    events: list[Any] = [event async for event in await client.responses.create(**request, stream=True)]
    return events[-1].response


@pytest.mark.compatibility(
    table="requests", row="`previous_response_id`, `store`", on="responses", sends="OpenAI's SDKs, by default",
    does="stored where that is on, and gone on from", source="https://github.com/anomalyco/opencode/pull/34027",
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_goes_on(client: openai.AsyncOpenAI, engine: FakeUpstream, stream: bool) -> None:
    """Three turns, each with the id of the one before and new instructions: the engine gets all of it, in order."""

    async def ask(**request: Any) -> Any:
        if stream:
            return await streamed(client, **request)
        return await client.responses.create(**request)

    first = await ask(**ASK, instructions="Be brief.")
    assert (first.store, first.previous_response_id, first.output_text) == (True, None, "2 messages")
    second = await ask(model="chat", input="What is it?", previous_response_id=first.id, instructions="Be kind.")
    assert (second.store, second.previous_response_id) == (True, first.id)
    third = await ask(
        model="chat", input=[{"role": "user", "content": [{"type": "input_text", "text": "Sure?"}]}],
        previous_response_id=second.id,
    )  # fmt: skip
    assert third.previous_response_id == second.id
    assert asked(engine) == [
        ("user", "My name is Al."), ("assistant", "2 messages"), ("user", "What is it?"), ("assistant", "4 messages"),
        ("user", "Sure?"),
    ]  # fmt: skip
    assert len({first.id, second.id, third.id}) == 3


async def test_two_ways_from_one_response(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """A response can be gone on from twice, and by another gateway's request in between."""
    first = await client.responses.create(**ASK)
    for text in ("One way", "Another way"):
        await client.responses.create(model="chat", input=text, previous_response_id=first.id)
        assert asked(engine)[-1] == ("user", text)
        assert len(asked(engine)) == 3


async def test_calls_keep_their_results(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """The output of a call in the next request belongs to the call of the one before; thoughts are kept, too."""
    first = await client.responses.create(**ASK, tools=TOOLS)
    call = next(item for item in first.output if item.type == "function_call")
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sun"}]
    second = await client.responses.create(model="chat", input=output, previous_response_id=first.id, tools=TOOLS)
    messages = engine.requests[-1].document["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"] == [CALL]
    assert messages[2] == {"role": "tool", "tool_call_id": "call_1", "content": "sun"}
    items = [item.type async for item in client.responses.input_items.list(second.id, order="asc", limit=1)]
    assert items == ["message", "reasoning", "function_call", "function_call_output"]


async def test_retrieve_list_and_delete(
    gateway: RunningGateway, client: openai.AsyncOpenAI, server: RedisServer
) -> None:
    """A stored response is given again as it was, its items are listed in pages, and a deleted one is gone."""
    first = await client.responses.create(**ASK, metadata={"a": "b"})
    assert await client.responses.retrieve(first.id) == first
    second = await streamed(client, model="chat", input="And?", previous_response_id=first.id)
    found = await client.responses.retrieve(second.id)
    assert (found.output_text, found.status, found.store) == (second.output_text, "completed", True)
    page = await client.responses.input_items.list(second.id, limit=2)
    assert [item.type for item in page.data] == ["message", "message"]
    assert page.has_more
    everything = [item.to_dict() async for item in client.responses.input_items.list(second.id, limit=1, order="asc")]
    said = [(item["role"], item["content"][0]["text"]) for item in everything if item["type"] == "message"]
    assert said == [("user", "My name is Al."), ("assistant", "1 messages"), ("user", "And?")]
    assert len({item["id"] for item in everything}) == len(everything) == 4
    await client.responses.delete(first.id)
    for call in (client.responses.retrieve, client.responses.delete):
        with pytest.raises(openai.NotFoundError) as raised:
            await call(first.id)
        assert raised.value.code == "response_not_found"
    # It has a copy of what was said before it.
    third = await client.responses.create(model="chat", input="Still?", previous_response_id=second.id)
    assert third.output_text == "5 messages"
    await gateway.settled()
    await eventually(lambda: gateway.metric("gateway_stored_responses_total", outcome="kept") == 3, what="the writes")
    with server.client() as looking:
        assert len(looking.keys("capstan:responses:{t-everybody}:resp_*")) == 2


@pytest.mark.parametrize("previous", [NEVER_KEPT, "resp_67ccd2bed1ec8190b14f964abc054267", "x" * 500, "a/../b"])
async def test_unknown_ids(client: openai.AsyncOpenAI, engine: FakeUpstream, previous: str) -> None:
    """A response that there is not is told as OpenAI tells it, and the engine hears nothing."""
    with pytest.raises(openai.BadRequestError) as raised:
        await client.responses.create(**ASK, previous_response_id=previous)
    assert (raised.value.code, raised.value.param) == ("previous_response_not_found", "previous_response_id")
    assert f"Previous response with id '{previous[:100]}' not found." in str(raised.value)
    assert engine.requests == []
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(previous)


async def test_another_tenants_response_is_not_there(
    gateway: RunningGateway, client: openai.AsyncOpenAI, engine: FakeUpstream
) -> None:
    """Whose response it is decides: to everybody else it does not exist, whatever they do with its id."""
    store = gateway.gateway.stores.responses
    assert store is not None
    first = await client.responses.create(**ASK)
    found = await store.load("everybody", first.id)
    assert found is not None
    assert store.keep("somebody-else", NEVER_KEPT, found)
    assert await store.load("somebody-else", NEVER_KEPT) == found
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(**ASK, previous_response_id=NEVER_KEPT)
    for call in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            await call(NEVER_KEPT)
    assert await store.load("somebody-else", NEVER_KEPT) == found


async def test_what_is_not_to_be_stored_is_not(
    gateway: RunningGateway, client: openai.AsyncOpenAI, server: RedisServer
) -> None:
    """With `store: false` a response may go on from a stored one, and nothing of it is kept."""
    first = await client.responses.create(**ASK)
    second = await client.responses.create(model="chat", input="x", previous_response_id=first.id, store=False)
    third = await streamed(client, **ASK, store=False)
    for said in (second, third):
        assert said.store is False
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(said.id)
    await eventually(lambda: gateway.metric("gateway_stored_responses_total", outcome="kept") == 1, what="the write")
    with server.client() as looking:
        assert len(looking.keys("*resp_*")) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_incomplete_responses_are_stored(client: openai.AsyncOpenAI, engine: FakeUpstream, stream: bool) -> None:
    """An answer that reached its limit is a response like others: it is stored, and can be gone on from."""

    engine.respond = answer_at_limit
    said = await streamed(client, **ASK) if stream else await client.responses.create(**ASK)
    found = await client.responses.retrieve(said.id)
    assert (found.status, found.incomplete_details and found.incomplete_details.reason) == (
        "incomplete", "max_output_tokens",
    )  # fmt: skip
    await client.responses.create(model="chat", input="Go on.", previous_response_id=said.id)
    assert asked(engine)[1] == ("assistant", "Hel")


async def test_failed_streams_are_not_stored(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """A stream that breaks off leaves nothing behind, and its last event says so."""

    async def break_off(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("engine-name", "Hel")))
        await wire.end()

    engine.respond = break_off
    events: list[Any] = [event async for event in await client.responses.create(**ASK, stream=True)]
    assert (events[0].response.store, events[-1].type, events[-1].response.store) == (True, "response.failed", False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(events[-1].response.id)


async def test_a_client_that_leaves_leaves_nothing(
    gateway: RunningGateway, client: openai.AsyncOpenAI, engine: FakeUpstream
) -> None:
    """A stream whose client has gone before its end is not stored."""
    gone = asyncio.Event()

    async def slowly(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("engine-name", "Hel")))
        await gone.wait()
        await wire.end()

    engine.respond = slowly
    stream = await client.responses.create(**ASK, stream=True)
    first: Any = await anext(aiter(stream))
    await stream.close()
    await gateway.settled()
    gone.set()
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(first.response.id)


async def test_openai_gets_what_was_said_here(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """A conversation that was stored here goes on at OpenAI: as items without our ids, and without others' thoughts."""
    first = await client.responses.create(**ASK)

    async def hosted(_: Received, wire: Wire) -> None:
        head = response_head({"id": "resp_9", "model": "gpt-x"}, {}, now=1)
        await wire.json({**head, "id": "resp_9", "status": "completed"})

    engine.respond = hosted
    said = await client.responses.create(model="gpt", input="And?", previous_response_id=first.id)
    assert said.id == "resp_9"
    sent = engine.requests[-1].document
    assert "previous_response_id" not in sent
    assert sent["input"] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "My name is Al."}]},
        {
            "type": "message", "role": "assistant",
            "content": [{"type": "output_text", "text": "1 messages", "annotations": [], "logprobs": []}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And?"}]},
    ]  # fmt: skip
    # What OpenAI stores it is asked for itself.
    await client.responses.create(model="gpt", input="And?", previous_response_id="resp_9", store=True)
    assert engine.requests[-1].document["previous_response_id"] == "resp_9"


async def test_without_redis_requests_are_served(
    gateway: RunningGateway, client: openai.AsyncOpenAI, engine: FakeUpstream, server: RedisServer
) -> None:
    """With Redis gone only what needs it fails, by a 503 that says so; all else goes on, whole and streamed."""
    first = await client.responses.create(**ASK)
    await eventually(lambda: gateway.metric("gateway_stored_responses_total", outcome="kept") == 1, what="the write")
    server.kill()
    said = await client.responses.create(**ASK)
    assert (await streamed(client, **ASK)).status == "completed"
    # This replica has it still.
    await client.responses.create(model="chat", input="x", previous_response_id=said.id)
    for call in (
        client.responses.create(**ASK, previous_response_id=first.id),
        client.responses.retrieve(first.id),
        client.responses.delete(first.id),
        client.responses.input_items.list(first.id)._get_page(),
    ):
        with pytest.raises(openai.InternalServerError) as raised:
            await call
        assert (raised.value.status_code, raised.value.code) == (503, "store_unavailable")
        assert raised.value.response.headers["retry-after"] == "1"
    assert any("Redis does not do what is asked of it" in note for note in gateway.gateway.notes())
    assert gateway.gateway.not_ready() is None
    server.start()
    await eventually(lambda: gateway.metric("gateway_stored_responses_total", outcome="kept") == 4, what="the writes")
    assert await client.responses.retrieve(said.id) == said


async def test_a_redis_that_hangs(tmp_path: Path, engine: FakeUpstream, server: RedisServer) -> None:
    """With a Redis that answers nothing, and keeps its connections, the same holds; what waits is written later."""
    options = {"redis_url": server.url, "redis_seconds": 2.0}
    async with running_gateway(tmp_path, *models(engine), **options) as gateway, gateway.client() as client:
        first = await client.responses.create(**ASK)
        kept = "gateway_stored_responses_total"
        await eventually(lambda: gateway.metric(kept, outcome="kept") == 1, what="the write")
        server.pause()
        served = [await client.responses.create(**ASK) for _ in range(20)]
        assert {said.store for said in served} == {True}
        await client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "x"}])
        with pytest.raises(openai.InternalServerError) as raised:
            await client.responses.create(**ASK, previous_response_id=first.id)
        assert raised.value.code == "store_unavailable"
        server.go_on()
        await eventually(lambda: gateway.metric(kept, outcome="kept") >= 21, what="the writes")
        assert await client.responses.retrieve(served[-1].id) == served[-1]


async def test_a_redis_that_was_never_there(tmp_path: Path, engine: FakeUpstream) -> None:
    """A gateway whose Redis is not there, or not yet, starts, is ready, and serves what needs none."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    async with running_gateway(tmp_path, *models(engine), redis_url=nowhere) as gateway, gateway.client() as client:
        assert gateway.gateway.not_ready() is None
        await eventually(gateway.gateway.notes, what="the note")
        assert (await client.responses.create(**ASK)).status == "completed"
        with pytest.raises(openai.InternalServerError) as raised:
            await client.responses.create(**ASK, previous_response_id=NEVER_KEPT)
        assert raised.value.code == "store_unavailable"


async def test_what_waits_is_written_at_the_end(tmp_path: Path, engine: FakeUpstream, server: RedisServer) -> None:
    """A gateway that ends writes what it has said it stores: the outbox ends before the connection does."""
    async with running_gateway(tmp_path, *models(engine), redis_url=server.url, redis_seconds=10.0) as gateway:
        store = gateway.gateway.stores.responses
        assert store is not None
        for number in range(50):
            assert store.keep("t", f"resp_cs{number:040x}", Stored(b"{}", b"[]"))
    with server.client() as looking:
        assert len(looking.keys("*resp_*")) == 50


async def test_what_is_too_large_is_not_stored(tmp_path: Path, engine: FakeUpstream, server: RedisServer) -> None:
    """A response whose conversation is above the bound says that it is not stored; so does one whose answer is."""
    limits = {"redis_url": server.url, "redis_seconds": 10.0, "stored_response_bytes": 4_000}
    async with running_gateway(tmp_path, *models(engine), **limits) as gateway, gateway.client() as client:
        long = {**ASK, "input": "x" * 5_000}
        for said in (await client.responses.create(**long), await streamed(client, **long)):
            assert said.store is False

        async def much(request: Received, wire: Wire) -> None:
            if not request.document.get("stream"):
                await wire.json(completion("engine-name", "y" * 5_000))
                return
            await wire.stream_head()
            await wire.chunk(frame(delta("engine-name", "y" * 5_000, "stop")) + DONE)
            await wire.end()

        engine.respond = much
        for said in (await client.responses.create(**ASK), await streamed(client, **ASK)):
            assert said.store is False
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(said.id)
        await gateway.settled()
        assert gateway.metric("gateway_stored_responses_total", outcome="too_large") == 4


async def test_large_conversations(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """What is read and written beside the loop is stored, and gone on from, like all else."""

    async def much(_: Received, wire: Wire) -> None:
        await wire.json(completion("engine-name", "y" * 300_000))

    engine.respond = much
    first = await client.responses.create(**{**ASK, "input": "x" * 300_000})
    assert first.store is True
    second = await client.responses.create(model="chat", input="And?", previous_response_id=first.id)
    assert [len(content) for _, content in asked(engine)] == [300_000, 300_000, 4]
    assert (second.previous_response_id, second.store) == (first.id, True)


async def test_faults_are_named_as_the_client_sent_them(client: openai.AsyncOpenAI) -> None:
    """With earlier turns in front of it a fault of the new input has its own place, not that in the conversation."""
    first = await client.responses.create(**ASK)
    bad: Any = [{"role": "user", "content": "x"}, {"type": "teleport"}]
    with pytest.raises(openai.BadRequestError) as raised:
        await client.responses.create(model="chat", input=bad, previous_response_id=first.id)
    assert raised.value.param == "input.1.type"
    for wrong, param in (
        ({"previous_response_id": 7}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            await client.responses.create(
                model="chat", input="x", extra_body={"previous_response_id": first.id, **wrong}
            )
        assert raised.value.param == param


@pytest.mark.compatibility(
    table="requests", row="`item_reference`", on="responses", sends="AI SDK",
    does="the item of a stored response; 404 where there is none", source="https://github.com/vercel/ai/issues/7543",
)  # fmt: skip
async def test_items_by_reference(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """Items of stored responses may be named by their ids, of several turns at once: the engine gets the items."""
    first = await client.responses.create(**ASK, tools=TOOLS)
    thought, call = first.output
    turns: list[Any] = [
        {"role": "user", "content": "My name is Al."}, {"type": "item_reference", "id": thought.id},
        {"type": "item_reference", "id": call.id},
        {"type": "function_call_output", "call_id": "call_1", "output": "sun"},
    ]  # fmt: skip
    second = await client.responses.create(model="chat", input=turns, tools=TOOLS)
    assert engine.requests[-1].document["messages"][1]["tool_calls"] == [CALL]
    said = second.output[-1]
    more = [*turns, {"type": "item_reference", "id": said.id}, {"role": "user", "content": "Sure?"}]
    await client.responses.create(model="chat", input=more, tools=TOOLS)
    messages = engine.requests[-1].document["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert messages[3]["content"] == said.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "item_id", ["rs_68af4030baa48193b0b43b4c2a176a1a0e6967589f080e78", f"msg_cs{'0' * 40}_0", "", "x" * 500]
)
async def test_items_that_are_not_there(client: openai.AsyncOpenAI, engine: FakeUpstream, item_id: str) -> None:
    """A reference to nothing is refused with its place; to OpenAI, which may know the id, it goes as it came."""
    turns: list[Any] = [{"role": "user", "content": "x"}, {"type": "item_reference", "id": item_id}]
    with pytest.raises(openai.NotFoundError) as raised:
        await client.responses.create(model="chat", input=turns)
    assert (raised.value.code, raised.value.param) == ("item_not_found", "input.1.id")
    assert engine.requests == []

    async def hosted(_: Received, wire: Wire) -> None:
        await wire.json({**response_head({"id": "resp_9"}, {}, now=1), "model": "gpt-x", "status": "completed"})

    engine.respond = hosted
    await client.responses.create(model="gpt", input=turns)
    assert engine.requests[-1].document["input"] == turns


async def test_one_request_reads_few_responses(
    gateway: RunningGateway, client: openai.AsyncOpenAI, engine: FakeUpstream
) -> None:
    """References to hundreds of responses are refused after some: no request makes the gateway read for ever."""
    item: Any = {"type": "item_reference"}
    turns = [{**item, "id": f"msg_cs{number:040x}_0"} for number in range(300)]
    store = gateway.gateway.stores.responses
    assert store is not None
    known = b'[{"id":"msg_cs%b_0","type":"message","role":"user","content":"x"}]'
    for number in range(300):
        items = known % f"{number:040x}".encode()
        assert store.keep("everybody", f"resp_cs{number:040x}", Stored(b'{"output":[]}', items))
    with pytest.raises(openai.NotFoundError) as raised:
        await client.responses.create(model="chat", input=turns)
    assert raised.value.param == f"input.{300 - MOST_RESPONSES - 1}.id"
    await client.responses.create(model="chat", input=turns[-MOST_RESPONSES:])
    assert len(asked(engine)) == MOST_RESPONSES


@pytest.mark.parametrize("bad", [["x"], [5], 5, {"a": 1}, [None], [[]], ""])
async def test_input_that_is_none(client: openai.AsyncOpenAI, bad: Any) -> None:
    """What is no input is refused as such behind earlier turns as well, and never fails in the gateway."""
    first = await client.responses.create(**ASK)
    body = {"previous_response_id": first.id, "input": bad}
    if bad == "":
        await client.responses.create(model="chat", extra_body=body)
        return
    with pytest.raises(openai.BadRequestError) as raised:
        await client.responses.create(model="chat", extra_body=body)
    assert str(raised.value.param).startswith("input")


async def test_no_new_input(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """A request may only go on, with nothing new to say."""
    first = await client.responses.create(**ASK)
    await client.responses.create(model="chat", previous_response_id=first.id)
    assert [role for role, _ in asked(engine)] == ["user", "assistant"]


async def test_one_conversation_stays_at_one_endpoint(tmp_path: Path, server: RedisServer) -> None:
    """The choice of an endpoint sees the whole prompt: turns by id go where the turns before them went."""
    async with FakeUpstream(respond) as one, FakeUpstream(respond) as other:
        model = entry("chat", one.url, other.url)
        async with (
            running_gateway(tmp_path, model, redis_url=server.url, redis_seconds=10.0) as gateway,
            gateway.client() as client,
        ):
            for talk in range(4):
                said = await client.responses.create(model="chat", input=f"Talk {talk}. " * 60)
                before = len(one.requests), len(other.requests)
                for turn in range(6):
                    said = await client.responses.create(model="chat", input=f"{turn}", previous_response_id=said.id)
                after = len(one.requests), len(other.requests)
                assert sorted(now - then for now, then in zip(after, before, strict=True)) == [0, 6]


async def test_nothing_private_is_stored_or_told(
    gateway: RunningGateway, client: openai.AsyncOpenAI, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What agents say of themselves is not among what is stored; no text of a conversation is in the log."""
    await client.responses.create(**ASK, extra_body={"client_metadata": {"path": "/home/secret"}})
    await eventually(lambda: gateway.metric("gateway_stored_responses_total", outcome="kept") == 1, what="the write")
    with server.client() as looking:
        held = [looking.hgetall(key) for key in looking.keys("*resp_*")]
    assert len(held) == 1
    assert b"secret" not in b"".join(held[0].values())
    assert json.loads(held[0][b"items"])[0]["content"][0]["text"] == "My name is Al."
    assert "My name" not in caplog.text


async def test_switched_off(tmp_path: Path, engine: FakeUpstream, server: RedisServer) -> None:
    """With no time to be kept for, nothing is stored although there is a Redis; errors are those without one."""
    off = {"redis_url": server.url, "stored_response_seconds": 0}
    async with running_gateway(tmp_path, *models(engine), **off) as gateway, gateway.client() as client:
        said = await client.responses.create(**ASK, store=True)
        assert said.store is False
        with pytest.raises(openai.BadRequestError) as raised:
            await client.responses.create(**ASK, previous_response_id=NEVER_KEPT)
        assert raised.value.code == "unsupported_value"
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(NEVER_KEPT)
    with server.client() as looking:
        assert looking.keys("capstan:responses:*") == []


async def test_two_replicas(tmp_path: Path, engine: FakeUpstream, server: RedisServer) -> None:
    """What one replica stores another one goes on from, at once: it waits for what may just be written."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    shared = {"redis_url": server.url, "redis_seconds": 10.0}
    async with (
        running_gateway(tmp_path / "a", *models(engine), **shared) as one,
        running_gateway(tmp_path / "b", *models(engine), **shared) as other,
        one.client() as first,
        other.client() as second,
    ):
        previous = None
        for turn in range(6):
            said = await (first if turn % 2 else second).responses.create(**ASK, previous_response_id=previous)
            assert said.output_text == f"{2 * turn + 1} messages"
            previous = said.id


async def test_a_response_is_its_tenants_own(tmp_path: Path, engine: FakeUpstream, server: RedisServer) -> None:
    """Both keys of its tenant have it; to another tenant it does not exist, whatever is asked of it."""
    keys = [key_entry("red-1", team="red"), key_entry("red-2", team="red"), key_entry("blue", team="blue")]
    async with (
        running_gateway(
            tmp_path, *models(engine), keys=keys, insecure_no_auth=False, redis_url=server.url, redis_seconds=10.0
        ) as gateway,
        gateway.client(api_key=key_text("red-1")) as first,
        gateway.client(api_key=key_text("red-2")) as second,
    ):
        stored = await first.responses.create(**ASK)

        async def there() -> bool:
            try:
                return bool(await second.responses.retrieve(stored.id))
            except openai.NotFoundError:
                return False

        await eventually(there, what="the response")
        async with gateway.client(api_key=key_text("blue")) as other:
            for ask in (other.responses.retrieve, other.responses.delete, other.responses.input_items.list):
                with pytest.raises(openai.NotFoundError) as missing:
                    await ask(stored.id)
                with pytest.raises(openai.NotFoundError) as never:
                    await ask(NEVER_KEPT)
                assert str(missing.value).replace(stored.id, NEVER_KEPT) == str(never.value)
            with pytest.raises(openai.BadRequestError):
                await other.responses.create(**ASK, previous_response_id=stored.id)
        assert await second.responses.create(**ASK, previous_response_id=stored.id)
