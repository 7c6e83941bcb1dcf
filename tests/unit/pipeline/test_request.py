"""The one request value: what is sent follows from what it says."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from capstan_contract.config import ExternalBackend, ExternalEndpoint, ModelEntry, Provider, StaticBackend, Task
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.clients.forms import Form
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.adapters import adapter_for
from capstan_gateway.pipeline.outgoing import build_body
from capstan_gateway.pipeline.parse import parse, translate
from capstan_gateway.pipeline.request import Request, Route
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics

CHAT = Route("/v1/chat/completions", b"/chat/completions", frozenset((Task.CHAT,)), ("messages",), streams=True)
ANTHROPIC = Route("/v1/messages", b"/chat/completions", frozenset((Task.CHAT,)), streams=True, dialect=MESSAGES)
COUNT = Route("/v1/messages/count_tokens", b"/messages/count_tokens", frozenset((Task.CHAT,)), dialect=MESSAGES)
OPENAI = Route("/v1/responses", b"/chat/completions", frozenset((Task.CHAT,)), streams=True, dialect=RESPONSES)
EMBED = Route("/v1/embeddings", b"/embeddings", frozenset((Task.EMBED,)), ("input",))


def model(provider: Provider | None = None, name: str = "m") -> ServedModel:
    """Give a model, hosted by this provider or an engine's."""
    backend: Any = StaticBackend(urls=("http://127.0.0.1:1",))
    if provider is not None:
        backend = ExternalBackend(provider=provider, endpoints=(ExternalEndpoint(name="a", url="http://127.0.0.1:1"),))
    entry = ModelEntry(id="t/m", servedName="m", upstreamName=name, backend=backend)
    return ServedModel(
        entry, name="m", upstream_name=name,
        endpoints=EndpointSet(EndpointRegistry()), metrics=ModelMetrics(Metrics(), "m"),
    )  # fmt: skip


def request(route: Route, document: dict[str, Any] | bytes) -> Request:
    """Give a request as it comes from a client."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return parse(route, body) if route.dialect is None else translate(route, route.dialect, body, [])


def sent(asked: Request, to: ServedModel) -> bytes:
    """Give the bytes that the model would be sent."""
    adapter = adapter_for(asked, to) if to.provider or asked.route.dialect is not None else None
    return build_body(asked, to) if adapter is None else adapter.body(asked, to)


SECRET = "my-secret"
TURN = {"role": "user", "content": SECRET}
ASKED: list[tuple[str, Route, dict[str, Any]]] = [
    ("chat", CHAT, {"model": "m", "messages": [TURN]}),
    ("a chat stream", CHAT, {"model": "m", "messages": [TURN], "stream": True}),
    ("messages", ANTHROPIC, {"model": "m", "max_tokens": 9, "messages": [TURN]}),
    ("a messages stream", ANTHROPIC, {"model": "m", "max_tokens": 9, "messages": [TURN], "stream": True}),
    ("counting", COUNT, {"model": "m", "max_tokens": 9, "messages": [TURN]}),
    ("responses", OPENAI, {"model": "m", "input": SECRET}),
    ("a responses stream", OPENAI, {"model": "m", "input": SECRET, "stream": True}),
    ("embeddings", EMBED, {"model": "m", "input": SECRET}),
]
MODELS: list[tuple[str, Callable[[], ServedModel]]] = [
    ("an engine", model),
    ("an engine under another name", lambda: model(name="other")),
    ("OpenAI", lambda: model(Provider.OPENAI)),
    ("Anthropic", lambda: model(Provider.ANTHROPIC)),
    ("a compatible API", lambda: model(Provider.OPENAI_COMPATIBLE)),
]


@pytest.mark.parametrize(("_kind", "served"), MODELS, ids=[kind for kind, _ in MODELS])
@pytest.mark.parametrize(("_what", "route", "document"), ASKED, ids=[what for what, _, _ in ASKED])
def test_what_is_rewritten_is_what_is_sent(
    _what: str, route: Route, document: dict[str, Any], _kind: str, served: Callable[[], ServedModel]
) -> None:
    """What is taken out of the document reaches no provider, whatever dialect the client and the model speak."""
    asked, to = request(route, document), served()
    rewritten = asked.rewritten(orjson.loads(orjson.dumps(asked.document).replace(SECRET.encode(), b"[REDACTED]")))
    try:
        assert SECRET.encode() in sent(asked, to)
    except InvalidRequest:
        # This model has no such route.
        with pytest.raises(InvalidRequest):
            sent(rewritten, to)
        return
    body = sent(rewritten, to)
    assert SECRET.encode() not in body
    assert b"[REDACTED]" in body
    assert (rewritten.stream, rewritten.usage_asked) == (asked.stream, asked.usage_asked)


TWICE = [
    (CHAT, b'{"model":"m","messages":[{"role":"user","content":"my-secret","content":"harmless"}]}'),
    (
        CHAT,
        b'{"messages":[{"role":"user","content":"my-secret"}],"model":"m","messages":[{"role":"user","content":"x"}]}',
    ),
    (EMBED, b'{"model":"m","input":"my-secret","input":"x"}'),
    (ANTHROPIC, b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"my-secret","content":"x"}]}'),
    (OPENAI, b'{"model":"m","input":"my-secret","input":"x"}'),
]


@pytest.mark.parametrize(("_kind", "served"), MODELS, ids=[kind for kind, _ in MODELS])
@pytest.mark.parametrize(("route", "body"), TWICE)
def test_what_is_read_is_what_is_sent(route: Route, body: bytes, _kind: str, served: Callable[[], ServedModel]) -> None:
    """Of a key that stands there twice the engine gets the one that was read here, and no other."""
    asked = request(route, body).as_read()
    assert SECRET not in str(asked.document)
    try:
        assert SECRET.encode() not in sent(asked, served())
    except InvalidRequest:
        assert served().provider


def test_what_is_asked_besides_stays_when_the_request_is_another_one() -> None:
    """Read or rewritten, it is of its route, or the one that is said, and a provider hears the same versions."""
    headers = [(b"anthropic-beta", b"x")]
    said = {"model": "m", "max_tokens": 9, "messages": [TURN], "stream": True}
    asked = translate(ANTHROPIC, MESSAGES, orjson.dumps(said), headers)
    read = asked.as_one_reading()
    assert (read.route, read.stream, read.usage_asked, read.headers) == (ANTHROPIC, True, True, headers)
    assert (read.document, read.raw) == (asked.document, None)
    assert read.native is not None
    assert read.native.document == said
    assert orjson.loads(read.native.body) == said
    alone = asked.as_read()
    assert (alone.route, alone.stream, alone.usage_asked, alone.headers) == (ANTHROPIC, True, True, headers)
    assert (alone.document, alone.raw, alone.native) == (asked.document, None, None)
    assert asked.rewritten({}).headers == headers
    assert (asked.rewritten({}).route, asked.rewritten({}, route=CHAT).route) == (ANTHROPIC, CHAT)
    plain = asked.rewritten({"stream": True})
    assert plain.as_one_reading() is plain
    assert parse(CHAT, orjson.dumps({"model": "m", "messages": [TURN]})).as_one_reading().native is None


@pytest.mark.parametrize("options", [None, 7, {}, {"include_usage": 0}, {"include_usage": None}])
def test_usage_is_asked_for_in_so_many_words(options: Any) -> None:
    """A rewritten document that does not say so does not get it; nor does one that is no stream."""
    asked = request(CHAT, {"model": "m", "messages": [TURN]})
    assert not asked.rewritten({"stream": True, "stream_options": options}).usage_asked
    assert not asked.rewritten({"stream": 1, "stream_options": {"include_usage": True}}).usage_asked
    assert not asked.rewritten({"stream": 1}).stream


def test_the_size_of_a_request_is_what_is_sent() -> None:
    """The bytes that came, in whichever dialect; of a document that was rewritten its JSON."""
    chat = request(CHAT, b' {"model":"m","messages":[{"role":"user"}]} ')
    assert chat.size == len(b' {"model":"m","messages":[{"role":"user"}]} ')
    assert chat.rewritten({"a": 1}).size == len(b'{"a":1}')
    native = request(ANTHROPIC, b' {"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}')
    assert native.size == len(b' {"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}')
    assert native.as_one_reading().size == native.size - 1


THOUGHTS: list[tuple[Route, dict[str, Any]]] = [
    (
        ANTHROPIC,
        {
            "model": "m", "max_tokens": 9,
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": [
                    {"type": "redacted_thinking", "data": SECRET}, {"type": "text", "text": "y"},
                ]},
                {"role": "user", "content": [{"type": "text", "text": "z", "cache_control": {"ttl": SECRET}}]},
            ],
        },
    ),
    (OPENAI, {"model": "m", "input": "x", "metadata": {"note": SECRET}}),
    (OPENAI, {"model": "m", "input": "x", "store": False, "service_tier": SECRET}),
]  # fmt: skip
"""Requests whose translation does not hold all that they say."""


@pytest.mark.parametrize(("_kind", "served"), MODELS, ids=[kind for kind, _ in MODELS])
@pytest.mark.parametrize(("route", "body"), THOUGHTS)
def test_nothing_is_sent_that_was_not_read(
    route: Route, body: dict[str, Any], _kind: str, served: Callable[[], ServedModel]
) -> None:
    """Earlier thoughts, hints and notes that the chat request does not hold reach no model behind who reads that."""
    asked = request(route, body).as_read()
    assert SECRET not in str(asked.document)
    try:
        assert SECRET.encode() not in sent(asked, served())
    except InvalidRequest:
        assert served().provider


@pytest.mark.parametrize(("route", "body"), THOUGHTS)
def test_who_reads_everything_is_shown_every_text(route: Route, body: dict[str, Any]) -> None:
    """What a model that speaks the client's dialect may be sent is among the texts, names of fields among them."""
    asked = request(route, body).as_one_reading()
    texts = list(asked.texts())
    assert SECRET in texts
    assert {"model", "m", "x"} <= set(texts)
    assert asked.native is not None
    assert asked.native.body == orjson.dumps(body)
    assert asked.as_one_reading() is asked


def test_everything_is_sent_in_one_reading() -> None:
    """Also for who reads everything a key that stands there twice is sent as it was read; what chat cannot say too."""
    for route, body in TWICE:
        asked = request(route, body).as_one_reading()
        assert SECRET not in list(asked.texts())
        sends = orjson.dumps(asked.document) if asked.native is None else asked.native.body
        assert SECRET.encode() not in sends
    untold = {"model": "m", "max_tokens": 9, "messages": [TURN], "mcp_servers": [{"url": SECRET}]}
    asked = request(ANTHROPIC, untold).as_one_reading()
    assert SECRET in list(asked.texts())
    assert asked.untranslatable is not None


def test_bytes_pass_unless_somebody_reads_them() -> None:
    """A request that no policy reads goes out as the bytes that came in."""
    body = b'{ "model": "m",  "messages": [{"role": "user", "content": "x", "content": "y"}] }'
    assert sent(request(CHAT, body), model()) is body


def test_a_request_that_chat_cannot_say_is_not_read() -> None:
    """Who decides by the document does not let a request pass of which the document holds nothing."""
    asked = request(ANTHROPIC, {"model": "m", "max_tokens": 9, "messages": [TURN], "mcp_servers": [{"url": "x"}]})
    assert SECRET.encode() in sent(asked, model(Provider.ANTHROPIC))
    with pytest.raises(InvalidRequest, match="mcp_servers"):
        asked.as_read()
    with pytest.raises(InvalidRequest, match="mcp_servers"):
        asked.rewritten(asked.document)


def test_what_a_rewritten_request_says_of_streams_counts() -> None:
    """A rewritten document that asks for no stream is answered in one piece."""
    asked = request(CHAT, {"model": "m", "messages": [TURN], "stream": True, "stream_options": {"include_usage": True}})
    whole = asked.rewritten({"model": "m", "messages": [TURN]})
    assert (whole.stream, whole.usage_asked) == (False, False)
    again = whole.rewritten(asked.document)
    assert (again.stream, again.usage_asked) == (True, True)


SAYS: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({"role": "user", "content": "x"}, None),
    ({"role": "user", "content": [{"type": "text", "text": "x"}]}, None),
    ({"role": "assistant", "content": "x", "tool_calls": []}, None),
    ({"role": "developer", "content": "x"}, {"role": "system", "content": "x"}),
    (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/jpg;base64,/9j_"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/"}}]},
    ),
    ({"role": "user", "content": None}, {"role": "user", "content": "(no content)"}),
]


@pytest.mark.parametrize(("said", "becomes"), SAYS)
def test_an_engine_without_rules_gets_bytes_unless_it_would_refuse_them(
    said: dict[str, Any], becomes: dict[str, Any] | None
) -> None:
    """Nothing is looked at for a text; of anything else only what engines refuse is changed."""
    raw = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "y"}, said]})
    body = build_body(request(CHAT, raw), model())
    if becomes is None:
        assert body is raw
    else:
        assert orjson.loads(body)["messages"][1] == becomes


@pytest.mark.parametrize("stream", [False, True])
def test_a_large_body_is_renamed_and_not_written_anew(stream: bool) -> None:
    """Of a large body for a model of another name only the name changes, to the byte; a small one is written."""
    for size, kept in ((100_000, True), (10, False)):
        text = b"x" * size
        raw = b'{"stream": %b, "model":  "m", "messages": [{"role": "user", "content": "%b"}]}'
        flag = b"true" if stream else b"false"
        body = build_body(request(CHAT, raw % (flag, text)), model(name="other"))
        wanted = orjson.loads(raw % (flag, text)) | {"model": "other"}
        if stream:
            wanted["stream_options"] = {"include_usage": True}
        assert orjson.loads(body) == wanted
        assert (b'"model":  "other"' in body) is kept


def test_a_form_keeps_its_file_however_it_is_read() -> None:
    """Who decides by the document, or by all of it, and who writes another one: none of them sends it without."""
    file = Form(b"b", "file", b"audio/wav", memoryview(b"sound"))
    asked = Request(CHAT, {"model": "m"}, stream=False, usage_asked=False, raw=b"{}", form=file)
    for made in (asked.as_read(), asked.as_one_reading(), asked.rewritten({"model": "n"})):
        assert made is not asked
        assert made.form is file
