"""What the official `anthropic` client makes of /v1/messages: of an engine, and of a model hosted by Anthropic."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from capstan_contract.config import Capability, Provider, Task
from fakes.anthropic_upstream import error, event, stream_events, text
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, completion, delta, frame, stream_frames
from support.gateway import RunningGateway, entry, hosted_by, running_gateway
from support.request_shapes import addresses
from support.wait import eventually

CLIENT = {"table": "clients", "row": "anthropic (Python)", "package": "pypi:anthropic"}
"""This client's row in docs/compatibility.md."""
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
TOOLS: list[Any] = [{"name": "weather", "description": "Tells it.", "input_schema": {"type": "object"}}]
ASK: dict[str, Any] = {"model": "chat", "max_tokens": 50, "messages": MESSAGES}


@pytest.fixture
async def gateway(tmp_path: Path, engine: FakeUpstream, hosted: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with a chat model, one hosted by Anthropic, one hosted by OpenAI, and one without an endpoint."""

    models = (
        entry("chat", engine.url, upstreamName="engine-name"),
        entry("claude", upstreamName="claude-x", backend=hosted_by(Provider.ANTHROPIC, hosted.url)),
        entry("gpt", upstreamName="gpt-x", backend=hosted_by(Provider.OPENAI, engine.url)),
        entry(
            "thinker",
            upstreamName="gpt-x",
            backend=hosted_by(Provider.OPENAI, engine.url),
            capabilities=(Capability.TOOLS, Capability.REASONING),
        ),
        entry("embed", engine.url, task=Task.EMBED),
        entry("idle"),
    )
    async with running_gateway(tmp_path, *models, credentials={"key": "sk"}, endpoint_wait_seconds=0.05) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The official client, without retries."""
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="unused", max_retries=0) as made:
        yield made


async def read(client: anthropic.AsyncAnthropic, request: dict[str, Any], seen: list[str]) -> None:
    """Read a stream to its end, and note the kinds of its events."""
    async for happened in await client.messages.create(**request, stream=True):
        seen.append(happened.type)


@pytest.mark.compatibility(**CLIENT, does="chat")
async def test_message(gateway: RunningGateway, client: anthropic.AsyncAnthropic, engine: FakeUpstream) -> None:
    """An engine's answer is a message under the served name, with usage and the gateway's request id."""
    said = await client.messages.create(
        **ASK, system="Be brief.", stop_sequences=["END"], extra_body={"temperature": 0.5}
    )
    assert [block.text for block in said.content] == ["Hello there"]
    assert (said.model, said.role, said.stop_reason, said.stop_sequence) == ("chat", "assistant", "end_turn", None)
    assert (said.usage.input_tokens, said.usage.output_tokens) == (5, 2)
    assert said._request_id.startswith("req_")
    asked = engine.requests[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.document == {
        "model": "engine-name", "max_tokens": 50, "stop": ["END"], "temperature": 0.5,
        "messages": [{"role": "system", "content": "Be brief."}, *MESSAGES],
    }  # fmt: skip
    await gateway.settled()
    assert gateway.metric("llm_requests_total", model="chat", status="200") == 1
    assert gateway.metric("llm_tokens_total", model="chat", direction="input") == 5


@pytest.mark.compatibility(**CLIENT, does="stream")
async def test_stream(gateway: RunningGateway, client: anthropic.AsyncAnthropic, engine: FakeUpstream) -> None:
    """The client's own accumulation of the events gives the text, the reason and the usage."""
    async with client.messages.stream(**ASK) as stream:
        pieces = [piece async for piece in stream.text_stream]
        said = await stream.get_final_message()
    assert pieces == ["Hel", "lo", "!"]
    assert said.content[0].text == "Hello!"
    assert (said.model, said.stop_reason) == ("chat", "end_turn")
    assert (said.usage.input_tokens, said.usage.output_tokens) == (5, 3)
    assert engine.requests[0].document["stream_options"] == {"include_usage": True}
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="chat", direction="output") == 3
    assert gateway.metric("llm_time_to_first_token_seconds_count", model="chat") == 1


@pytest.mark.compatibility(**CLIENT, does="tools")
async def test_tools_both_ways(client: anthropic.AsyncAnthropic, engine: FakeUpstream) -> None:
    """A call of a tool, whole and streamed, can be answered with its result in the next request."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}

    async def call_it(request: Received, wire: Wire) -> None:
        if not request.document.get("stream"):
            choice = {"index": 0, "finish_reason": "tool_calls", "message": {"content": None, "tool_calls": [call]}}
            await wire.json(completion("engine-name", choices=[choice]))
            return
        first = {**call, "index": 0, "function": {"name": "weather", "arguments": ""}}
        rest = [{"index": 0, "function": {"arguments": piece}} for piece in ('{"ci', 'ty": "Ulm"}')]
        chunks = [{**delta("engine-name", None), "choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]}
                  for piece in (first, *rest)]  # fmt: skip
        await wire.stream_head()
        for chunk in (*map(frame, chunks), frame(delta("engine-name", None, "tool_calls")), DONE):
            await wire.chunk(chunk)
        await wire.end()

    engine.respond = call_it
    whole = await client.messages.create(**ASK, tools=TOOLS, tool_choice={"type": "any"})
    async with client.messages.stream(**ASK, tools=TOOLS) as stream:
        streamed = await stream.get_final_message()
    for said in (whole, streamed):
        assert said.stop_reason == "tool_use"
        assert [(use.id, use.name, use.input) for use in said.content] == [("call_1", "weather", {"city": "Ulm"})]
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "sun"}
    turns = [*MESSAGES, whole.to_param(), {"role": "user", "content": [result]}]
    await client.messages.create(**{**ASK, "messages": turns}, tools=TOOLS)
    asked = engine.requests[-1].document["messages"]
    assert asked[1]["tool_calls"][0]["function"]["name"] == "weather"
    assert asked[2] == {"role": "tool", "tool_call_id": "call_1", "content": "sun"}
    assert engine.requests[0].document["tool_choice"] == "required"


@pytest.mark.compatibility(**CLIENT, does="errors")
@pytest.mark.parametrize(
    ("change", "raised", "kind", "says"),
    [
        ({"model": "nobody"}, anthropic.NotFoundError, "not_found_error", "nobody"),
        ({"model": "embed"}, anthropic.BadRequestError, "invalid_request_error", "embed"),
        ({"model": "idle"}, anthropic.OverloadedError, "overloaded_error", "no ready endpoint"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error", "`max_tokens`"),
        ({"messages": []}, anthropic.BadRequestError, "invalid_request_error", "`messages`"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, anthropic.BadRequestError,
         "invalid_request_error", "`messages.0.content.0.type`"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, anthropic.BadRequestError,
         "invalid_request_error", "`tools.0.type`"),
        ({"extra_body": {"stream": "yes"}}, anthropic.BadRequestError, "invalid_request_error", "`stream`"),
    ],
)  # fmt: skip
async def test_refusals(
    client: anthropic.AsyncAnthropic, change: dict[str, Any], raised: type, kind: str, says: str
) -> None:
    """Each wrong request raises the class that Anthropic's own API would, naming the client's own field."""
    with pytest.raises(raised, match=says) as caught:
        await client.messages.create(**{**ASK, **change})
    assert (caught.value.body["type"], caught.value.type) == ("error", kind)
    assert caught.value.request_id == caught.value.body["request_id"]


@pytest.mark.compatibility(**CLIENT, does="errors")
@pytest.mark.parametrize("model", ["chat", "claude"])
@pytest.mark.parametrize(
    ("status", "raised", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (413, anthropic.RequestTooLargeError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (503, anthropic.OverloadedError, "overloaded_error"),
        (529, anthropic.OverloadedError, "overloaded_error"),
    ],
)
async def test_errors_of_the_model(
    client: anthropic.AsyncAnthropic, engine: FakeUpstream, hosted: FakeUpstream,
    model: str, status: int, raised: type, kind: str,
) -> None:  # fmt: skip
    """Errors of engines and of the hosted API raise the right class, also when a stream was asked for."""

    async def refuse(_: Received, wire: Wire) -> None:
        await wire.json({"type": "error", "error": {"type": kind, "message": "no"}}, status)

    engine.respond = hosted.respond = refuse
    for stream in (False, True):
        with pytest.raises(raised) as caught:
            await client.messages.create(**{**ASK, "model": model}, stream=stream)
        assert caught.value.type == kind


@pytest.mark.parametrize("how", ["reset", "clean end", "malformed", "engine error"])
async def test_stream_that_breaks_raises(
    gateway: RunningGateway, client: anthropic.AsyncAnthropic, engine: FakeUpstream, how: str
) -> None:
    """However an engine's stream breaks, the client gets the tokens, then an error event, never a quiet end."""

    async def break_off(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("engine-name", "Hel")))
        if how == "reset":
            await asyncio.sleep(0.02)
            wire.reset()
            return
        if how == "malformed":
            await wire.chunk(b'data: {"choices": [{"del\n\n')
        elif how == "engine error":
            await wire.chunk(frame({"error": {"message": "died", "type": "InternalServerError", "code": 500}}) + DONE)
        await wire.end()

    engine.respond = break_off
    seen: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as caught:
        await read(client, ASK, seen)
    assert caught.value.body["error"]["type"] == "api_error"
    assert seen == ["message_start", "content_block_start", "content_block_delta"]


async def test_hosted_message_passes_untouched(client: anthropic.AsyncAnthropic, hosted: FakeUpstream) -> None:
    """Anthropic's own features reach Anthropic: only model, key and request id are the gateway's."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    search = {"type": "web_search_20250305", "name": "web_search"}
    said = await client.messages.create(
        **{**ASK, "model": "claude"}, thinking=thinking, tools=[search], cache_control={"type": "ephemeral"},
        extra_headers={"anthropic-beta": "context-1m"},
    )  # fmt: skip
    assert (said.model, said.content[0].text, said.usage.cache_read_input_tokens) == ("claude", "Hello there", 4)
    asked = hosted.requests[0]
    assert asked.path == "/v1/messages"
    assert asked.document == {
        **ASK, "model": "claude-x", "thinking": thinking, "tools": [search], "cache_control": {"type": "ephemeral"},
    }  # fmt: skip
    assert (asked.headers["x-api-key"], asked.headers["anthropic-beta"]) == ("sk", "context-1m")


async def test_hosted_stream_passes_untouched(
    gateway: RunningGateway, client: anthropic.AsyncAnthropic, hosted: FakeUpstream
) -> None:
    """Anthropic's events reach the client byte for byte, but for the model's name; usage is counted."""
    async with httpx2.AsyncClient(timeout=60) as http:
        reply = await http.post(f"{gateway.url}/v1/messages", json={**ASK, "model": "claude", "stream": True})
    sent = b"".join(stream_events([text("Hello there")]))
    assert reply.content == sent.replace(b'"model": "claude-x"', b'"model":"claude"')
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="claude", direction="input") == 17
    assert gateway.metric("llm_tokens_total", model="claude", direction="output") == 9


@pytest.mark.parametrize(("ending", "kind"), [(b"", "api_error"), (error("overloaded_error"), "overloaded_error")])
async def test_hosted_stream_that_breaks_raises(
    gateway: RunningGateway, client: anthropic.AsyncAnthropic, hosted: FakeUpstream, ending: bytes, kind: str
) -> None:
    """A hosted stream without its end, or with an error in it, raises behind its tokens; what came is counted."""

    async def break_off(_: Received, wire: Wire) -> None:
        events = stream_events([text("Hello there")])
        await wire.stream_head()
        await wire.chunk(b"".join(events[:5]) + ending)
        await wire.end()

    hosted.respond = break_off
    seen: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as caught:
        await read(client, {**ASK, "model": "claude"}, seen)
    assert caught.value.body["error"]["type"] == kind
    assert seen[-1] == "content_block_delta"
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="claude", direction="input") == 17
    assert gateway.metric("llm_tokens_total", model="claude", direction="output") == 3


async def test_error_before_the_first_token_is_an_http_error(
    client: anthropic.AsyncAnthropic, hosted: FakeUpstream
) -> None:
    """An overload that Anthropic reports at the beginning of a stream is an answer with that status."""

    async def overloaded(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(stream_events([])[0] + event("ping") + error("overloaded_error"))
        await wire.end()

    hosted.respond = overloaded
    with pytest.raises(anthropic.OverloadedError):
        await client.messages.create(**{**ASK, "model": "claude"}, stream=True)


@pytest.mark.compatibility(**CLIENT, does="counting")
@pytest.mark.parametrize("model", ["chat", "claude"])
async def test_tokens_are_counted_by_who_can(
    gateway: RunningGateway, client: anthropic.AsyncAnthropic, engine: FakeUpstream, hosted: FakeUpstream, model: str
) -> None:
    """A count comes from Anthropic, or from an engine that has the route; it is no usage."""

    async def count(_: Received, wire: Wire) -> None:
        await wire.json({"input_tokens": 7})

    engine.respond = hosted.respond = count
    said = await client.messages.count_tokens(model=model, messages=MESSAGES, system="Be brief.")
    assert said.input_tokens == 7
    asked = (engine.requests + hosted.requests)[0]
    assert asked.path == "/v1/messages/count_tokens"
    # Anthropic gets the client's words as they came, an engine what it would be sent for a message.
    assert asked.document["system"] in ("Be brief.", [{"type": "text", "text": "Be brief."}])
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model=model, direction="input") == 0


@pytest.mark.compatibility(
    table="requests",
    row="`count_tokens` of a model that has no such route",
    sends="Claude Code",
    source=addresses("BerriAI/litellm/issues/13252, ericc-ch/copilot-api/issues/210"),
    does="an estimate of system, messages and tools",
)
async def test_tokens_are_estimated_where_nobody_can_count(
    client: anthropic.AsyncAnthropic, engine: FakeUpstream
) -> None:
    """Agents take a model that cannot count for broken: system, messages and tools are estimated."""

    async def no_route(_: Received, wire: Wire) -> None:
        await wire.json({"detail": "Not Found"}, 404)

    engine.respond = no_route
    for model in ("chat", "gpt"):
        short = await client.messages.count_tokens(model=model, messages=MESSAGES)
        long = await client.messages.count_tokens(model=model, messages=MESSAGES, system="Be brief. " * 400)
        assert short.input_tokens > 0
        assert long.input_tokens - short.input_tokens >= 1000


TOOL: Any = {"name": "w", "input_schema": {"type": "object"}}
RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-x", "status": "completed", "error": None,
    "output": [
        {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "id": "f", "call_id": "call_1", "name": "w", "arguments": '{"c":1}'},
    ],
    "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
}  # fmt: skip


@pytest.mark.compatibility(
    table="requests",
    row="an effort beside tools",
    does="OpenAI is asked for a response, which takes both",
    on="messages",
    sends="Claude Code",
    source="https://github.com/BerriAI/litellm/pull/27074",
)
@pytest.mark.parametrize("stream", [False, True])
async def test_effort_beside_tools_goes_to_openai_as_a_response(
    gateway: RunningGateway, client: anthropic.AsyncAnthropic, engine: FakeUpstream, stream: bool
) -> None:
    """Their chat completions refuse both together; the client sees a message all the same, and it is billed."""

    async def answer(_: Received, wire: Wire) -> None:
        if not stream:
            return await wire.json(RESPONSE)
        await wire.stream_head()
        begun = {**RESPONSE, "status": "in_progress", "output": []}
        events = [
            {"type": "response.created", "response": begun},
            {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"},
            {
                "type": "response.output_item.added",
                "output_index": 1,
                "item": {**RESPONSE["output"][1], "arguments": ""},
            },
            {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"c":1}'},
            {"type": "response.output_item.done", "output_index": 1, "item": RESPONSE["output"][1]},
            {"type": "response.completed", "response": RESPONSE},
        ]
        for one in events:
            await wire.chunk(frame(one))
        return await wire.end()

    engine.respond = answer
    asked: dict[str, Any] = {**ASK, "model": "thinker", "tools": [TOOL], "output_config": {"effort": "high"}}
    if stream:
        async with client.messages.stream(**asked) as events:
            said = await events.get_final_message()
    else:
        said = await client.messages.create(**asked)
    text, call = said.content
    assert (text.type, call.type, said.stop_reason) == ("text", "tool_use", "tool_use")
    assert (call.id, call.input) == ("call_1", {"c": 1})
    assert (said.usage.input_tokens, said.usage.output_tokens) == (10, 5)
    (request,) = engine.requests
    assert request.path == "/v1/responses"
    assert (request.document["reasoning"], request.document["store"]) == ({"effort": "high"}, False)
    assert [tool["name"] for tool in request.document["tools"]] == ["w"]
    assert "reasoning_effort" not in request.document
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="thinker", direction="output") == 5


async def test_a_server_without_responses_is_asked_for_a_chat(
    gateway: RunningGateway, client: anthropic.AsyncAnthropic, engine: FakeUpstream
) -> None:
    """Many are like OpenAI's; without the effort they take the tools. What it used is on the bill once."""

    async def chat_alone(received: Received, wire: Wire) -> None:
        if received.path.endswith("/responses"):
            return await wire.json({"error": {"message": "Not Found"}}, 404)
        return await wire.json(completion("gpt-x"))

    engine.respond = chat_alone
    asked = {**ASK, "model": "thinker", "tools": [TOOL], "output_config": {"effort": "high"}}
    said = await client.messages.create(**asked)
    assert said.content[0].text == "Hello there"
    assert [request.path for request in engine.requests] == ["/v1/responses", "/v1/chat/completions"]
    assert "reasoning_effort" not in engine.requests[1].document
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="thinker", direction="output") == 2
    said = await client.messages.create(**asked)
    assert said.content[0].text == "Hello there"
    assert [request.path for request in engine.requests[2:]] == ["/v1/chat/completions"], "it is known by now"


@pytest.mark.parametrize(
    "error", [{"message": "x", "code": "model_not_found"}, {"message": "x", "param": "model", "code": 404}]
)
async def test_a_server_without_the_model_is_asked_once(
    client: anthropic.AsyncAnthropic, engine: FakeUpstream, error: dict[str, Any]
) -> None:
    """It has said that the model is not there: it would say so of a chat as well, and may have the route."""

    async def no_model(_: Received, wire: Wire) -> None:
        await wire.json({"error": error}, 404)

    engine.respond = no_model
    asked = {**ASK, "model": "thinker", "tools": [TOOL], "output_config": {"effort": "high"}}
    for _ in range(2):
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.create(**asked)
    assert [request.path for request in engine.requests] == ["/v1/responses"] * 2


@pytest.mark.parametrize(("model", "fields"), [("thinker", {"stop_sequences": ["x"]}), ("gpt", {})])
async def test_effort_is_left_out_where_openai_has_no_form_for_it(
    client: anthropic.AsyncAnthropic, engine: FakeUpstream, model: str, fields: dict[str, Any]
) -> None:
    """Stop sequences are chat's alone: the request goes there, without what is refused beside tools; so does one of a
    model that does not reason, which Claude Code asks for an effort as well."""
    asked = {**ASK, "model": model, "tools": [TOOL], "output_config": {"effort": "high"}, **fields}
    await client.messages.create(**asked)
    (request,) = engine.requests
    assert request.path == "/v1/chat/completions"
    assert "reasoning_effort" not in request.document


async def test_model_hosted_by_openai(client: anthropic.AsyncAnthropic, engine: FakeUpstream) -> None:
    """OpenAI gets the limit under the name that all of its models know, and its key."""
    said = await client.messages.create(**{**ASK, "model": "gpt"})
    assert said.content[0].text == "Hello there"
    asked = engine.requests[0]
    assert asked.document == {"model": "gpt-x", "messages": MESSAGES, "max_completion_tokens": 50}
    assert asked.headers["authorization"] == "Bearer sk"


async def test_retried_before_the_first_byte(tmp_path: Path, engine: FakeUpstream) -> None:
    """A request that one endpoint refuses is answered by the next one, as on every route."""

    async def refuse(_: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "no"}}, 503)

    async with FakeUpstream(refuse) as other:
        async with (
            running_gateway(tmp_path, entry("chat", other.url, engine.url)) as running,
            anthropic.AsyncAnthropic(base_url=running.url, api_key="unused", max_retries=0) as made,
        ):
            said = []
            while not other.requests and len(said) < 200:  # which endpoint is asked first is left to chance
                said.append(await made.messages.create(**ASK))
        assert {message.content[0].text for message in said} == {"Hello there"}
        assert other.requests


async def test_client_gone_aborts(
    gateway: RunningGateway, client: anthropic.AsyncAnthropic, hosted: FakeUpstream, engine: FakeUpstream
) -> None:
    """A client that leaves a stream takes the upstream's work with it, translated or not."""

    async def drip(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        for piece in stream_events([text("x" * 5000)]):
            await wire.chunk(piece)
            await asyncio.sleep(0.01)

    async def drip_chat(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        for piece in stream_frames("engine-name", ("x",) * 1000):
            await wire.chunk(piece)
            await asyncio.sleep(0.01)

    hosted.respond, engine.respond = drip, drip_chat
    for model, upstream in (("claude", hosted), ("chat", engine)):
        stream = await client.messages.create(**{**ASK, "model": model}, stream=True)
        await anext(stream)
        await stream.close()
        await eventually(lambda upstream=upstream: upstream.gone == 1, what="the abort")
        await gateway.settled()
        assert gateway.metric("llm_requests_total", model=model, status="499") == 1
