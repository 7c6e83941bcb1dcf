"""Answers of forms of their own, whole and in streams, on the three routes: nothing is lost, and nothing made up.

What becomes of tool calls is in `test_tool_call_shapes`.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from capstan_gateway.dialects.clients.messages_request import to_chat_request as messages_to_chat
from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.dialects.clients.responses_request import to_chat_request as responses_to_chat
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.errors import GatewayError
from capstan_gateway.inference.routes import ROUTES as INFERENCE
from capstan_gateway.pipeline.engine_answer import asked_by, looks_odd, mended_large, read_answer
from capstan_gateway.pipeline.request import Request
from capstan_gateway.streaming.relay import StreamRelay
from support.dialects import frames, read_messages, read_responses

Document = dict[str, Any]
CHAT, MESSAGES_ROUTE, RESPONSES_ROUTE = "chat", "messages", "responses"
ROUTES = (CHAT, MESSAGES_ROUTE, RESPONSES_ROUTE)
DIALECTS = {MESSAGES_ROUTE: MESSAGES, RESPONSES_ROUTE: RESPONSES}
PATHS = {CHAT: "/v1/chat/completions", MESSAGES_ROUTE: "/v1/messages", RESPONSES_ROUTE: "/v1/responses"}
ASK: Document = {"model": "m", "messages": [{"role": "user", "content": "Say hi, please."}]}
CLIENTS: Document = {
    MESSAGES_ROUTE: {**ASK, "max_tokens": 9},
    RESPONSES_ROUTE: {"model": "m", "input": "Say hi, please."},
}
HEAD: Document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
USAGE: Document = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
SIGNED: Document = {"google": {"thought_signature": "SIG"}}
CITED: Document = {
    "type": "url_citation",
    "url_citation": {"start_index": 0, "end_index": 2, "url": "https://example.com", "title": "E"},
}


@dataclass(frozen=True)
class Told:
    """What a client reads."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[str, ...] = ()
    end: str = "stop"
    """In the words of chat."""


@dataclass(frozen=True)
class Shape:
    """What an engine answers, and what its clients read."""

    row: str
    sends: str
    source: str
    told: Told
    does: str
    message: Document | None = None
    """Of a whole answer; None: only streams are like this."""
    finish: Any = "stop"
    deltas: list[Any] = field(default_factory=list)
    """A delta of each chunk, or a whole choice."""
    routes: tuple[str, ...] = ROUTES


CALL: Document = {"id": "a", "type": "function", "function": {"name": "w", "arguments": "{}"}}
PARTS = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
SHAPES = [
    Shape(
        "The finish reason is empty", "SGLang, Ollama", "https://github.com/sgl-project/sglang/issues/3912",
        Told("Hi"), "null before the end, and `stop` at the end", {"content": "Hi"}, "",
        [{"delta": {"content": "H"}, "finish_reason": ""}, {"delta": {"content": "i"}, "finish_reason": ""}],
    ),
    Shape(
        "The finish reason is empty, and there are calls", "SGLang, Ollama",
        "https://github.com/ollama/ollama/issues/4357", Told(calls=("w",), end="tool_calls"),
        "`tool_calls` at the end", {"content": None, "tool_calls": [CALL]}, "",
    ),
    Shape(
        "A finish reason that is new", "OpenRouter", "https://github.com/vercel/workflow/issues/1387",
        Told("Hi", end="end_of_turn"), "passes it on; other routes: the end of the turn", {"content": "Hi"},
        "end_of_turn", [{"content": "Hi"}],
    ),
    Shape(
        "Half of a surrogate pair in a text", "engines written in JavaScript",
        "https://github.com/anomalyco/opencode/issues/14630", Told("a\ufffdb"), "U+FFFD",
        {"content": "a\ud83db"}, "stop", [{"content": "a\ud83db"}],
    ),
    Shape(
        "The index of the choice counts tokens", "TGI 1.4",
        "https://github.com/huggingface/text-generation-inference/pull/1648", Told("Hi!"), "0 when one was asked for",
        None, "stop", [{"index": at, "delta": {"content": text}} for at, text in enumerate("Hi!")],
    ),
    Shape(
        "Null where a delta should be, or none", "Azure", "https://github.com/microsoft/autogen/issues/6465",
        Told("Hi"), "an empty one", None, "stop",
        [{"delta": None}, {"content": "H"}, {"index": 0, "content_filter_results": {}}, {"content": "i"}],
    ),
    Shape(
        "Null in every field of a delta", "SGLang", "https://github.com/sgl-project/sglang/pull/35542",
        Told("Hi"), "reads what is there", None, "stop",
        [{"role": None, "content": text, "reasoning_content": None, "tool_calls": None} for text in "Hi"],
    ),
    Shape(
        "Text in parts", "Mistral, gateways", "https://github.com/langchain4j/langchain4j/pull/4474", Told("Hi"),
        "one text", {"content": PARTS}, "stop", [{"content": PARTS[:1]}, {"content": PARTS[1:]}],
    ),
    Shape(
        "Thoughts as parts of the content", "Mistral", "https://github.com/vercel/ai/pull/8072",
        Told("Hi", "hm"), "text and reasoning apart",
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, *PARTS]}, "stop",
        [{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}, {"content": PARTS}],
    ),
    *(
        Shape(
            f"Reasoning under `{name}`", sends, source, Told("Hi", "hm"),
            "chat: under `reasoning_content` as well; else reasoning of the route's own form",
            {"content": "Hi", name: value}, "stop", [{name: value}, {"content": "Hi"}],
        )
        for name, value, sends, source in (
            ("reasoning", "hm", "vLLM", "https://github.com/vllm-project/vllm/issues/27755"),
            ("reasoning_content", "hm", "DeepSeek, SGLang", "https://github.com/danny-avila/LibreChat/issues/12775"),
            ("reasoning_text", "hm", "GitHub Copilot", "https://github.com/diegosouzapw/OmniRoute/pull/2159"),
            ("thinking", "hm", "Ollama", "https://github.com/antoinezambelli/forge/pull/113"),
            (
                "reasoning_details", [{"type": "reasoning.text", "text": "hm", "index": 0}], "OpenRouter",
                "https://github.com/earendil-works/pi/pull/260",
            ),
        )
    ),
    Shape(
        "Reasoning as an object", "gateways", "https://github.com/8monkey-ai/hebo-gateway/issues/226",
        Told("Hi", "hm"), "reads its text", {"content": "Hi", "reasoning": {"summary": "hm"}}, "stop",
        [{"reasoning": {"summary": "hm"}}, {"content": "Hi"}],
    ),
    Shape(
        "Reasoning under two names", "mlx, gateways", "https://github.com/Blaizzy/mlx-vlm/issues/1408",
        Told("Hi", "hm"), "reads it once", {"content": "Hi", "reasoning": "hm", "reasoning_content": "hm"}, "stop",
        [{"reasoning": "hm", "reasoning_content": "hm"}, {"content": "Hi"}],
    ),
    Shape(
        "A refusal", "OpenAI", "https://github.com/openclaw/openclaw/issues/102321", Told(refusal="I cannot"),
        "chat: as it is; Messages: text, `stop_reason: refusal`; Responses: a part of its own",
        {"content": None, "refusal": "I cannot"}, "stop", [{"refusal": "I "}, {"refusal": "cannot"}],
    ),
    Shape(
        "A refusal beside text", "OpenAI", "https://github.com/openai/openai-agents-js/pull/1686",
        Told("Hm.", refusal="I cannot"), "both, each as itself", {"content": "Hm.", "refusal": "I cannot"}, "stop",
        [{"content": "Hm."}, {"refusal": "I cannot"}],
    ),
]  # fmt: skip


def a_request(route: str) -> Request:
    """A request of this route."""
    known = next(one for one in INFERENCE if one.path == PATHS[route])
    return Request(known, ASK, stream=True, usage_asked=True)


def written(document: Document) -> bytes:
    """The bytes of an engine: half a character is an escape."""
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):x}", _text(document)).encode()


def _text(document: Document) -> str:

    return json.dumps(document, ensure_ascii=False)


def whole(route: str, message: Document, finish: Any, **extra: Any) -> Document:
    """What a client of this route gets of a whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    answer = {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE, **extra}
    body, _ = read_answer(a_request(route), written(answer), hosted=False)
    document: Document = orjson.loads(body)
    dialect = DIALECTS.get(route)
    return document if dialect is None else dialect.write_answer(document, CLIENTS[route])


def relayed(route: str, data: bytes) -> bytes:
    """What a client of this route gets of a stream."""
    relay: Any = StreamRelay(strip_usage=False, asked=asked_by(a_request(route)))
    if route in DIALECTS:
        relay = PresentedRelay(relay, DIALECTS[route].presenter(CLIENTS[route]))
    return bytes(relay.feed(data))


def stream(deltas: list[Any], finish: Any = "stop", **extra: Any) -> bytes:
    """The bytes of an engine that streams these."""
    choices = [delta if {"delta", "index"} & set(delta) else {"delta": delta} for delta in deltas]
    known: list[Document] = [{"index": 0, "finish_reason": None, **choice} for choice in choices]
    known.append({"index": known[-1]["index"], "delta": {}, "finish_reason": finish})
    chunks = [{**HEAD, "choices": [choice]} for choice in known]
    chunks.append({**HEAD, "choices": [], "usage": USAGE, **extra})
    return b"".join(b"data: " + written(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def read_chat(out: bytes) -> Document:
    """Put the chunks together as clients do that know `content`, `reasoning_content` and `refusal`."""
    message: Document = {}
    finish = None
    for _, chunk in frames(out):
        for choice in chunk["choices"]:
            assert choice["index"] == 0
            for name, value in choice["delta"].items():
                if isinstance(value, str):
                    message[name] = message.get(name, "") + value
            if choice["finish_reason"]:
                finish = choice["finish_reason"]
            else:
                assert choice["finish_reason"] is None
    return {"choices": [{"message": message, "finish_reason": finish}]}


def told_chat(answer: Document) -> Told:
    """What a client of chat reads."""
    (choice,) = answer["choices"]
    message = choice["message"]
    return Told(
        message.get("content") or "", message.get("reasoning_content") or "", message.get("refusal") or "",
        tuple(call["function"]["name"] for call in message.get("tool_calls") or ()), choice["finish_reason"],
    )  # fmt: skip


def told_messages(message: Document) -> Told:
    """What a client of Anthropic's API reads: a refusal is text, and the reason why it ended."""
    blocks = message["content"]
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    refused = message["stop_reason"] == "refusal"
    end = {"end_turn": "stop", "refusal": "stop", "tool_use": "tool_calls"}[message["stop_reason"]]
    return Told(
        "".join(texts[:-1] if refused else texts),
        "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        texts[-1] if refused else "",
        tuple(block["name"] for block in blocks if block["type"] == "tool_use"),
        end,
    )


def told_responses(response: Document) -> Told:
    """What a client of the Responses API reads."""
    items = response["output"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    calls = tuple(item["name"] for item in items if item["type"] == "function_call")
    assert response["status"] == "completed"
    return Told(
        "".join(part["text"] for part in parts if part["type"] == "output_text"),
        "".join(part["text"] for item in items if item["type"] == "reasoning" for part in item["content"]),
        "".join(part["refusal"] for part in parts if part["type"] == "refusal"),
        calls, "tool_calls" if calls else "stop",
    )  # fmt: skip


READ = {CHAT: told_chat, MESSAGES_ROUTE: told_messages, RESPONSES_ROUTE: told_responses}
READ_STREAM = {CHAT: read_chat, MESSAGES_ROUTE: read_messages, RESPONSES_ROUTE: read_responses}


def _rows() -> list[Any]:
    rows = []
    for shape in SHAPES:
        mark = pytest.mark.compatibility(
            table="engines", row=shape.row, sends=shape.sends, source=shape.source, does=shape.does
        )
        name = re.sub(r"\W+", "-", shape.row.lower())
        rows += [pytest.param(route, shape, marks=mark, id=f"{name}-{route}") for route in shape.routes]
    return rows


def _expected(route: str, told: Told) -> Told:
    known = told.end in ("stop", "tool_calls")
    return told if route == CHAT or known else Told(told.text, told.reasoning, told.refusal, told.calls)


@pytest.mark.parametrize(("route", "shape"), _rows())
def test_an_answer_is_read_whatever_its_form(route: str, shape: Shape) -> None:
    """Whole or in a stream, a client of each route reads all that the model said, once, and as what it is."""
    expected = _expected(route, shape.told)
    if shape.message is not None:
        assert READ[route](whole(route, shape.message, shape.finish)) == expected
    if shape.deltas:
        out = relayed(route, stream(shape.deltas, shape.finish or "stop"))
        assert READ[route](READ_STREAM[route](out)) == expected


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.compatibility(
    table="engines", row="NaN and Infinity", sends="mlx-omni-server, engines written in Python",
    source="https://github.com/madroidmaq/mlx-omni-server/pull/56", does="null",
)  # fmt: skip
def test_what_is_no_number_is_null(route: str) -> None:
    """Python writes NaN into JSON, which no other parser takes; the answer is read all the same."""
    odd = {"content": [{"token": "Hi", "logprob": float("nan"), "bytes": None, "top_logprobs": []}]}
    answer = whole(route, {"content": "Hi"}, "stop", timings={"speed": float("-inf")})
    assert READ[route](answer) == Told("Hi")
    out = relayed(route, stream([{"delta": {"content": "Hi"}, "logprobs": odd}]))
    assert READ[route](READ_STREAM[route](out)) == Told("Hi")
    assert b"NaN" not in out


@pytest.mark.parametrize("route", [MESSAGES_ROUTE, RESPONSES_ROUTE])
@pytest.mark.parametrize("told", [None, {}, "last content chunk"])
@pytest.mark.compatibility(
    table="engines", row="No usage, or in the last chunk with content", sends="engines, NVIDIA NIM, GLM",
    source="https://github.com/Alishahryar1/free-claude-code/issues/209,"
    " https://github.com/router-for-me/CLIProxyAPI/issues/796",
    does="Messages, Responses: what the engine told, else an estimate, and no zeros",
)  # fmt: skip
def test_usage_is_told_or_estimated(route: str, told: Any) -> None:
    """A client that reckons with tokens gets the engine's numbers wherever they stand, else an estimate."""
    late = told == "last content chunk"
    data = stream([{"content": "Hi there"}], usage=None if late else told)
    if late:
        counted = {**HEAD, "choices": [{"index": 0, "delta": {"content": "!"}, "finish_reason": None}], "usage": USAGE}
        data = b"data: " + orjson.dumps(counted) + b"\n\n" + data
    counts = READ_STREAM[route](relayed(route, data))["usage"]
    if late:
        assert (counts["input_tokens"], counts["output_tokens"]) == (10, 5)
    else:
        assert 3 <= counts["input_tokens"] <= 30
        assert counts["output_tokens"] == 2
        counts = whole(route, {"content": "Hi there"}, "stop", usage=told)["usage"]
        assert 3 <= counts["input_tokens"] <= 30
        assert counts["output_tokens"] == 2


def test_choices_of_null_are_none() -> None:
    """Clients look into the list of every chunk."""
    data = stream([{"content": "Hi"}]).replace(b'"choices": []', b'"choices": null')
    assert [chunk["choices"] for _, chunk in frames(relayed(CHAT, data))][-1] == []


@pytest.mark.parametrize("route", [MESSAGES_ROUTE, RESPONSES_ROUTE])
@pytest.mark.compatibility(
    table="engines", row="Cached input as `prompt_cache_hit_tokens`", sends="DeepSeek",
    source="https://api-docs.deepseek.com/guides/kv_cache", does="cached input of the route's own form",
)  # fmt: skip
def test_cached_input_of_deepseek(route: str) -> None:
    """What came from a cache is told, and costs what cached input costs."""
    counts = {**USAGE, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6}
    usage = READ_STREAM[route](relayed(route, stream([{"content": "Hi"}], usage=counts)))["usage"]
    told = {MESSAGES_ROUTE: usage.get("cache_read_input_tokens")}
    assert told.get(route, usage.get("input_tokens_details", {}).get("cached_tokens")) == 4


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.compatibility(
    table="engines", row="An event named `error` whose data has no `error`", sends="engines, proxies",
    source="https://github.com/bigduu/Bamboo-agent/pull/98", does="an error with its message",
)  # fmt: skip
def test_an_event_named_error_is_one(route: str) -> None:
    """What the engine says of its failure reaches the client as the route's own error."""
    begun = stream([{"content": "Hi"}]).split(b"\n\n")[0] + b"\n\n"
    out = relayed(route, begun + b'event: error\ndata: {"message":"engine died"}\n\n')
    assert b"engine died" in out
    last = frames(out)[-1]
    assert {CHAT: "error" in last[1], MESSAGES_ROUTE: last[0] == "error", RESPONSES_ROUTE: "failed" in last[0]}[route]


@pytest.mark.parametrize("route", [MESSAGES_ROUTE, RESPONSES_ROUTE])
@pytest.mark.compatibility(
    table="engines", row="A chunk without choices, id and model first", sends="Azure",
    source="https://github.com/BerriAI/litellm/issues/36553",
    does="takes both from where they are, or from the request",
)  # fmt: skip
def test_id_and_model_are_those_of_the_answer(route: str) -> None:
    """Neither an empty first chunk nor ids that change make two answers of one."""
    empty = b'data: {"id":"","model":"","created":0,"choices":[],"prompt_filter_results":[]}\n\n'
    data = empty + stream([{"content": "H"}, {"content": "i"}])
    changing = data.replace(b"chatcmpl-1", b"chatcmpl-2", 2).replace(b"chatcmpl-2", b"chatcmpl-1", 1)
    answer = READ_STREAM[route](relayed(route, changing))
    assert answer["model"] == "m"
    assert answer["id"].endswith("_1")
    nameless = READ_STREAM[route](relayed(route, data.replace(b'"chatcmpl-1"', b"null").replace(b'"m"', b"null")))
    assert nameless["model"] == "m"
    assert len(nameless["id"]) > 20


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.compatibility(
    table="engines", row="Sources that a text cites (`annotations`)", sends="OpenAI, OpenRouter",
    source="https://github.com/simonw/llm/pull/1507",
    does="chat: as they are; Responses: annotations of the text; Messages: left out, it has no such form",
)  # fmt: skip
def test_annotations_are_those_of_the_text(streamed: bool) -> None:
    """A client of the Responses API reads what the text cites, whole and in events."""
    if streamed:
        out = relayed(RESPONSES_ROUTE, stream([{"content": "Hi"}, {"annotations": [CITED]}]))
        answer = read_responses(out)
        (added,) = [data for name, data in frames(out) if name == "response.output_text.annotation.added"]
        assert added["annotation"]["url"] == "https://example.com"
        assert b"url_citation" in relayed(CHAT, stream([{"content": "Hi"}, {"annotations": [CITED]}]))
    else:
        answer = whole(RESPONSES_ROUTE, {"content": "Hi", "annotations": [CITED]}, "stop")
    (item,) = answer["output"]
    assert item["content"][0]["annotations"] == [{"type": "url_citation", **CITED["url_citation"]}]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.compatibility(
    table="engines", row="A signature of thoughts on a call (`extra_content`)", sends="Gemini",
    source="https://github.com/earendil-works/pi/issues/6733,"
    " https://ai.google.dev/gemini-api/docs/thought-signatures",
    does="comes back with the next request: chat: on the call; else in an opaque text of thoughts before it",
)  # fmt: skip
def test_a_signature_comes_back_with_the_next_request(route: str, streamed: bool) -> None:
    """Gemini refuses a conversation in which the signature of its call is missing: clients keep it without knowing."""
    call = {**CALL, "extra_content": SIGNED}
    if streamed:
        first = {"index": 0, **call, "function": {"name": "w", "arguments": ""}}
        pieces = [{"tool_calls": [first]}, {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}]
        out = relayed(route, stream(pieces, "tool_calls"))
        if route == CHAT:
            assert b'"extra_content":{"google":{"thought_signature":"SIG"}}' in out.replace(b": ", b":")
            return
        answer = READ_STREAM[route](out)
    else:
        answer = whole(route, {"content": None, "tool_calls": [call]}, "tool_calls")
    if route == MESSAGES_ROUTE:
        said = {"role": "assistant", "content": answer["content"]}
        back = messages_to_chat({**CLIENTS[route], "messages": [*ASK["messages"], said]})
    elif route == RESPONSES_ROUTE:
        back = responses_to_chat({"model": "m", "input": [{"role": "user", "content": "x"}, *answer["output"]]})
    else:
        back = {"messages": [answer["choices"][0]["message"]]}
    (returned,) = back["messages"][-1]["tool_calls"]
    assert returned["extra_content"] == SIGNED
    assert not back["messages"][-1].get("reasoning_content")


def test_a_plain_answer_is_not_written_anew() -> None:
    """What needs no change passes as the bytes that came, with the nulls and empty lists of vLLM."""
    message = {"role": "assistant", "content": "Hi", "reasoning_content": None, "tool_calls": [], "refusal": None}
    answer = {**HEAD, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}
    body = orjson.dumps(answer, option=orjson.OPT_INDENT_2)
    assert read_answer(a_request(CHAT), body, hosted=False)[0] is body
    assert mended_large(a_request(CHAT), body, hosted=False) is body
    assert not looks_odd(body)
    data = stream([{"role": "assistant", "content": "", "reasoning_content": None}, {"content": "Hi"}])
    assert relayed(CHAT, data) == data


def test_several_answers_stay_several() -> None:
    """Where more than one was asked for, the index says which it is."""
    request = Request(a_request(CHAT).route, {**ASK, "n": 2}, stream=True, usage_asked=True)
    relay = StreamRelay(strip_usage=False, asked=asked_by(request))
    data = stream([{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}])
    ended = data.replace(
        b'{"index": 1, "delta": {}', b'{"index": 0, "delta": {}, "finish_reason": "stop"}, {"index": 1, "delta": {}'
    )
    assert relay.feed(ended) == ended


@pytest.mark.parametrize("fault", ["no finish", "error"])
def test_what_is_no_answer_stays_an_error(fault: str) -> None:
    """A finish reason that is missing, or says that the engine broke off, is no answer."""
    with pytest.raises(GatewayError):
        whole(CHAT, {"content": "Hi"}, None if fault == "no finish" else "error")
