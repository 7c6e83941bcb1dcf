"""One model is asked: what routing is told, what becomes of an answer, and what is on the bill."""

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from capstan_contract.config import (
    Compatibility,
    ExternalBackend,
    ExternalEndpoint,
    HostedTools,
    ModelEntry,
    Price,
    Provider,
    StaticBackend,
    Timeouts,
)
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.clients.forms import Form
from capstan_gateway.dialects.clients.spoken import MESSAGES as SPOKEN
from capstan_gateway.dialects.clients.spoken import RESPONSES
from capstan_gateway.dialects.upstreams.anthropic_answer import to_chat_completion
from capstan_gateway.errors import GatewayError, InvalidRequest, UpstreamFailed, UpstreamRejected
from capstan_gateway.headers import JSON
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import LARGE_BYTES
from capstan_gateway.pipeline.call import MAX_ANSWER_BYTES, MAX_ERROR_BYTES, MAX_HEADER_VALUE, call_model, is_short_text
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.request import NativeRequest, Request, Route
from capstan_gateway.routing.affinity import affinity_key
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.port import Call
from capstan_gateway.routing.registry import EndpointRegistry, EndpointState
from capstan_gateway.streaming.deltas import said_in
from capstan_gateway.streaming.opening import StreamOpening
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics
from capstan_gateway.tokens.counter import NO_COUNTERS
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.upstream.errors import ConnectionLost, NoMemory
from capstan_gateway.upstream.port import Endpoint
from fakes.openai_upstream import DONE, completion, delta, frame, usage_chunk
from support.asks import CHAT, an_ask
from support.scripted import Plan, Upstreams, dispatcher, failures
from support.threads import Counted

MESSAGES = [{"role": "user", "content": "hello"}]
STREAM = ((b"content-type", b"text/event-stream"),)
WHOLE = ((b"content-type", b"application/json"),)
HOSTED = ExternalBackend(
    provider=Provider.OPENAI_COMPATIBLE, endpoints=(ExternalEndpoint(name="k", url="http://127.0.0.1/v1"),)
)
ANTHROPIC = HOSTED.model_copy(update={"provider": Provider.ANTHROPIC})
EMBEDDINGS = Route("/v1/embeddings", b"/embeddings", frozenset())
HEARD = Route("/v1/audio/transcriptions", b"/audio/transcriptions", frozenset(), form=True)


class Asked(Exception):
    """Where a call got to."""


@pytest.fixture
def executor() -> Iterator[Counted]:
    """One thread for what is large."""
    threads = Counted()
    yield threads
    threads.close()


class Bench:
    """A model, its endpoints, and what becomes of one ask."""

    def __init__(
        self, *plans: Plan, endpoints: int = 1, name: str = "m", executor: Threads | None = None,
        budget: int = 1 << 30, retries: float = 9, **fields: Any,
    ) -> None:  # fmt: skip
        given = {"id": "t/m", "servedName": name, "upstreamName": "m", "backend": StaticBackend(urls=()),
                 "price": Price(inputPerMillion=1000, outputPerMillion=1000)}  # fmt: skip
        self.metrics = Metrics()
        ends = [Endpoint(f"e{number}", "127.0.0.1", 1, credential="t/k") for number in range(endpoints)]
        self.model = ServedModel(
            ModelEntry(**{**given, **fields}), name=name, upstream_name="m",
            endpoints=EndpointSet(EndpointRegistry(), ends), metrics=ModelMetrics(self.metrics, name),
        )  # fmt: skip
        self.client = Upstreams(*plans)
        self.budget = MemoryBudget(budget)
        self.keys: dict[str, bytes] = {"t/k": b"key"}
        self.deps: Any = SimpleNamespace(
            images=None,
            dispatcher=dispatcher(self.client, retries=retries), endpoint_wait_seconds=3.0, budget=self.budget,
            executor=executor, counters=NO_COUNTERS, credentials=SimpleNamespace(key=self.keys.get),
            loop_time=asyncio.get_running_loop().time,
        )  # fmt: skip
        self.ask = self.make_ask()

    def never_waits(self) -> "Bench":
        """Let what fails be told at once."""
        self.deps.endpoint_wait_seconds = 0.0
        return self

    def make_ask(self, request: Request | None = None, **fields: Any) -> Ask:
        """Give an ask of somebody who holds it."""
        document = {"model": "m", "messages": MESSAGES, **fields}
        ask = an_ask(
            self.model, document=document, budget=self.budget, expires_at=asyncio.get_running_loop().time() + 50
        )
        if request is not None:
            ask.request = request
        ask.hold()
        self.ask = ask
        return ask

    async def give(self, **fields: Any) -> Reply:
        """Ask it."""
        return await call_model(cast(Deps, self.deps), self.model, self.make_ask(**fields))

    async def told(self, **fields: Any) -> Call:
        """Give what routing is told."""
        calls: list[Call] = []

        async def dispatch(call: Call) -> None:
            calls.append(call)
            raise Asked

        self.deps.dispatcher = SimpleNamespace(dispatch=dispatch)
        with pytest.raises(Asked):
            await self.give(**fields)
        return calls[0]

    @property
    def states(self) -> tuple[EndpointState, ...]:
        """Its endpoints."""
        return self.model.endpoints.states

    def bill(self) -> tuple[int, int, str, int]:
        """Give input and output tokens, how they are known, and the calls."""
        bill = self.ask.bill
        return bill.input_tokens, bill.output_tokens, str(bill.how.value), bill.calls


def whole(document: dict[str, Any] | bytes | None = None, **more: Any) -> Plan:
    """Give an endpoint that answers with this in one piece."""
    said = completion("m", "Hello there") if document is None else document
    body = said if isinstance(said, bytes) else orjson.dumps(said)
    return Plan(**{"pieces": ((0.0, body),), "headers": WHOLE, **more})


def stream(*frames: bytes, **more: Any) -> Plan:
    """Give an endpoint that streams these frames."""
    return Plan(**{"pieces": tuple((0.0, one) for one in frames), "headers": STREAM, **more})


WELL = (frame(delta("m", "Hi")), frame(delta("m", None, "stop")), frame(usage_chunk("m")), DONE)


# --- what routing is told ---------------------------------------------------------------------------------------------


async def test_a_plain_call_of_an_engine() -> None:
    """It is read as a whole, from the budget of its ask, and may wait for an endpoint; nobody else gets a key."""
    bench = Bench(timeouts=Timeouts(firstTokenSeconds=30, idleSeconds=7))
    call = await bench.told()
    ask = bench.ask
    assert (call.path, orjson.loads(call.body)) == (b"/chat/completions", {"model": "m", "messages": MESSAGES})
    assert (call.expires_at, call.repeatable, call.hosted, call.headers_of) == (ask.expires_at, True, False, None)
    assert (call.whole_bytes, call.opening, call.wait_seconds) == (MAX_ANSWER_BYTES, None, 3.0)
    assert call.memory is not None
    assert call.memory() is ask.memory()
    assert call.endpoints is bench.model.endpoints
    assert call.stats is ask.stats
    assert (call.affinity, call.avoid) == (None, ())
    assert b"accept: application/json\r\n" in cast(bytes, call.headers)


async def test_a_stream_of_an_engine() -> None:
    """Its deadlines are the model's, and it begins with its first token."""
    bench = Bench(timeouts=Timeouts(firstTokenSeconds=2, idleSeconds=7))
    call = await bench.told(stream=True)
    assert (call.first_token_seconds, call.idle_seconds, call.whole_bytes) == (2, 7, 0)
    assert call.wait_seconds == 2, "a client would not wait longer for a token either"
    assert call.opening is not None
    assert isinstance(call.opening(200, STREAM), StreamOpening)
    assert isinstance(call.opening(200, [(b"content-type", b"text/event-stream; charset=utf-8")]), StreamOpening)
    for status, headers in ((200, WHOLE), (200, ()), (201, STREAM), (500, STREAM)):
        assert call.opening(status, headers) is None


async def test_who_may_not_wait_does_not() -> None:
    """While another model may answer."""
    bench = Bench()
    ask = bench.make_ask()
    ask.may_wait = False
    calls: list[Call] = []

    async def dispatch(call: Call) -> None:
        calls.append(call)
        raise Asked

    bench.deps.dispatcher = SimpleNamespace(dispatch=dispatch)
    with pytest.raises(Asked):
        await call_model(bench.deps, bench.model, ask)
    assert calls[0].wait_seconds == 0


async def test_a_hosted_call_has_the_key_of_each_endpoint_and_does_not_wait() -> None:
    """None is sent where there is no key."""
    bench = Bench(backend=HOSTED)
    call = await bench.told()
    assert (call.hosted, call.headers, call.wait_seconds) == (True, (), 0)
    assert call.headers_of is not None
    endpoint = bench.states[0].endpoint
    assert (b"authorization", b"Bearer key") in cast(Any, call.headers_of(endpoint))
    bench.keys.clear()
    assert call.headers_of(endpoint) is None


@pytest.mark.parametrize(("endpoints", "keyed"), [(1, False), (2, True), (3, True)])
async def test_requests_of_one_conversation_belong_together(endpoints: int, keyed: bool) -> None:
    """Where there is more than one endpoint: by what the client says, its session, or the head of the prompt."""
    said = (await Bench(endpoints=endpoints).told(prompt_cache_key="c")).affinity
    heads = Bench().model.endpoints.heads
    assert said == (affinity_key({"prompt_cache_key": "c"}, heads, endpoints=2) if keyed else None)
    bench = Bench(endpoints=endpoints)
    ask = bench.make_ask()
    long = [{"role": "user", "content": "x" * 1000}]
    first = (await bench.told(messages=long)).affinity
    assert (first is not None) is keyed
    assert (len(bench.model.endpoints.heads) > 0) is keyed
    ask = an_ask(bench.model, document={"model": "m", "messages": MESSAGES}, budget=bench.budget)
    cast(Any, type(ask)).session.__set__(ask, "s")
    calls: list[Call] = []

    async def dispatch(call: Call) -> None:
        calls.append(call)
        raise Asked

    bench.deps.dispatcher = SimpleNamespace(dispatch=dispatch)
    with pytest.raises(Asked):
        await call_model(bench.deps, bench.model, ask)
    assert calls[0].affinity == (affinity_key({}, heads, endpoints=2, session="s") if keyed else None)


async def test_what_cannot_be_translated_goes_to_nobody_who_would_need_that() -> None:
    """The reason is the answer, and nothing is sent."""
    bench = Bench(whole())
    reason = InvalidRequest("cannot be translated")
    request = Request(CHAT, {"model": "m"}, stream=False, usage_asked=False, untranslatable=reason)
    with pytest.raises(InvalidRequest) as refused:
        await bench.give(request=request)
    assert (refused.value, bench.client.asked) == (reason, [])
    hosted = Bench(whole(), backend=ANTHROPIC)
    with pytest.raises(InvalidRequest) as refused:
        await hosted.give(request=request)
    assert (refused.value, hosted.client.asked) == (reason, [])


@pytest.mark.parametrize("came", [LARGE_BYTES, LARGE_BYTES + 1])
async def test_a_large_request_is_written_beside_the_loop(came: int, executor: Counted) -> None:
    """And a small one where it is; in the dialect of its model."""
    for backend in (StaticBackend(urls=()), ANTHROPIC):
        executor.count = 0
        bench = Bench(whole() if backend is not ANTHROPIC else whole(MESSAGE), executor=executor, backend=backend)
        request = Request(CHAT, {"model": "x", "messages": MESSAGES}, stream=False, usage_asked=False, came=came)
        await bench.give(request=request)
        assert executor.count == (came > LARGE_BYTES)
        sent = orjson.loads(bench.client.options[0]["body"])
        assert ("max_tokens" in sent, sent["model"]) == (backend is ANTHROPIC, "m")


# --- answers in one piece ---------------------------------------------------------------------------------------------


async def test_an_answer_in_one_piece() -> None:
    """The engine's own bytes, settled by what it tells, with its slot given back; the model has answered."""
    bench = Bench(whole())
    reply = await bench.give()
    assert isinstance(reply, WholeReply)
    assert (reply.status, reply.content_type, reply.native) == (200, JSON, False)
    assert orjson.loads(reply.body) == completion("m", "Hello there")
    usage = completion("m", "Hello there")["usage"]
    assert bench.bill() == (usage["prompt_tokens"], usage["completion_tokens"], "told", 1)
    assert (bench.states[0].in_flight, failures(bench.states[0])) == (0, 0)
    assert bench.ask.answered_by is bench.model
    assert (bench.model.metrics.told.value, bench.model.metrics.estimated.value) == (1, 0)


async def test_the_served_name_is_in_an_answer() -> None:
    """In place of the engine's own."""
    reply = await Bench(whole(), name="served").give()
    assert isinstance(reply, WholeReply)
    assert orjson.loads(reply.body)["model"] == "served"


@pytest.mark.parametrize(
    ("said", "given"),
    [
        (b"application/json", JSON),
        (b"application/json; charset=utf-8", b"application/json; charset=utf-8"),
        (b"", JSON),
        (b"x" * MAX_HEADER_VALUE, b"x" * MAX_HEADER_VALUE),
        (b"x" * (MAX_HEADER_VALUE + 1), JSON),
        (b"a\tb", JSON),
        (b"\xe4", JSON),
    ],
)
async def test_what_an_engine_calls_its_answer(said: bytes, given: bytes) -> None:
    """A short line of printable ASCII is passed on; anything else is called JSON."""
    reply = await Bench(whole(headers=((b"content-type", said),))).give()
    assert isinstance(reply, WholeReply)
    assert reply.content_type == given


def test_a_short_text() -> None:
    """Not nothing, not long, and printable."""
    assert [is_short_text(text) for text in (b"", b"a", b"~" * 128, b"a" * 129, b"a\n", b"\xff")] == [
        False, True, True, False, False, False,
    ]  # fmt: skip


NONE_OF_IT: list[tuple[bytes, str]] = [
    (b"not json", "something that is not JSON"),
    (b"[]", "something that is not JSON"),
    (b"null", "something that is not JSON"),
    (b"{}", "without a finish reason"),
    (b'{"choices":[]}', "without a finish reason"),
    (b'{"choices":{}}', "without a finish reason"),
    (b'{"choices":[1]}', "without a finish reason"),
    (b'{"choices":[{"finish_reason":null}]}', "without a finish reason"),
    (b'{"choices":[{"finish_reason":"stop"},{"index":1}]}', "without a finish reason"),
    (b'{"error":{"message":"no","code":503}}', "the model's engine failed \\(503\\)"),
]


@pytest.mark.parametrize(("body", "word"), NONE_OF_IT)
async def test_an_answer_that_is_none_is_had_elsewhere(body: bytes, word: str) -> None:
    """Its endpoint is blamed, and another one asked; where there is no other one, it is said what was wrong."""
    bench = Bench(whole(body), whole(), endpoints=2)
    reply = await bench.give()
    assert isinstance(reply, WholeReply)
    assert len(set(bench.client.asked)) == 2
    assert sorted(failures(state) for state in bench.states) == [0, 1]
    assert bench.ask.bill.calls == 2, "somebody may charge for both"
    assert bench.ask.bill.estimated == 1
    alone = Bench(whole(body))
    with pytest.raises(GatewayError, match=word):
        await alone.give()
    assert alone.ask.bill.calls == 1
    assert alone.ask.answered_by is None
    assert alone.states[0].in_flight == 0


async def test_where_answers_have_no_end_they_need_no_reason_for_it() -> None:
    """Embeddings are whole without one."""
    document = {"model": "m", "input": "x"}
    request = Request(EMBEDDINGS, document, stream=False, usage_asked=False)
    bench = Bench(whole({"data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}}))
    reply = await bench.give(request=request)
    assert isinstance(reply, WholeReply)
    assert bench.bill() == (3, 0, "told", 1)


async def test_an_answer_without_usage_is_estimated() -> None:
    """From the request and from what it says; a bare sum is told, and divided."""
    document = completion("m", "x" * 400)
    del document["usage"]
    bench = Bench(whole(document))
    await bench.give()
    prompt, output, how, calls = bench.bill()
    assert (how, calls) == ("estimated", 1)
    assert 90 <= output <= 140
    assert prompt > 0
    document["usage"] = {"total_tokens": 500}
    bench = Bench(whole(document))
    await bench.give()
    assert (sum(bench.bill()[:2]), bench.bill()[1]) == (500, output)


@pytest.mark.parametrize("headers", [STREAM, ((b"content-type", b"text/event-stream; charset=utf-8"),)])
async def test_a_stream_that_nobody_asked_for_is_no_answer(headers: Any) -> None:
    """It is in another form than was asked for, and so is the opposite."""
    with pytest.raises(UpstreamFailed, match="in another form than was asked for"):
        await Bench(whole(b"data: {}\n\n", headers=headers)).give()
    with pytest.raises(UpstreamFailed, match="in another form than was asked for"):
        await Bench(whole()).give(stream=True)


# --- large answers ----------------------------------------------------------------------------------------------------


def large(**fields: Any) -> dict[str, Any]:
    """Give an answer that is read beside the loop."""
    return {**completion("m", "word " * LARGE_BYTES), **fields}


async def test_a_large_answer_is_searched_and_not_read(executor: Counted) -> None:
    """Its own bytes are given, and its usage is found in them."""
    document = large()
    bench = Bench(whole(document), executor=executor)
    reply = await bench.give()
    assert isinstance(reply, WholeReply)
    assert reply.body == orjson.dumps(document)
    assert bench.bill() == (document["usage"]["prompt_tokens"], document["usage"]["completion_tokens"], "told", 1)
    assert executor.count == 1, "it was searched, and not read"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{" + b" " * LARGE_BYTES, "something that is not JSON"),
        (b"[" + b" " * LARGE_BYTES + b"]", "something that is not JSON"),
        (b" {" + b" " * LARGE_BYTES + b"}", "without a finish reason"),
        (b"{" + b" " * (LARGE_BYTES - 1), "something that is not JSON"),
    ],
)
async def test_a_large_answer_that_is_none(executor: Counted, body: bytes, word: str) -> None:
    """It is nonsense like a small one."""
    bench = Bench(whole(body), executor=executor)
    with pytest.raises(UpstreamFailed, match=word):
        await bench.give()
    assert failures(bench.states[0]) == 1


async def test_a_large_answer_without_usage_is_estimated(executor: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the text that is in it; where there is no memory to read it, as if all of it were text."""
    monkeypatch.setattr("capstan_gateway.pipeline.settle.said_in", lambda _: pytest.fail("read on the loop"))
    document = large()
    del document["usage"]
    body = orjson.dumps(document)
    for told in (None, {"total_tokens": 1 << 20}):
        executor.count = 0
        bench = Bench(whole(document if told is None else {**document, "usage": told}), executor=executor)
        await bench.give()
        assert (bench.bill()[1], executor.count) == (said_in(body).tokens, 3), "searched, counted, and read"
        bench.ask.leave()
        assert bench.budget.held == 0
    text = TextCount()
    text.ascii = len(body)
    tight = Bench(whole(document), executor=executor, budget=1)
    reply = await tight.give()
    assert isinstance(reply, WholeReply)
    assert (tight.bill()[1], tight.bill()[2]) == (text.tokens, "estimated")
    assert text.tokens > said_in(body).tokens


async def test_a_large_answer_without_an_end_of_its_own_is_not_read(executor: Counted) -> None:
    """Embeddings have no text: what is not told is not estimated from them."""
    request = Request(EMBEDDINGS, {"model": "m", "input": "x"}, stream=False, usage_asked=False)
    bench = Bench(whole({"data": ["x" * LARGE_BYTES]}), executor=executor)
    await bench.give(request=request)
    assert executor.count == 0


# --- hosted APIs in their own dialect ---------------------------------------------------------------------------------

MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello"}], "usage": {"input_tokens": 7, "output_tokens": 2},
}  # fmt: skip


async def test_an_answer_in_another_dialect_is_translated(executor: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the way out and back; a large one beside the loop."""
    read: list[bool] = []

    def watched(body: bytes, **more: Any) -> Any:
        read.append(threading.current_thread() is not threading.main_thread())
        return to_chat_completion(body, **more)

    monkeypatch.setattr("capstan_gateway.pipeline.adapters.to_chat_completion", watched)
    for more in (0, LARGE_BYTES - len(orjson.dumps(MESSAGE)), LARGE_BYTES):
        read.clear()
        executor.count = 0
        message = {**MESSAGE, "content": [{"type": "text", "text": "Hello" + "x" * more}]}
        bench = Bench(whole(message), backend=ANTHROPIC, executor=executor)
        reply = await bench.give()
        assert isinstance(reply, WholeReply)
        assert orjson.loads(reply.body)["choices"][0]["message"]["content"] == message["content"][0]["text"]  # type: ignore[index]
        assert bench.bill() == (7, 2, "told", 1)
        assert (reply.native, reply.content_type, reply.status) == (False, JSON, 200)
        large = more == LARGE_BYTES
        assert (read, executor.count) == ([large], (more > 0) + large), (
            "a large one is counted and read beside the loop"
        )
        assert bench.states[0].in_flight == 0
        assert (bench.budget.held > 0) is (more > 0), "a large one is taken from the budget until the ask ends"
        bench.ask.leave()
        assert bench.budget.held == 0


HOSTED_TOOLS = [{"type": "web_search_20250305", "name": "web_search"}]
MESSAGES_ROUTE = Route("/v1/messages", b"/chat/completions", frozenset(), dialect=SPOKEN)
RESPONSES_ROUTE = Route("/v1/responses", b"/chat/completions", frozenset(), dialect=RESPONSES)


@pytest.mark.parametrize(
    ("route", "backend", "refused"),
    [
        (MESSAGES_ROUTE, None, True),
        (MESSAGES_ROUTE, ANTHROPIC, False),
        (RESPONSES_ROUTE, ANTHROPIC, True),
        (RESPONSES_ROUTE, None, True),
    ],
)
@pytest.mark.parametrize("refuses", [True, False])
async def test_tools_that_a_translation_leaves_out_are_refused_where_that_is_wished(
    route: Route, backend: Any, refused: bool, refuses: bool
) -> None:
    """By name, before anything is sent; who gets the client's own request is sent them, and so is who drops them."""
    tools = HOSTED_TOOLS if route is MESSAGES_ROUTE else [{"type": "web_search"}]
    said = {"model": "m", "max_tokens": 9, "messages": MESSAGES, "store": False, "tools": tools}
    assert route.dialect is not None
    native = NativeRequest(said, tools=route.dialect.read_tools(said))
    request = Request(route, {"model": "m", "messages": MESSAGES}, stream=False, usage_asked=False, native=native)
    fields: dict[str, Any] = {"backend": backend} if backend else {}
    if refuses:
        fields["compatibility"] = Compatibility(hostedTools=HostedTools.REFUSE)
    bench = Bench(**fields)
    if refuses and refused:
        with pytest.raises(InvalidRequest, match="only a hosted API runs web_search"):
            await bench.told(request=request)
    else:
        assert (await bench.told(request=request)).body


async def test_a_request_without_a_dialect_has_no_tools_to_refuse() -> None:
    """What its client says goes to its model as it is."""
    bench = Bench(compatibility=Compatibility(hostedTools=HostedTools.REFUSE))
    assert orjson.loads((await bench.told(tools=HOSTED_TOOLS)).body)["tools"] == HOSTED_TOOLS


async def test_a_native_answer_without_usage_is_estimated() -> None:
    """From the request: nobody has read its text."""
    route = Route("/v1/responses", b"/chat/completions", frozenset(), dialect=RESPONSES)
    native = NativeRequest({"model": "m", "input": "x" * 100, "store": False})
    document = {"model": "m", "messages": [{"role": "user", "content": "x" * 100}]}
    request = Request(route, document, stream=False, usage_asked=False, native=native)
    text = [{"type": "output_text", "text": "x" * 400}]
    response = {
        "id": "resp_1", "object": "response", "status": "completed", "model": "m",
        "output": [{"type": "message", "role": "assistant", "content": text}],
    }  # fmt: skip
    bench = Bench(whole(response), backend=HOSTED.model_copy(update={"provider": Provider.OPENAI}))
    await bench.give(request=request)
    prompt, _, how, _ = bench.bill()
    assert (prompt > 0, how) == (True, "estimated")


EVENTS = (
    ("message_start", {"message": {**MESSAGE, "content": [], "stop_reason": None}}),
    ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
    ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
    ("content_block_stop", {"index": 0}),
    ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
    ("message_stop", {}),
)


def _messages_stream() -> Plan:
    events = [(name, orjson.dumps({"type": name, **fields})) for name, fields in EVENTS]
    return stream(*(b"event: %b\ndata: %b\n\n" % (name.encode(), data) for name, data in events))


async def _read_all(reply: Reply) -> bytes:
    assert isinstance(reply, StreamReply)
    sent = reply.first
    while not reply.relay.done:
        data = await reply.source.receive()
        sent += reply.relay.feed(data) if data else reply.relay.finish()
    return sent


@pytest.mark.parametrize("usage", [True, False])
async def test_a_stream_in_another_dialect_is_translated(usage: bool) -> None:
    """Into chunks of the served name, with usage where that was asked for."""
    bench = Bench(_messages_stream(), backend=ANTHROPIC, name="served")
    document = {"model": "m", "messages": MESSAGES, "stream": True}
    reply = await bench.give(request=Request(CHAT, document, stream=True, usage_asked=usage))
    sent = await _read_all(reply)
    assert cast(StreamReply, reply).native is False
    assert b'"content":"Hello"' in sent
    assert b'"model":"served"' in sent
    assert (b'"usage":{' in sent) is usage
    bench.ask.leave()
    assert bench.bill() == (7, 2, "told", 1)


async def test_a_native_stream_is_passed_on_as_the_clients() -> None:
    """Events of the dialect, with the served name in them."""
    route = Route("/v1/messages", b"/chat/completions", frozenset(), streams=True, dialect=SPOKEN)
    native = NativeRequest({"model": "m", "stream": True})
    request = Request(route, {"model": "m"}, stream=True, usage_asked=True, native=native)
    bench = Bench(_messages_stream(), backend=ANTHROPIC, name="served")
    reply = await bench.give(request=request)
    sent = await _read_all(reply)
    assert cast(StreamReply, reply).native is True
    assert b"event: message_stop" in sent
    assert b'"served"' in sent
    bench.ask.leave()
    assert bench.bill()[:2] == (7, 2)


async def test_what_counts_tokens_is_on_no_bill() -> None:
    """Neither its answer nor what was lost on the way to it: it makes none; any engine that has the route may count."""
    route = Route("/v1/messages/count_tokens", b"/messages/count_tokens", frozenset(), dialect=SPOKEN)
    asked = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    request = Request(route, asked, stream=False, usage_asked=False, native=NativeRequest(asked))
    bench = Bench(Plan(status=0), whole({"input_tokens": 5}), endpoints=3).never_waits()
    reply = await bench.give(request=request)
    assert isinstance(reply, WholeReply)
    assert (reply.native, reply.body, bench.ask.bill.calls) == (True, b'{"input_tokens":5}', 0)
    other = Bench(whole(b"{}"))
    reply = await other.give(request=request)
    assert (cast(WholeReply, reply).body, other.ask.bill.calls) == (b'{"input_tokens":7}', 0)
    assert failures(other.states[0]) == 0, "what is no count is no fault of an engine"
    failing = Bench(Plan(status=0)).never_waits()
    with pytest.raises(ConnectionLost):
        await failing.give(request=request)
    assert failing.ask.bill.calls == 0


@pytest.mark.parametrize("came", [LARGE_BYTES, LARGE_BYTES + 1])
async def test_a_large_prompt_is_counted_beside_the_loop(came: int, executor: Counted) -> None:
    """An estimate of megabytes takes as long as others would have to wait; so do the numbers of a prompt too long."""
    route = Route("/v1/messages/count_tokens", b"/messages/count_tokens", frozenset(), dialect=SPOKEN)
    asked = {"model": "m", "messages": MESSAGES}
    request = Request(route, asked, stream=False, usage_asked=False, native=NativeRequest(asked), came=came)
    bench = Bench(whole({"detail": "Not Found"}, status=404), executor=executor)
    reply = await bench.give(request=request)
    assert isinstance(reply, WholeReply)
    assert orjson.loads(reply.body)["input_tokens"] > 0
    assert executor.count == (3 if came > LARGE_BYTES else 0)  # The bodies of both routes, and the estimate.
    executor.count = 0
    long = Request(CHAT, {"model": "m", "messages": MESSAGES}, stream=False, usage_asked=False, came=came)
    told = {"error": {"message": "reduce the length of the messages"}}
    with pytest.raises(UpstreamRejected) as caught:
        await Bench(whole(told, status=400), executor=executor, contextWindow=9).give(request=long)
    assert caught.value.lengths == (10, 0, 9)
    assert executor.count == (2 if came > LARGE_BYTES else 0)


async def test_what_a_native_request_asks_to_be_kept_is_asked_for_once() -> None:
    """OpenAI keeps a response unless it is told not to; the translation says nothing of it."""
    route = Route("/v1/responses", b"/chat/completions", frozenset(), dialect=RESPONSES)
    for fields, repeatable in (({}, False), ({"store": False}, True)):
        native = NativeRequest({"model": "m", **fields})
        request = Request(route, {"model": "m"}, stream=False, usage_asked=False, native=native)
        backend = HOSTED.model_copy(update={"provider": Provider.OPENAI})
        assert (await Bench(backend=backend).told(request=request)).repeatable is repeatable


async def test_an_error_within_a_stream_of_a_hosted_api_tells_nothing_of_the_account() -> None:
    """As in any other refusal."""
    refused = frame({"error": {"message": "credit balance is too low", "code": 400}})
    with pytest.raises(UpstreamRejected, match="refused the gateway's credentials"):
        await Bench(stream(refused, DONE), backend=HOSTED).give(stream=True)
    with pytest.raises(UpstreamRejected, match="credit balance"):
        await Bench(stream(refused, DONE)).give(stream=True)


async def test_there_must_be_room_to_translate_an_answer(executor: Counted) -> None:
    """Otherwise it is not read, and its endpoint is not blamed."""
    message = {**MESSAGE, "content": [{"type": "text", "text": "x" * LARGE_BYTES}]}
    bench = Bench(whole(message), backend=ANTHROPIC, executor=executor, budget=1)
    with pytest.raises(NoMemory) as refused:
        await bench.give()
    assert refused.value.endpoint_id == "e0"
    assert failures(bench.states[0]) == 0
    assert bench.bill()[3] == 1


async def test_nonsense_of_a_hosted_api_is_on_the_bill() -> None:
    """By what it tells of its usage all the same."""
    bench = Bench(whole({"type": "x", "usage": {"input_tokens": 9, "output_tokens": 4}}), backend=ANTHROPIC)
    with pytest.raises(UpstreamFailed):
        await bench.give()
    assert bench.bill()[0] >= 9
    assert bench.ask.bill.calls == 1


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_a_refusal_is_passed_on() -> None:
    """With its message and when to come again; no endpoint is blamed, no other one asked, nothing charged."""
    body = orjson.dumps({"error": {"message": "too long", "code": "x_y"}})
    headers = (*WHOLE, (b"retry-after", b"7"), (b"x-should-retry", b"\xff"), (b"server", b"vllm"))
    bench = Bench(Plan(status=400, pieces=((0.0, body),), headers=headers), endpoints=2)
    with pytest.raises(UpstreamRejected, match=r"^too long$") as refused:
        await bench.give()
    assert (refused.value.status, refused.value.code) == (400, "x_y")
    assert tuple(refused.value.headers) == ((b"retry-after", b"7"),)
    assert (len(bench.client.asked), bench.ask.bill.calls) == (1, 0)
    assert sum(failures(state) for state in bench.states) == 0
    assert bench.client.replies[0].asked_for[0] == ("beginning", MAX_ERROR_BYTES)
    assert [state.in_flight for state in bench.states] == [0, 0]


@pytest.mark.parametrize("hosted", [True, False])
async def test_a_refused_key_is_our_own(hosted: bool) -> None:
    """Of a hosted API it is the gateway's, and nothing of it is told; an engine of our own says what it says."""
    body = orjson.dumps({"error": {"message": "bad key of org-1"}})
    plan = Plan(status=401, pieces=((0.0, body),), headers=WHOLE)
    fields: dict[str, Any] = {"backend": HOSTED} if hosted else {}
    bench = Bench(plan, **fields)
    with pytest.raises(UpstreamRejected) as refused:
        await bench.give()
    assert (refused.value.status, "org-1" in str(refused.value)) == ((502, False) if hosted else (401, True))


@pytest.mark.parametrize("status", [201, 204, 301, 399])
async def test_a_status_that_is_none_of_an_answer(status: int) -> None:
    """Neither 200 nor a refusal: the engine failed."""
    with pytest.raises(UpstreamFailed, match=rf"answered with an unexpected status \({status}\)"):
        await Bench(whole(status=status)).give()


async def test_an_error_within_an_answer_of_a_hosted_api_tells_nothing_of_the_account() -> None:
    """As in a refusal."""
    body = {"error": {"message": "credit balance is too low", "code": 400}}
    with pytest.raises(UpstreamRejected, match="refused the gateway's credentials"):
        await Bench(whole(body), backend=HOSTED).give()
    with pytest.raises(UpstreamRejected, match="credit balance"):
        await Bench(whole(body)).give()


# --- lost calls -------------------------------------------------------------------------------------------------------


async def test_calls_that_were_lost_are_on_the_bill() -> None:
    """Each that may have been computed, once, whether another one answered or none did."""
    lost = Plan(status=0)
    bench = Bench(lost, whole(), endpoints=2)
    await bench.give()
    assert (bench.ask.bill.calls, bench.ask.bill.estimated) == (2, 1)
    bench = Bench(lost, endpoints=2).never_waits()
    with pytest.raises(ConnectionLost):
        await bench.give()
    assert (bench.ask.bill.calls, bench.ask.bill.estimated) == (2, 2)
    bench = Bench(Plan(status=-1), whole(), endpoints=2)
    await bench.give()
    assert bench.ask.bill.calls == 1, "what was never sent costs nothing"
    bench = Bench(lost, whole(b"nonsense"), whole(), endpoints=3)
    await bench.give()
    assert (bench.ask.bill.calls, bench.ask.bill.estimated) == (3, 2)


async def test_what_an_ask_did_before_is_not_settled_again() -> None:
    """A second model of the same ask pays for its own calls."""
    bench = Bench(Plan(status=0), whole()).never_waits()
    with pytest.raises(ConnectionLost):
        await bench.give()
    assert bench.ask.bill.calls == 1
    await call_model(bench.deps, bench.model, bench.ask)
    assert bench.ask.bill.calls == 2


# --- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_goes_on_behind_its_first_token() -> None:
    """It holds its slot until the ask ends, and is settled then."""
    bench = Bench(stream(*WELL))
    reply = await bench.give(stream=True)
    assert isinstance(reply, StreamReply)
    assert (b"Hi" in reply.first, reply.native, reply.broken) == (True, False, None)
    assert (bench.states[0].in_flight, bench.ask.bill.calls) == (1, 0)
    assert bench.ask.answered_by is bench.model
    sent = reply.first
    while not reply.relay.done:
        data = await reply.source.receive()
        sent += reply.relay.feed(data) if data else reply.relay.finish()
    assert sent.endswith(DONE)
    assert b'"usage":{' not in sent, "nobody asked for it"
    bench.ask.leave()
    usage = usage_chunk("m")["usage"]
    assert bench.bill() == (usage["prompt_tokens"], usage["completion_tokens"], "told", 1)
    assert bench.states[0].in_flight == 0


async def test_the_served_name_is_in_a_stream() -> None:
    """And usage, where that was asked for."""
    bench = Bench(stream(*WELL), name="served")
    document = {"model": "m", "messages": MESSAGES, "stream": True}
    reply = await bench.give(request=Request(CHAT, document, stream=True, usage_asked=True))
    assert isinstance(reply, StreamReply)
    sent = reply.first
    while not reply.relay.done:
        data = await reply.source.receive()
        sent += reply.relay.feed(data) if data else reply.relay.finish()
    assert b'"model":"m"' not in sent
    assert b'"model":"served"' in sent
    assert b'"usage":{' in sent
    bench.ask.leave()


@pytest.mark.parametrize(
    ("frames", "word"),
    [
        ((b"data: {]\n\n",), "."),
        ((frame({"error": {"message": "no", "code": 503}}), DONE), "503"),
        ((b": ping\n\n",), "."),
    ],
)
async def test_what_goes_wrong_before_the_first_token_is_an_error_answer(frames: tuple[bytes, ...], word: str) -> None:
    """Had elsewhere where there is another endpoint; one that broke off is counted as that."""
    bench = Bench(stream(*frames), stream(*WELL), endpoints=2)
    assert isinstance(await bench.give(stream=True), StreamReply)
    bench.ask.leave()
    assert sorted(failures(state) for state in bench.states) == [0, 1]
    alone = Bench(stream(*frames))
    with pytest.raises(GatewayError, match=word):
        await alone.give(stream=True)
    assert failures(alone.states[0]) == 1
    assert alone.states[0].in_flight == 0
    cut = 0 if b"error" in frames[0] else 1
    assert alone.model.metrics.truncated.value == cut
    with pytest.raises(GatewayError):
        await alone.give(stream=True)
    assert alone.model.metrics.truncated.value == 2 * cut


async def test_what_breaks_behind_the_first_token_is_told_with_what_came_before_it() -> None:
    """In one read it is an answer that has begun."""
    bench = Bench(stream(WELL[0] + b"data: {]\n\n"))
    reply = await bench.give(stream=True)
    assert isinstance(reply, StreamReply)
    assert b"Hi" in reply.first
    assert reply.broken is not None
    bench.ask.leave()


async def test_a_native_request_keeps_its_bytes() -> None:
    """A hosted API that speaks the client's dialect gets what the client sent, and its answer is the client's."""
    route = Route("/v1/messages", b"/chat/completions", frozenset(), dialect=SPOKEN)
    raw = b'{"model": "m",  "max_tokens": 5, "messages": []}'
    native = NativeRequest(orjson.loads(raw), raw)
    reason = InvalidRequest("cannot be translated")
    request = Request(route, {"model": "m"}, stream=False, usage_asked=False, native=native, untranslatable=reason)
    bench = Bench(whole(MESSAGE), backend=ANTHROPIC)
    reply = await bench.give(request=request)
    assert isinstance(reply, WholeReply)
    assert (bench.client.options[0]["body"], bench.client.options[0]["path"]) == (raw, b"/messages")
    assert (reply.native, orjson.loads(reply.body)) == (True, MESSAGE)
    assert bench.bill() == (7, 2, "told", 1)


async def test_an_answer_that_will_be_translated_is_looked_through(
    executor: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine's answer of the wrong form is no answer to a client of another dialect."""
    route = Route("/v1/messages", b"/chat/completions", frozenset(), dialect=SPOKEN)
    request = Request(route, {"model": "m", "messages": MESSAGES}, stream=False, usage_asked=False)
    odd = {"choices": [{"finish_reason": "stop", "message": 5}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    for more in ({}, {"pad": "x" * LARGE_BYTES}):
        with pytest.raises(GatewayError):
            await Bench(whole({**odd, **more}), executor=executor).give(request=request)
    bench = Bench(whole(large()), executor=executor)
    looked: list[bytes] = []

    def watched(body: bytes) -> None:
        looked.append(body)

    monkeypatch.setattr("capstan_gateway.pipeline.call.check_answer", watched)
    executor.count = 0
    assert isinstance(await bench.give(request=request), WholeReply)
    assert (len(looked), executor.count) == (1, 2), "a large one once, beside the loop"
    assert bench.budget.held > 0, "what is to be translated has its room"
    bench.ask.leave()
    assert bench.budget.held == 0


async def test_sounds_with_one_prompt_are_heard_by_any_engine() -> None:
    """No cache has the beginning of what was heard; a session keeps to its engine."""
    bench = Bench(endpoints=2)
    calls: list[Call] = []

    async def dispatch(call: Call) -> None:
        calls.append(call)
        raise Asked

    bench.deps.dispatcher = SimpleNamespace(dispatch=dispatch)
    for session in ("", "s"):
        ask = an_ask(bench.model, document={"model": "m"}, budget=bench.budget)
        file = Form(b"b", "file", b"audio/wav", memoryview(b"sound"))
        ask.request = Request(
            HEARD, {"model": "m", "prompt": "x" * 1000}, stream=False, usage_asked=False, form=file
        )  # fmt: skip
        cast(Any, type(ask)).session.__set__(ask, session)
        with pytest.raises(Asked):
            await call_model(bench.deps, bench.model, ask)
    assert [call.affinity is None for call in calls] == [True, False]
    assert len(bench.model.endpoints.heads) == 0
