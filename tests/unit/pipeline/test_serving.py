"""One request from its bytes to its answer, on a connection that is a list of bytes: every path ends, and ends once."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from capstan_contract.config import ModelEntry, StaticBackend, Task, Timeouts
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.dialects.clients.spoken import MESSAGES as SPOKEN
from capstan_gateway.dialects.clients.spoken import RESPONSES
from capstan_gateway.errors import ClientGone, InvalidRequest, UpstreamFailed, UpstreamTimeout
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline import run
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import LARGE_BYTES
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.frame_room import FRAME_FACTOR, FREE_FRAME_BYTES
from capstan_gateway.pipeline.present import present, present_large
from capstan_gateway.pipeline.read_end import END_SECONDS
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.request import Route
from capstan_gateway.pipeline.send import _names as names
from capstan_gateway.pipeline.send import send_error
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.tokens.bill import TOLD
from capstan_gateway.tokens.usage import Usage
from capstan_gateway.upstream.errors import BodyBroken, ConnectFailed
from capstan_gateway.upstream.port import Endpoint
from fakes.openai_upstream import DONE, completion, delta, frame
from support.asks import CHAT
from support.runtimes import compile_whole
from support.serving import Answer, Client, read_answers, turns
from support.threads import Counted
from support.wait import eventually

BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
SAID = orjson.dumps(completion("m", "Hello"))
ALL = (frame(delta("m", "Hi")), frame(delta("m", None, "stop")), DONE)
DIALECT = Route("/v1/messages", b"/chat/completions", frozenset((Task.CHAT,)), streams=True, dialect=SPOKEN)
EMBED = Route("/v1/embeddings", b"/embeddings", frozenset((Task.EMBED,)), ("input",))
MESSAGE = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}


class Source:
    """What is left of a stream: pieces, errors, or silence; and what was said of it."""

    def __init__(self, *pieces: bytes | Exception, ends: bool = True) -> None:
        self.endpoint = Endpoint("e", "", 0)
        self.said: list[str] = []
        self.complete = False
        self._pieces = list(pieces)
        self._ends = ends

    async def receive(self) -> bytes:
        """Give the next piece."""
        await asyncio.sleep(0)
        if self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, Exception):
                raise piece
            return piece
        if not self._ends:
            await asyncio.Event().wait()
        self.complete = True
        return b""

    def finish(self) -> None:
        """It is whole."""
        self.said.append("finished")

    def blame(self, word: str) -> None:
        """It was its endpoint's fault."""
        self.said.append(word)

    def close(self) -> None:
        """Nobody reads on."""
        self.said.append("closed")


class Bench:
    """One request to a model that answers as a test says."""

    def __init__(
        self, answer: Callable[[Ask], Any], *, route: Route = CHAT, executor: Any = None, **fields: Any
    ) -> None:  # fmt: skip
        given = {"id": "t/m", "servedName": "m", "upstreamName": "m", "backend": StaticBackend(urls=()),
                 "timeouts": Timeouts(totalSeconds=77)}  # fmt: skip
        entries = [ModelEntry(**{**given, **fields}), ModelEntry(
            id="t/e", servedName="e", upstreamName="e", backend=StaticBackend(urls=()), task=Task.EMBED,
        )]  # fmt: skip
        self.runtime: Runtime = compile_whole(*entries, endpoints_of=lambda _: EndpointSet(EndpointRegistry()))
        self.model = self.runtime.models["m"]
        self.metrics = Metrics()
        self.lines: list[dict[str, Any]] = []
        self.left: list[Delivery] = []
        self.ends: list[str] = []
        self.clock = 1000.0
        log = SimpleNamespace(enabled=True, write=self.lines.append)
        self.deps = cast(Deps, SimpleNamespace(
            max_body_bytes=1 << 26, budget=MemoryBudget(1 << 30), executor=executor, clock=lambda: self.clock,
            metrics=self.metrics, request_log=log, responses=None, tenants=None, usage=None, comment_seconds=0.0,
            given=None, later=None,
        ))  # fmt: skip
        self.route = route
        self.deliveries: list[Delivery] = []

        async def answered(ask: Ask) -> Reply:
            ask.on_end(lambda: self.ends.append("ended"))
            said = answer(ask)
            if asyncio.iscoroutine(said) or asyncio.isfuture(said):
                said = await said
            if isinstance(said, BaseException):
                raise said
            ask.answered_by = self.model
            return cast(Reply, said)

        self.model.answer = answered
        self.client = Client(self.serve)

    async def serve(self, exchange: Exchange) -> None:
        """Do as the handler of the route does."""
        delivery = Delivery(exchange, route=self.route, runtime=self.runtime, started=self.clock, expires_at=2000.0)
        delivery.request_id, delivery.session, delivery.trace = b"r-1", "s", ((b"traceparent", b"t"),)
        delivery.content_type = b"application/json"
        exchange.on_gone = delivery.leave
        self.deliveries.append(delivery)
        exchange.task = asyncio.current_task()
        await run.serve(delivery, self.deps, self.left.append)

    def request(self, document: Any = BODY) -> bytes:
        """Give the bytes of a request."""
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        return b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    async def ask(self, document: Any = BODY) -> Answer:
        """Ask, and give the answer."""
        await self.client.say(self.request(document))
        await turns(60)
        return read_answers(bytes(self.client.transport.sent))[-1]

    def over(self) -> dict[str, Any]:
        """See that the request was ended once; give its line."""
        assert self.left == self.deliveries
        assert self.model.metrics.in_flight.value == 0
        assert self.deliveries[0].error is None, "its traceback would hold the request"
        assert len(self.ends) <= 1
        (line,) = self.lines
        return line


def whole(body: bytes = SAID, **more: Any) -> Callable[[Ask], Reply]:
    """Answer in one piece."""
    return lambda _: WholeReply(200, b"application/json", body, **more)


def stream(source: Source, first: bytes = ALL[0], **more: Any) -> Callable[[Ask], Reply]:
    """Answer with a stream that goes on from there; its relay has read what is sent first."""

    def answer(_: Ask) -> Reply:
        relay = StreamRelay(strip_usage=True)
        relay.feed(first)
        return StreamReply(first, cast(Any, source), relay, **more)

    return answer


async def test_an_answer_in_one_piece() -> None:
    """With its own headers, counted and written, and its ask ended: once."""

    def priced(ask: Ask) -> Reply:
        ask.bill.add(Usage(10, 5), TOLD, 15_000)
        ask.stats.attempts, ask.route_note = 2, b"weighted"
        ask.stats.first_byte, ask.stats.waited, ask.stats.read = 0.5, 0.25, 0.125
        bench.clock += 1.0
        return whole()(ask)

    bench = Bench(priced)
    answer = await bench.ask()
    assert (answer.status, answer.body) == (200, SAID)
    told = {name: answer.headers.get(name) for name in (
        "content-type", "x-capstan-model", "x-request-id", "x-gateway-attempts", "x-gateway-overhead-ms",
        "x-capstan-route", "x-capstan-cost", "request-id",
    )}  # fmt: skip
    assert told == {
        "content-type": "application/json", "x-capstan-model": "m", "x-request-id": "r-1", "x-gateway-attempts": "2",
        "x-gateway-overhead-ms": "125.00", "x-capstan-route": "weighted", "x-capstan-cost": "0.00001500",
        "request-id": None,
    }  # fmt: skip
    line = bench.over()
    assert (line["status"], line["model"], line["overhead_ms"]) == (200, "m", 125.0)
    assert bench.ends == ["ended"]
    ask = bench.deliveries[0].ask
    assert ask is not None
    assert (ask.expires_at, ask.started, ask.session, ask.request_id) == (1077.0, 1000.0, "s", b"r-1")
    assert (ask.trace, ask.holders, ask.ended, ask.budget) == (((b"traceparent", b"t"),), 0, True, bench.deps.budget)
    assert bench.deliveries[0].expires_at == 1077.0


async def test_time_of_others_is_never_counted_against_us() -> None:
    """Nor for us: what would be less than nothing is nothing. Without a price nothing is said of costs."""

    def slow(ask: Ask) -> Reply:
        ask.stats.first_byte = 5.0
        return whole()(ask)

    answer = await Bench(slow).ask()
    assert (answer.headers["x-gateway-overhead-ms"], "x-capstan-cost" in answer.headers) == ("0.00", False)


async def test_a_body_that_is_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly every one: its request is read in the turn of the loop in which it came."""
    monkeypatch.setattr(run, "receive_later", lambda *_: pytest.fail("waited for"))
    assert (await Bench(whole()).ask()).status == 200


async def test_a_body_in_two_reads_is_waited_for() -> None:
    """And is the same request then."""
    bench = Bench(whole())
    request = bench.request()
    await bench.client.say(request[:-5], request[-5:])
    assert bench.client.statuses == [200]
    assert bench.over()["status"] == 200


async def test_an_unknown_model_and_one_of_another_task() -> None:
    """They are refused by name; of an ask that never was nothing is ended."""
    bench = Bench(whole())
    answer = await bench.ask({**BODY, "model": "nobody"})
    error = orjson.loads(answer.body)["error"]
    assert (answer.status, error["message"], error["param"]) == (404, "the model `nobody` does not exist", "model")
    assert (bench.left, bench.lines[0]["status"]) == (bench.deliveries, 404)
    answer = await bench.ask({**BODY, "model": "e"})
    error = orjson.loads(answer.body)["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "invalid_value", "model")
    assert error["message"] == f"the model `e` does the task {Task.EMBED}, which /v1/chat/completions does not serve"
    assert answer.headers["x-request-id"] == "r-1"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InvalidRequest("no"), 400, "no"),
        (UpstreamFailed("failed"), 502, "failed"),
        (ConnectFailed("e", "refused"), 502, "the model's engine could not be reached"),
        (ValueError("a bug"), 500, "the gateway failed; the request id says where to look in its log"),
    ],
)
async def test_whatever_goes_wrong_is_an_answer(error: Exception, status: int, message: str) -> None:
    """And the end of the request, all the same."""
    bench = Bench(lambda _: error)
    answer = await bench.ask()
    assert (answer.status, orjson.loads(answer.body)["error"]["message"]) == (status, message)
    assert bench.over()["status"] == status
    assert bench.ends == ["ended"]


async def test_a_stream_is_sent_to_its_end() -> None:
    """As it comes; then its source is whole, and its connection can be used again."""
    source = Source(*ALL[1:])
    bench = Bench(stream(source))
    answer = await bench.ask()
    assert (answer.status, answer.body, answer.complete) == (200, b"".join(ALL), True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert (answer.headers["x-gateway-attempts"], answer.headers["x-capstan-model"]) == ("0", "m")
    assert (source.said, source.complete) == (["finished"], True)
    line = bench.over()
    assert (line["status"], line["endpoint"], line["first_token_ms"]) == (200, "e", 0.0)
    assert bench.deliveries[0].first_sent_at == 1000.0
    assert bench.deliveries[0].ended


async def test_a_stream_that_is_there_already_is_sent_in_one_write() -> None:
    """With nothing left to wait for but the end of its body, which may not come."""
    source = Source(BodyBroken("e", "x"))
    bench = Bench(stream(source, b"".join(ALL)))
    answer = await bench.ask()
    assert (answer.body, answer.complete) == (b"".join(ALL), True)
    assert source.said == ["finished"]
    assert bench.over()["status"] == 200
    silent = Source(ends=False)
    bench = Bench(stream(silent, b"".join(ALL)))
    await bench.ask()
    await asyncio.sleep(END_SECONDS + 0.1)
    assert bench.over()["status"] == 200


async def test_a_stream_that_breaks_is_told_within_it() -> None:
    """Its endpoint is blamed, its source closed before the client is told, and the cut counted."""
    for source, words in (
        (Source(b"data: {]\n\n"), ["StreamBroken", "closed"]),
        (Source(BodyBroken("e", "x")), ["closed"]),
    ):
        bench = Bench(stream(source))
        answer = await bench.ask()
        assert (answer.status, answer.complete) == (200, True)
        assert answer.body.startswith(ALL[0])
        assert b'"error":{' in answer.body
        assert source.said == words
        assert bench.model.metrics.truncated.value == 1
        assert bench.over()["status"] == 502
        assert bench.ends == ["ended"]


async def test_what_made_sense_before_nonsense_is_sent() -> None:
    """In front of the error; also where the stream had broken before it began to be sent."""
    bench = Bench(stream(Source(ALL[0] + b"data: {]\n\n")))
    answer = await bench.ask()
    assert answer.body.startswith(ALL[0] + ALL[0] + b"data: {")
    source = Source()
    bench = Bench(stream(source, broken=StreamBroken("broken")))
    answer = await bench.ask()
    assert answer.body.startswith(ALL[0])
    assert b"broken" in answer.body
    assert source.said == ["StreamBroken", "closed"]


@pytest.mark.parametrize(
    ("code", "said"), [(503, ["error-event", "finished"]), (500, ["error-event", "finished"]), (499, ["finished"])]
)
async def test_an_error_that_an_engine_tells_within_its_stream(code: int, said: list[str]) -> None:
    """It is the engine's fault from 500 on; the stream has its end all the same, and the line says what it was."""
    source = Source(frame({"error": {"message": "no", "code": code}}), DONE)
    bench = Bench(stream(source))
    answer = await bench.ask()
    assert answer.complete
    assert source.said == said
    assert "error" in bench.over()
    assert bench.model.metrics.truncated.value == 0


async def test_a_client_that_leaves_ends_its_request() -> None:
    """Without a word: nobody is there; it is counted as gone, and the model stops."""
    waits: list[asyncio.Future[Any]] = []

    def hangs(_: Ask) -> Any:
        waits.append(asyncio.get_running_loop().create_future())
        return waits[0]

    bench = Bench(hangs)
    await bench.client.say(bench.request())
    bench.client.transport.hang_up()
    await turns(30)
    assert waits[0].cancelled()
    assert bench.client.transport.sent == b""
    assert bench.over()["status"] == 499
    assert bench.ends == ["ended"]


@pytest.mark.parametrize("begun", [True, False])
async def test_who_is_over_time_is_told(begun: bool) -> None:
    """With the reason of the interruption, and the request goes on to its proper end."""
    source = Source(ends=False)
    bench = Bench(stream(source) if begun else lambda _: asyncio.get_running_loop().create_future())
    await bench.client.say(bench.request())
    await turns(20)
    bench.deliveries[0].interrupt(UpstreamTimeout("late"))
    await turns(40)
    (answer,) = read_answers(bytes(bench.client.transport.sent))
    assert (answer.status, b"late" in answer.body) == (200 if begun else 504, True)
    assert bench.over()["status"] == 504
    assert source.said == (["closed"] if begun else [])
    task = bench.deliveries[0].exchange.task
    assert task is None or not task.cancelled()


@pytest.mark.parametrize("begun", [True, False])
async def test_the_end_of_the_process_is_told(begun: bool) -> None:
    """To who waits for an answer; the cancellation goes on."""
    source = Source(ends=False)
    bench = Bench(stream(source) if begun else lambda _: asyncio.get_running_loop().create_future())
    await bench.client.say(bench.request())
    await turns(20)
    task = bench.deliveries[0].exchange.task
    assert task is not None
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    (answer,) = read_answers(bytes(bench.client.transport.sent))
    assert (answer.status, b"shutting down" in answer.body) == (200 if begun else 503, True)
    assert bench.over()["status"] == 503


async def test_who_does_not_read_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted stream whose client takes nothing ends without a last word, after a moment."""
    monkeypatch.setattr(run, "LAST_WORD_SECONDS", 0.05)
    bench = Bench(stream(Source(*[b": " + b"x" * 100_000 + b"\n\n" + ALL[0] * 3000] * 9, ends=False)))
    bench.client.transport.stuck = True
    await bench.client.say(bench.request())
    await turns(40)
    assert bench.deliveries[0].exchange.paused
    bench.deliveries[0].interrupt(UpstreamTimeout("late"))
    await eventually(lambda: bench.left == bench.deliveries, every=0.01, what="the end of the delivery")
    bench.over()


async def test_a_client_gone_in_the_middle_of_an_error_is_gone() -> None:
    """The error is told to nobody then."""
    bench = Bench(lambda _: ClientGone())
    await bench.client.say(bench.request())
    await turns(20)
    assert len(bench.left) == 1
    assert len(bench.lines) == 1


async def test_answers_in_the_clients_dialect() -> None:
    """Whole ones, large ones beside the loop, streams, errors; what is native already is passed on."""
    with Counted() as pool:
        for more in (0, LARGE_BYTES - len(orjson.dumps(completion("m", "Hello"))), LARGE_BYTES):
            said = orjson.dumps(completion("m", "Hello" + "x" * more))
            pool.count = 0
            bench = Bench(whole(said), route=DIALECT, executor=pool)
            await bench.client.say(bench.request(MESSAGE))
            await eventually(lambda bench=bench: bench.left, every=0.01, what="its end")
            (answer,) = read_answers(bytes(bench.client.transport.sent))
            document = orjson.loads(answer.body)
            assert (document["type"], document["content"][0]["text"]) == ("message", "Hello" + "x" * more)
            assert (answer.headers["request-id"], answer.headers["content-type"]) == ("r-1", "application/json")
            assert bench.deliveries[0].reply is not None
            assert bench.deliveries[0].reply.native
            assert pool.count == (len(said) > LARGE_BYTES)
            native = Bench(whole(b'{"x":"%b"}' % (b"x" * more), native=True), route=DIALECT, executor=pool)
            assert (await native.ask(MESSAGE)).body == b'{"x":"%b"}' % (b"x" * more)
    bench = Bench(stream(Source(*ALL[1:])), route=DIALECT)
    answer = await bench.ask({**MESSAGE, "stream": True})
    assert b"event: message_start" in answer.body
    assert b"event: message_stop" in answer.body
    bench.over()
    native = Bench(stream(Source(*ALL[1:]), native=True), route=DIALECT)
    assert (await native.ask({**MESSAGE, "stream": True})).body == b"".join(ALL)
    failed = Bench(lambda _: UpstreamFailed("no"), route=DIALECT)
    document = orjson.loads((await failed.ask(MESSAGE)).body)
    assert (document["type"], document["error"]["message"]) == ("error", "no")
    nonsense = Bench(whole(b"nonsense"), route=DIALECT)
    document = orjson.loads((await nonsense.ask(MESSAGE)).body)
    assert document["error"]["message"] == "the model's engine answered with something that is not JSON"


async def test_what_a_stream_has_cost_is_told_where_it_is_known() -> None:
    """At its beginning: of an answer that was held, not of one that is still on its way."""
    for still_open, told in ((0, "0.00001500"), (1, None)):

        def priced(ask: Ask, still_open: int = still_open) -> Reply:
            ask.bill.add(Usage(10, 5), TOLD, 15_000)
            ask.bill.open = still_open
            return stream(Source(*ALL[1:]))(ask)

        answer = await Bench(priced).ask()
        assert (answer.headers.get("x-capstan-cost"), answer.headers["x-capstan-model"]) == (told, "m")
        assert (answer.headers["transfer-encoding"], answer.body) == ("chunked", b"".join(ALL))
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_a_stream_without_a_last_word_gets_one() -> None:
    """Where its engine has said why it ends and then ends."""
    answer = await Bench(stream(Source(ALL[1]))).ask()
    assert answer.body == b"".join(ALL)


async def test_a_held_stream_is_one_write() -> None:
    """Head, frames and end together; one that goes on is not ended by its head."""
    bench = Bench(stream(Source(), b"".join(ALL)))
    written: list[bytes] = []
    write = bench.client.transport.write

    def watched(data: Any) -> None:
        written.append(bytes(data))
        write(data)

    bench.client.transport.write = watched  # type: ignore[method-assign]
    await bench.ask()
    assert len(written) == 1


async def test_who_answered_is_named() -> None:
    """Where it is another model than the one that was asked for; a virtual model is found by its name too."""
    bench = Bench(whole())
    other = bench.runtime.models["e"]

    async def by_another(ask: Ask) -> Reply:
        ask.answered_by = other
        assert ask.runtime is bench.runtime
        return whole()(ask)

    bench.model.answer = by_another
    assert (await bench.ask()).headers["x-capstan-model"] == "e"
    assert bench.runtime.auto is not None
    bench.runtime.auto.answer = by_another
    assert (await bench.ask({**BODY, "model": "auto"})).status == 200


async def test_requests_in_flight_are_counted() -> None:
    """Each of them, as long as it lasts; each stream that breaks as well."""
    bench = Bench(lambda _: asyncio.get_running_loop().create_future())
    await bench.client.say(bench.request())
    second = Client(bench.serve)
    await second.say(bench.request())
    assert bench.model.metrics.in_flight.value == 2
    for client in (bench.client, second):
        client.transport.hang_up()
    await turns(30)
    assert bench.model.metrics.in_flight.value == 0
    breaks = Bench(lambda ask: stream(Source(BodyBroken("e", "x")))(ask))
    for _ in range(2):
        client = Client(breaks.serve)
        await client.say(breaks.request())
        await turns(30)
    assert breaks.model.metrics.truncated.value == 2


async def test_a_bug_is_found_by_the_id_of_its_request(caplog: pytest.LogCaptureFixture) -> None:
    """It stands beside the traceback."""
    await Bench(lambda _: ValueError("a bug")).ask()
    assert [record.__dict__.get("request_id") for record in caplog.records] == ["r-1"]


@pytest.mark.parametrize("ends", ["over time", "process"])
async def test_an_error_that_cannot_be_told_in_time_is_not_waited_for(
    ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client does not read: an interruption ends the telling as well, and so does the end of the process."""
    monkeypatch.setattr(run, "LAST_WORD_SECONDS", 0.05)
    bench = Bench(stream(Source(ALL[0] * 3000 + b"data: {]\n\n")))
    bench.client.transport.stuck = True
    await bench.client.say(bench.request())
    await turns(40)
    (delivery,) = bench.deliveries
    task = delivery.exchange.task
    assert delivery.status == 502
    assert task is not None
    if ends == "process":
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    else:
        delivery.interrupt(UpstreamTimeout("late"))
        await asyncio.wait([task])
        assert (task.cancelled(), task.cancelling(), delivery.status) == (False, 0, 504)
    assert bench.left == [delivery]


async def test_errors_within_a_stream_are_in_the_clients_dialect() -> None:
    """Also where it broke before it was sent; of a translated request it is told what was left out of it."""
    for answer in (stream(Source(BodyBroken("e", "x"))), stream(Source(), broken=StreamBroken("broken"))):
        bench = Bench(answer, route=DIALECT)
        told = await bench.ask({**MESSAGE, "stream": True})
        assert b"event: error" in told.body
        assert b"Hi" in told.body
        assert bench.over()["error"] == "upstream_error"
        assert cast(Any, bench.deliveries[0].reply).native
    tools = [{"type": "web_search_20250305", "name": "web_search"}, {"type": "web_search_20250305", "name": "again"}]
    for document in ({**MESSAGE, "tools": tools}, {**MESSAGE, "tools": tools, "stream": True}):
        bench = Bench(stream(Source(*ALL[1:])) if document.get("stream") else whole(), route=DIALECT)
        assert (await bench.ask(document)).headers["x-capstan-dropped-tools"] == "web_search_20250305"


async def test_an_answer_refers_to_the_clients_own_request() -> None:
    """Whole, large or as a stream: a response repeats what was asked for."""
    route = Route("/v1/responses", b"/chat/completions", frozenset((Task.CHAT,)), streams=True, dialect=RESPONSES)
    document = {"model": "m", "input": "x", "instructions": "be kind", "store": False}
    with Counted() as pool:
        for more in (0, LARGE_BYTES):
            said = orjson.dumps(completion("m", "Hello" + "x" * more))
            bench = Bench(whole(said), route=route, executor=pool)
            await bench.client.say(bench.request(document))
            await eventually(lambda bench=bench: bench.left, every=0.01, what="its end")
            (answer,) = read_answers(bytes(bench.client.transport.sent))
            assert orjson.loads(answer.body)["instructions"] == "be kind"
    bench = Bench(stream(Source(*ALL[1:])), route=route)
    answer = await bench.ask({**document, "stream": True})
    assert answer.body.count(b"be kind") >= 2


async def test_where_nothing_is_to_be_translated_a_reply_stays_what_it_is() -> None:
    """On a route without a dialect, and where nobody knows what the client sent; also a large one."""
    exchange = cast(Exchange, SimpleNamespace(task=None))
    runtime = Bench(whole()).runtime
    for route, document in ((CHAT, MESSAGE), (DIALECT, None)):
        delivery = Delivery(exchange, route=route, runtime=runtime, started=0.0, expires_at=1.0)
        delivery.client_document = document
        reply = WholeReply(200, b"application/json", SAID)
        assert present(delivery, reply) is reply
        with Counted() as pool:
            assert await present_large(delivery, reply, pool) is reply


def test_a_stream_that_broke_before_it_is_translated_stays_broken() -> None:
    """Whoever sends it has to know: what is translated of it is sent, and then what broke it."""
    delivery = Delivery(
        cast(Exchange, SimpleNamespace(task=None)), route=DIALECT, runtime=cast(Runtime, None), started=0.0,
        expires_at=1.0,
    )  # fmt: skip
    delivery.client_document = MESSAGE
    broken = StreamBroken("broken")
    source = cast(Any, Source())
    given = present(delivery, StreamReply(ALL[0], source, StreamRelay(strip_usage=True), broken=broken))
    assert isinstance(given, StreamReply)
    assert (given.broken, given.native, given.source) == (broken, True, source)
    assert b"event: message_start" in given.first


async def test_an_error_in_a_stream_that_nothing_is_known_of() -> None:
    """It ends as a stream of chat completions does."""

    async def handler(exchange: Exchange) -> None:
        delivery = Delivery(exchange, route=CHAT, runtime=cast(Runtime, None), started=0.0, expires_at=1.0)
        exchange.start(200, b"", b"begun ")
        await send_error(delivery, InvalidRequest("no"))
        assert delivery.status == 400

    client = Client(handler)
    await client.say(Bench(whole()).request())
    (answer,) = read_answers(bytes(client.transport.sent))
    assert answer.body.startswith(b"begun data: ")
    assert b'"message":"no"' in answer.body
    assert answer.body.endswith(DONE)


def test_what_was_left_out_is_told_by_names_that_fit_into_a_header() -> None:
    """Each once, without characters that mean something there, and not without a bound."""
    assert names(["b", "a b\r\nc", "b", "ok_.-1"]) == b"b, a_b__c, ok_.-1"
    assert names(["x" * 100]) == b"x" * 64
    assert names([str(number) for number in range(100)]).endswith(b", 63")


class KeepingRelay(StreamRelay):
    """Keeps half of all that comes, as one does whose text waits behind an open call, and gives something out too."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        super().__init__(strip_usage=True)
        self.waiting = 0

    @property
    def kept(self) -> int:
        return self.waiting

    def feed(self, data: bytes) -> bytes:
        """Pass it on, and keep half of it."""
        self.waiting += len(data) // 2
        return super().feed(data)

    def finish(self) -> bytes:
        """Let go of it."""
        self.waiting = 0
        return super().finish()


@pytest.mark.parametrize("room", [True, False])
async def test_what_a_stream_keeps_is_in_the_budget_whatever_it_gives_out(room: bool) -> None:
    """Text that waits while other frames pass is taken from the budget as well; without room the stream ends."""
    piece = frame(delta("m", "x" * 1000)) * 40
    source = Source(*[piece] * 8, *ALL[1:])
    relay = KeepingRelay()
    bench = Bench(lambda _: StreamReply(ALL[0], cast(Any, source), relay))
    budget = bench.deps.budget
    if not room:
        bench.deps.budget = MemoryBudget(FRAME_FACTOR * 3 * len(piece))  # type: ignore[misc]
    most = 0

    class Watched(Source):
        async def receive(self) -> bytes:
            nonlocal most
            most = max(most, budget.held)
            assert not room or relay.kept <= 2 * FREE_FRAME_BYTES or budget.held >= FRAME_FACTOR * relay.kept
            return await super().receive()

    source.__class__ = Watched
    answer = await bench.ask()
    await turns(200)
    if room:
        assert answer.body == ALL[0] + piece * 8 + ALL[1] + ALL[2]
        assert most >= FRAME_FACTOR * 3 * len(piece)
        assert bench.over()["status"] == 200
    else:
        assert b'"error":{' in read_answers(bytes(bench.client.transport.sent))[-1].body
        assert bench.over()["status"] == 503
    assert bench.deps.budget.held == 0


async def test_what_was_fetched_for_a_request_is_let_go_of_before_its_answer_is_sent() -> None:
    """A stream may go on for long: the images of its request are of no more use when it begins."""
    closed: list[bool] = []
    images = cast(Any, SimpleNamespace(close=lambda: closed.append(source.complete)))
    source = Source(*ALL[1:])

    def answer(ask: Ask) -> Reply:
        ask.images(lambda: images)
        return stream(source)(ask)

    bench = Bench(answer)
    await bench.ask()
    assert closed == [False]
    assert bench.over()["status"] == 200


@pytest.mark.parametrize("route", [CHAT, DIALECT])
async def test_a_conversation_is_cut_where_that_is_asked_for(route: Route) -> None:
    """What went is in a header and in the log, the model is sent what stayed; without the field there is no word."""
    turns = [{"role": role, "content": "x" * 400} for _ in range(3) for role in ("user", "assistant")]
    document = {**(MESSAGE if route is DIALECT else BODY), "messages": [*turns, {"role": "user", "content": "y"}]}
    bench = Bench(whole(), route=route)
    answer = await bench.ask({**document, "capstan": {"trim": {"max_tokens": 250}}})
    assert answer.headers["x-capstan-trimmed"] == "messages=4; tokens=412"
    assert bench.over()["trimmed_messages"] == 4
    (sent,) = bench.deliveries
    assert sent.ask is not None
    assert [m["content"][:1] for m in sent.ask.request.document["messages"]] == ["x", "x", "y"]
    if route is DIALECT:
        assert sent.ask.request.native is not None
        assert len(sent.ask.request.native.document["messages"]) == 3
    bench = Bench(whole(), route=route)
    assert "x-capstan-trimmed" not in (await bench.ask(document)).headers


@pytest.mark.parametrize(
    ("route", "param", "must"),
    [
        (
            CHAT,
            "capstan.trim.max_tokens",
            "is 5, and what is never dropped (system messages, tools, the last turn) has",
        ),
        (EMBED, "capstan.trim", "is not supported on /v1/embeddings"),
    ],
)
async def test_what_cannot_be_cut_is_refused(route: Route, param: str, must: str) -> None:
    """Nothing is sent that is longer than asked for, and no route without messages takes the field."""
    document = {"model": "m", "input": "x", "messages": [{"role": "user", "content": "x" * 400}]}
    answer = await Bench(whole(), route=route).ask({**document, "capstan": {"trim": {"max_tokens": 5}}})
    error = orjson.loads(answer.body)["error"]
    assert (answer.status, error["param"]) == (400, param)
    assert error["message"].startswith(f"`{param}` {must}")
