"""The body of a request, read: what is refused, with which field, and what follows from what is said."""

import asyncio
import zlib
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from capstan_contract.config import Task
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.documents import INLINE_BYTES
from capstan_gateway.errors import ClientGone, GatewayError, InvalidRequest, NotJson, RequestTooLarge
from capstan_gateway.pipeline import parse as parsing
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.parse import MAX_MODEL_NAME, parse, receive, receive_later, translate
from capstan_gateway.pipeline.request import Request, Route
from support.threads import Counted

CHAT = Route("/v1/chat/completions", b"/chat/completions", frozenset((Task.CHAT,)), ("messages",), streams=True)
RERANK = Route("/v1/rerank", b"/rerank", frozenset((Task.SCORE,)), ("query", "documents"))
NATIVE = Route("/v1/messages", b"/chat/completions", frozenset((Task.CHAT,)), streams=True, dialect=MESSAGES)
WHOLE = Route("/v1/messages", b"/chat/completions", frozenset((Task.CHAT,)), dialect=MESSAGES)
TURN = {"role": "user", "content": "x"}
ASKED: dict[str, Any] = {"model": "m", "messages": [TURN]}


def read(document: Any, route: Route = CHAT) -> Request:
    """Read a body."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return parse(route, body) if route.dialect is None else translate(route, route.dialect, body, [])


NAME = f"`model` must be a string of 1 to {MAX_MODEL_NAME} characters"
MESSAGES_LIST = "`messages` must be a list of at least one message"
REFUSED: list[tuple[Route, Any, str | None, str | None, str]] = [
    (CHAT, b"[]", None, "invalid_json", "the body must be a JSON object"),
    (CHAT, b"7", None, "invalid_json", "the body must be a JSON object"),
    (CHAT, {"messages": [TURN]}, "model", "missing_required_parameter", "`model` is required"),
    (CHAT, {**ASKED, "model": None}, "model", "missing_required_parameter", "`model` is required"),
    (CHAT, {**ASKED, "model": ""}, "model", "invalid_value", NAME),
    (CHAT, {**ASKED, "model": "m" * (MAX_MODEL_NAME + 1)}, "model", "invalid_value", NAME),
    (CHAT, {**ASKED, "model": 7}, "model", "invalid_value", NAME),
    (CHAT, {**ASKED, "model": ["m"]}, "model", "invalid_value", NAME),
    (CHAT, {"model": "m"}, "messages", "missing_required_parameter", "`messages` is required"),
    (CHAT, {"model": "m", "messages": None}, "messages", "missing_required_parameter", "`messages` is required"),
    (RERANK, {"model": "m", "query": "x"}, "documents", "missing_required_parameter", "`documents` is required"),
    (CHAT, {**ASKED, "messages": "x"}, "messages", "invalid_value", MESSAGES_LIST),
    (CHAT, {**ASKED, "messages": []}, "messages", "invalid_value", MESSAGES_LIST),
    (CHAT, {**ASKED, "messages": [TURN, "x"]}, "messages.1", "invalid_value", "`messages.1` must be an object"),
    (CHAT, {**ASKED, "messages": [{}]}, "messages.0.role", "invalid_value", "`messages.0.role` must be a string"),
    (CHAT, {**ASKED, "messages": [TURN, {"role": 7}]}, "messages.1.role", "invalid_value",
     "`messages.1.role` must be a string"),
    (CHAT, {**ASKED, "stream": "yes"}, "stream", "invalid_value", "`stream` must be true or false"),
    (CHAT, {**ASKED, "stream": 1}, "stream", "invalid_value", "`stream` must be true or false"),
    (CHAT, {**ASKED, "stream": True, "stream_options": 7}, "stream_options", "invalid_value",
     "`stream_options` must be an object"),
    (CHAT, {**ASKED, "stream_options": {}}, "stream_options", "invalid_value",
     "`stream_options` is only allowed when `stream` is true"),
    (CHAT, {**ASKED, "stream": False, "stream_options": {"include_usage": True}}, "stream_options", "invalid_value",
     "`stream_options` is only allowed when `stream` is true"),
    (RERANK, {"model": "m", "query": "x", "documents": [], "stream": True}, "stream", "invalid_value",
     "`stream` is not supported on this route"),
    (NATIVE, {"max_tokens": 1}, "model", "missing_required_parameter", "`model` is required"),
    (NATIVE, {**ASKED, "max_tokens": 1, "stream": "yes"}, "stream", "invalid_value", "`stream` must be true or false"),
    (WHOLE, {**ASKED, "max_tokens": 1, "stream": True}, "stream", "invalid_value",
     "`stream` is not supported on this route"),
]  # fmt: skip


@pytest.mark.parametrize(("route", "document", "param", "code", "message"), REFUSED)
def test_what_makes_an_answer_impossible_is_refused(
    route: Route, document: Any, param: str | None, code: str | None, message: str
) -> None:
    """With the path of the field, a code that programs know, and a sentence that says what is allowed."""
    with pytest.raises(InvalidRequest) as refusal:
        read(document, route)
    assert (refusal.value.param, refusal.value.code, str(refusal.value)) == (param, code, message)


def test_no_json_is_said_to_be_none() -> None:
    """With what the parser says, and nothing of what was there."""
    with pytest.raises(InvalidRequest, match=r"^the body is not JSON: ") as refusal:
        read(b'{"model": my-secret}')
    assert refusal.value.code == "invalid_json"
    assert "my-secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("said", "stream", "usage"),
    [
        ({}, False, False),
        ({"stream": None, "stream_options": None}, False, False),
        ({"stream": False}, False, False),
        ({"stream": False, "stream_options": None}, False, False),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": None}, True, False),
        ({"stream": True, "stream_options": {}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
    ],
)
def test_whether_a_stream_and_its_usage_are_wanted(said: dict[str, Any], stream: bool, usage: bool) -> None:
    """By what the body says; `null` says nothing. The bytes go on as they came."""
    body = orjson.dumps({**ASKED, **said})
    asked = parse(CHAT, body)
    assert (asked.stream, asked.usage_asked) == (stream, usage)
    assert asked.raw is body
    assert (asked.document, asked.route, asked.native, asked.untranslatable) == ({**ASKED, **said}, CHAT, None, None)


def test_a_name_may_be_as_long_as_is_said() -> None:
    """One character, and the most that there may be."""
    for size in (1, MAX_MODEL_NAME):
        assert read({**ASKED, "model": "m" * size}).document["model"] == "m" * size


def test_a_document_that_is_there_already_is_not_parsed_again() -> None:
    """Whoever has parsed the body hands the document over."""
    document = dict(ASKED)
    assert parse(CHAT, b"not looked at", document).document is document
    native = {**ASKED, "max_tokens": 5}
    body = b'"model" "messages" are all that is looked for'
    translated = translate(NATIVE, MESSAGES, body, [(b"anthropic-beta", b"x")], native)
    assert translated.native is not None
    assert (translated.native.document, translated.native.body) == (native, body)
    assert translated.headers == [(b"anthropic-beta", b"x")]


@pytest.mark.parametrize("stream", [None, False, True])
def test_a_request_in_a_dialect_is_read_as_a_chat(stream: bool | None) -> None:
    """What the client said is kept beside it, for a model that speaks the dialect; a stream ends with its usage."""
    said = {**ASKED, "max_tokens": 5} | ({} if stream is None else {"stream": stream})
    asked = read(said, NATIVE)
    assert asked.document["messages"] == [TURN]
    assert (asked.stream, asked.usage_asked) == (bool(stream), bool(stream))
    assert (asked.untranslatable, asked.raw, asked.route) == (None, None, NATIVE)
    assert asked.native is not None
    assert asked.native.document == said


@pytest.mark.parametrize("stream", [None, True])
def test_what_chat_cannot_say_waits_for_a_model_that_can(stream: bool | None) -> None:
    """The document then holds the name and nothing of what was asked; the refusal is kept, not raised."""
    said = {**ASKED, "max_tokens": 5, "mcp_servers": [{"url": "x"}]} | ({} if stream is None else {"stream": stream})
    asked = read(said, NATIVE)
    assert asked.document == {"model": "m", "messages": [], "stream": bool(stream)}
    assert isinstance(asked.untranslatable, InvalidRequest)
    assert asked.native is not None
    assert asked.native.document == said


class Given:
    """An exchange whose body is there, or is not yet."""

    def __init__(
        self, body: bytes | None, *headers: tuple[bytes, bytes], gone: bool = False, length: int | None = None
    ) -> None:
        self.body = body
        self.headers = list(headers)
        self.length = length
        self.received = len(body or b"")
        self.limits: list[int] = []
        self.gone = gone
        self.reserved = 0
        self.memory = SimpleNamespace(grow_easily=lambda _: True)

    def whole_body(self, limit: int) -> bytes | None:
        """Give the body if it is there in one piece."""
        self.limits.append(limit)
        return self.body

    async def read_body(self, limit: int) -> bytes:
        """Give the body when it is there."""
        self.limits.append(limit)
        if self.gone:
            raise ClientGone
        return self.body or b""

    def reserve(self, size: int) -> None:
        """Take what is needed."""
        self.reserved += size

    reserve_body = reserve


def delivered(exchange: Given, route: Route = CHAT, **head: bytes) -> Delivery:
    """Give a delivery with this head."""
    delivery = Delivery(cast(Any, exchange), route=route, runtime=cast(Any, None), started=1.0, expires_at=9.0)
    for name, value in head.items():
        setattr(delivery, name, value)
    return delivery


DEPS = cast(Deps, SimpleNamespace(max_body_bytes=1000, later=None, clock=lambda: 5.0, executor=None))
BODY = orjson.dumps(ASKED)


def test_a_small_body_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and it is said when it was there."""
    monkeypatch.setattr(parsing, "load", lambda _: pytest.fail("is parsed again"))
    exchange = Given(BODY)
    delivery = delivered(exchange)
    asked = receive(delivery, DEPS)
    assert asked is not None
    assert (asked.document, asked.raw) == (ASKED, BODY)
    assert (delivery.body_at, delivery.client_document) == (5.0, None)
    assert exchange.limits == [1000]


@pytest.mark.parametrize("coding", [None, b"gzip", b"identity"])
def test_what_is_not_there_is_waited_for(coding: bytes | None) -> None:
    """A body on its way, a large one, and one that says how it is coded are for later."""
    if coding is not None:
        assert receive(delivered(Given(BODY), content_encoding=coding), DEPS) is None
        return
    for exchange in (Given(None), Given(b" " * (INLINE_BYTES + 1))):
        delivery = delivered(exchange)
        assert receive(delivery, DEPS) is None
        assert not delivery.body_at
    assert receive(delivered(Given(BODY + b" " * (INLINE_BYTES - len(BODY)))), DEPS) is not None


async def test_what_comes_later_is_read_in_the_same_way() -> None:
    """Within the same bound; of a client that went it is said that it did."""
    exchange = Given(BODY)
    delivery = delivered(exchange, content_encoding=b"identity")
    asked = await receive_later(delivery, DEPS)
    assert (asked.document, delivery.body_at, exchange.limits) == (ASKED, 5.0, [1000])
    gone = delivered(Given(None, gone=True))
    with pytest.raises(ClientGone):
        await receive_later(gone, DEPS)
    assert (gone.client_gone, gone.body_at) == (True, 0.0)


@pytest.mark.parametrize("coding", [None, b"deflate"])
@pytest.mark.parametrize("size", [INLINE_BYTES, INLINE_BYTES + 1])
async def test_a_large_or_compressed_body_is_read_beside_the_loop(coding: bytes | None, size: int) -> None:
    """It comes to the same request, and what it takes is reserved before it is parsed."""
    body = BODY.ljust(size)
    exchange = Given(zlib.compress(body) if coding else body)
    delivery = delivered(exchange, **({} if coding is None else {"content_encoding": coding}))
    with Counted() as executor:
        deps = cast(Deps, SimpleNamespace(max_body_bytes=size, later=None, clock=lambda: 5.0, executor=executor))
        asked = await receive_later(delivery, deps)
        assert (asked.document, asked.raw) == (ASKED, body)
        assert asyncio.get_running_loop()._default_executor is None, "it has a thread of its own"  # type: ignore
        assert (exchange.reserved > 0) == (coding is not None or size > INLINE_BYTES)
        less = cast(Deps, SimpleNamespace(max_body_bytes=size - 1, later=None, clock=lambda: 5.0, executor=executor))
        if coding is not None:
            with pytest.raises(RequestTooLarge, match=rf"the decompressed body is larger than {size - 1} bytes"):
                await receive_later(delivery, less)


def test_a_dialects_own_headers_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions and beta features, as long as they are short; no other header reaches a provider."""
    monkeypatch.setattr(parsing, "load", lambda _: pytest.fail("is parsed again"))
    headers = [(b"anthropic-version", b"2023-06-01"), (b"authorization", b"Bearer x"), (b"anthropic-beta", b"b" * 1024),
               (b"anthropic-beta", b"b" * 1025)]  # fmt: skip
    said = {**ASKED, "max_tokens": 5}
    body = b" " + orjson.dumps(said)
    delivery = delivered(Given(body, *headers), NATIVE)
    asked = receive(delivery, DEPS)
    assert asked is not None
    assert asked.headers == [headers[0], headers[2]]
    assert delivery.client_document == said
    assert asked.native is not None
    assert (asked.route, asked.native.body) == (NATIVE, body)


@pytest.mark.parametrize(
    ("head", "refusal", "message"),
    [
        ({"content_type": b"text/plain"}, NotJson, "the content type must be application/json"),
        ({"content_type": b"application/jsonx"}, NotJson, "the content type must be application/json"),
        ({"content_type": b"application/json"}, None, ""),
        ({"content_type": b" Application/JSON ;charset=utf-8;x"}, None, ""),
        ({"content_type": b"application/vnd.api+json; a=b"}, None, ""),
        ({"content_type": b"text/plain; x=application/json"}, NotJson, "the content type must be application/json"),
        ({"content_encoding": b"snappy"}, NotJson, "the body may be compressed with one of "),
    ],
)
def test_the_head_alone_may_refuse_a_body(
    head: dict[str, bytes], refusal: type[GatewayError] | None, message: str
) -> None:
    """Too long, of another type, or coded in a way that is not known: none of it is read."""
    exchange = Given(BODY)
    if refusal is None:
        assert receive(delivered(exchange, **head), DEPS) is not None
        return
    with pytest.raises(refusal, match=rf"^{message}") as refused:
        receive(delivered(exchange, **head), DEPS)
    assert exchange.limits == []
    assert refused.value.param == ("content-encoding" if "content_encoding" in head else None)
    assert [name for name, _ in refused.value.headers] == [b"accept-encoding"] * ("content_encoding" in head)


def test_a_length_that_is_told_may_refuse_a_body() -> None:
    """Up to the bound it says nothing, and one that is not told neither; above it nothing is read."""
    for length in (None, 0, 1000):
        assert receive(delivered(Given(BODY, length=length)), DEPS) is not None
    exchange = Given(BODY, length=1001)
    with pytest.raises(RequestTooLarge, match=r"^the body is larger than 1000 bytes"):
        receive(delivered(exchange), DEPS)
    assert exchange.limits == []


@pytest.mark.parametrize("coding", [b" GZIP ", b"gzip", b"Identity"])
def test_a_coding_is_known_however_it_is_written(coding: bytes) -> None:
    """Case and spaces say nothing; whoever looks later finds the plain name."""
    delivery = delivered(Given(BODY), content_encoding=coding)
    assert receive(delivery, DEPS) is None
    assert delivery.content_encoding == coding.strip().lower()
