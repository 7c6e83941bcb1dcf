"""Tool calls as engines send them in streams, and what clients get: no call is lost, merged or doubled."""

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.pipeline.engine_answer import looks_odd
from capstan_gateway.streaming.answers import mend_answer
from capstan_gateway.streaming.asked import Asked
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.tool_calls import repaired_calls
from support.dialects import read_messages, read_responses

Document = dict[str, Any]
ANY: str = "an id that was made up"
W, V = ("a", "w", '{"p":1}'), ("b", "v", '{"q":2}')
ROUTES = ("chat", "messages", "responses")


def piece(index: int | None = None, call_id: Any = ..., name: Any = ..., arguments: Any = ...) -> Document:
    """One piece of a call, with the fields that are given."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not ...}
    call: Document = {"function": function} if call_id is ... and name is ... else {
        "type": "function", "function": function,
    }  # fmt: skip
    return call | ({} if index is None else {"index": index}) | ({} if call_id is ... else {"id": call_id})


@dataclass(frozen=True)
class Shape:
    """What an engine sends, and the calls and the text that clients get."""

    row: str
    sends: str
    source: str
    deltas: list[Any]
    """Pieces of calls, one a chunk, or a list of those of one chunk; other deltas as they are."""
    calls: list[tuple[str, str, str]]
    text: str = ""
    does: str = "keeps each call whole and apart"


REQUEST: Document = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "old", "function": {"name": "w", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "old", "content": "r"},
    ],
    "tools": [
        {"type": "function", "function": {"name": name, "parameters": {}}}
        for name in ("w", "v", "edit_existing", "edit_new")
    ],
}
SHAPES = [
    Shape(
        "Every parallel call has index 0", "Ollama, Dynamo", "https://github.com/ollama/ollama/issues/15457",
        [piece(0, "a", "w", '{"p":1}'), piece(0, "b", "v", '{"q":2}')], [W, V], does="numbers the calls anew",
    ),
    Shape(
        "Every parallel call has index 0, and its arguments come in pieces", "Ollama, Dynamo",
        "https://github.com/ai-dynamo/dynamo/pull/4723",
        [piece(0, "a", "w", ""), piece(0, arguments='{"p":1}'), piece(0, "b", "v", ""), piece(0, arguments='{"q":2}')],
        [W, V], does="numbers the calls anew",
    ),
    Shape(
        "No index, and each call in one chunk", "Ollama, SambaNova", "https://github.com/ollama/ollama/issues/7881",
        [piece(None, "a", "w", '{"p":1}'), piece(None, "b", "v", '{"q":2}')], [W, V], does="puts the index in",
    ),
    Shape(
        "No index, and pieces of one call", "SGLang", "https://github.com/vercel/ai/pull/15879",
        [piece(None, "a", "w", '{"p"'), piece(None, arguments=":1}")], [W], does="puts the index in",
    ),
    Shape(
        "The index begins at 1", "GitHub Copilot", "https://github.com/avante-corp/avante.nvim/pull/2794",
        [piece(1, "a", "w", '{"p":1}')], [W], does="numbers the calls from 0",
    ),
    Shape(
        "Pieces of several calls between each other", "gateways", "https://github.com/maximhq/bifrost/issues/1829",
        [piece(0, "a", "w", '{"p"'), piece(1, "b", "v", '{"q"'), piece(0, arguments=":1}"), piece(1, arguments=":2}")],
        [W, V],
    ),
    Shape(
        "White space between two pieces of a call", "vLLM", "https://github.com/anomalyco/opencode/issues/24137",
        [piece(0, "a", "w", '{"p"'), {"content": "\n"}, piece(0, arguments=":1}")], [W],
    ),
    Shape(
        "Reasoning between two pieces of a call", "vLLM", "https://github.com/BerriAI/litellm/issues/29286",
        [piece(0, "a", "w", '{"p"'), {"reasoning": "hm"}, piece(0, arguments=":1}")], [W],
    ),
    Shape(
        "Text behind a call", "vLLM", "https://github.com/anomalyco/opencode/issues/24137",
        [piece(0, "a", "w", '{"p":1}'), {"content": "Then"}], [W], "Then",
    ),
    Shape(
        "Id and name null in later pieces", "SGLang", "https://github.com/sgl-project/sglang/pull/35542",
        [piece(0, "a", "w", '{"p"'), piece(0, None, None, ":1}")], [W], does="leaves the nulls out",
    ),
    Shape(
        "Id and name again in each piece", "Anthropic-like APIs", "https://github.com/continuedev/continue/pull/5849",
        [piece(0, "a", "w", '{"p"'), piece(0, "a", "w", ":1}")], [W], does="leaves them out of later pieces",
    ),
    Shape(
        "Id and name empty in later pieces", "DeepSeek, One API", "https://github.com/binaricat/Netcatty/pull/1690",
        [piece(0, "a", "w", '{"p"'), piece(0, "", "", ":1}")], [W], does="leaves them out of later pieces",
    ),
    Shape(
        "The name comes behind the id", "engines", "https://github.com/vercel/ai/pull/15879",
        [piece(0, "a", ..., ""), piece(0, ..., "w", '{"p":1}')], [W], does="waits for the name",
    ),
    Shape(
        "The arguments come before the name", "engines", "https://github.com/vercel/ai/pull/15879",
        [piece(0, "a", ..., '{"p"'), piece(0, ..., "w", ":1}")], [W], does="waits for the name",
    ),
    Shape(
        "The name comes in pieces", "Gemini", "https://github.com/NVIDIA-NeMo/Switchyard/pull/785",
        [piece(0, "a", "edit_ex", ""), piece(0, ..., "isting", '{"p":1}')], [("a", "edit_existing", '{"p":1}')],
    ),
    Shape(
        "The id comes behind the name", "engines", "https://github.com/anomalyco/opencode/issues/24137",
        [piece(0, ..., "w", ""), piece(0, "a", ..., '{"p":1}')], [W], does="waits for the id",
    ),
    Shape(
        "No ids", "llama.cpp", "https://github.com/sigoden/aichat/issues/1296",
        [piece(0, ..., "w", '{"p":1}'), piece(1, ..., "v", '{"q":2}')], [(ANY, *W[1:]), (ANY, *V[1:])],
        does="makes up ids that no other call has",
    ),
    Shape(
        "Neither ids nor an index", "engines", "https://github.com/sigoden/aichat/issues/1296",
        [piece(None, ..., "w", '{"p":1}'), piece(None, ..., "v", '{"q":2}')], [(ANY, *W[1:]), (ANY, *V[1:])],
        does="makes up ids that no other call has",
    ),
    Shape(
        "One id for two calls", "engines", "https://github.com/NVIDIA-NeMo/Switchyard/issues/502",
        [piece(0, "a", "w", '{"p":1}'), piece(1, "a", "v", '{"q":2}')], [W, ("a_2", *V[1:])],
        does="gives the second one an id of its own",
    ),
    Shape(
        "Arguments as an object", "TGI, llama.cpp", "https://github.com/ggml-org/llama.cpp/issues/20198",
        [piece(0, "a", "w", {"p": 1})], [W], does="writes them as text",
    ),
    Shape(
        "No arguments at all", "OpenRouter", "https://github.com/OpenRouterTeam/ai-sdk-provider/issues/287",
        [piece(0, "a", "w"), piece(1, "b", "v", '{"q":2}')], [("a", "w", "{}"), V], does="`{}`",
    ),
    Shape(
        "Empty arguments", "Bedrock", "https://github.com/openai/openai-agents-js/issues/664",
        [piece(0, "a", "w", "")], [("a", "w", "{}")], does="`{}`",
    ),
    Shape(
        "Arguments `null`", "engines", "https://github.com/rchern/pi-claude-cli/pull/37",
        [piece(0, "a", "w", "null")], [("a", "w", "{}")], does="`{}`",
    ),
    Shape(
        "Arguments that are not JSON", "engines", "https://github.com/anthropics/claude-code/issues/67765",
        [piece(0, "a", "w", '{"p": "Os'), piece(1, "b", "v", '{"q":2}')], [("a", "w", '{"p": "Os'), V],
        does="passes them on as they came",
    ),
    Shape(
        "Two calls in one chunk, without ids and index", "engines", "https://github.com/sigoden/aichat/issues/1296",
        [[piece(None, ..., "w"), piece(None, ..., "v")]], [(ANY, "w", "{}"), (ANY, "v", "{}")],
        does="makes up ids that no other call has",
    ),
    Shape(
        "One tool twice in one chunk, without ids, index 0", "engines",
        "https://github.com/diegosouzapw/OmniRoute/pull/11043",
        [[piece(0, ..., "w", '{"p":1}'), piece(0, ..., "w", '{"p":1}')]], [(ANY, *W[1:]), (ANY, *W[1:])],
        does="two calls: pieces of one call are not told twice in one chunk",
    ),
    Shape(
        "Another tool behind a call without arguments, without ids, index 0", "engines",
        "https://github.com/unslothai/unsloth/pull/9817",
        [piece(0, ..., "w", ""), piece(0, ..., "v", "")], [(ANY, "w", "{}"), (ANY, "v", "{}")],
        does="knows a new call by the names of the request's tools",
    ),
    Shape(
        "Another tool behind a call with arguments, without ids, index 0", "engines",
        "https://github.com/unslothai/unsloth/pull/9817",
        [piece(0, ..., "w", '{"p":1}'), piece(0, ..., "v", '{"q"'), piece(0, arguments=":2}")],
        [(ANY, *W[1:]), (ANY, *V[1:])],
    ),
    Shape(
        "The arguments of two calls behind one name", "Gemini behind gateways",
        "https://github.com/dyedd/lens/issues/49",
        [piece(0, "a", "w", ""), piece(0, ..., "", '{"p":1}'), piece(0, ..., "", '{"p":2}')],
        [W, (ANY, "w", '{"p":2}')], does="two calls of that tool",
    ),
    Shape(
        "One id and one index for two calls", "engines", "https://github.com/NVIDIA-NeMo/Switchyard/issues/502",
        [piece(0, "a", "w", '{"p":1}'), piece(0, "a", "w", '{"p":2}')], [W, ("a_2", "w", '{"p":2}')],
        does="gives the second one an id of its own",
    ),
    Shape(
        "One id and one index for calls of two tools", "engines",
        "https://github.com/NVIDIA-NeMo/Switchyard/issues/502",
        [piece(0, "a", "w", ""), piece(0, "a", "v", '{"q":2}')], [("a", "w", "{}"), ("a_2", *V[1:])],
        does="gives the second one an id of its own",
    ),
    Shape(
        "All arguments once more at the end", "gateways", "https://github.com/lidge-jun/opencodex/issues/361",
        [piece(0, "a", "w", '{"p"'), piece(0, arguments=":1}"), piece(0, arguments='{"p":1}')], [W],
        does="leaves the second time out",
    ),
    Shape(
        "The whole call once more at the end", "gateways", "https://github.com/elizaOS/eliza/pull/16973",
        [piece(0, "a", "w", '{"p":1}'), piece(0, "a", "w", '{"p":1}')], [W], does="leaves the second time out",
    ),
    Shape(
        "All arguments so far in each piece", "DeepSeek behind Qianfan",
        "https://github.com/NousResearch/hermes-agent/pull/35718",
        [piece(0, "a", "w", '{"p"'), piece(0, arguments='{"p":'), piece(0, arguments='{"p":1}')], [W],
        does="passes on what is new of each",
    ),
    Shape(
        "An id of its own for each piece", "Poolside, proxies", "https://github.com/poolsideai/pool/issues/9",
        [piece(0, "a", "w", ""), piece(0, "x1", ..., '{"p"'), piece(0, "x2", ..., ":1}")], [W],
        does="keeps the first one",
    ),
    Shape(
        "An id of an earlier turn", "Ollama, engines that count from 0",
        "https://github.com/NVIDIA-NeMo/Switchyard/issues/502",
        [piece(0, "old", "w", '{"p":1}')], [("old_2", *W[1:])], does="gives it one that the conversation has not had",
    ),
    Shape(
        "White space in place of arguments", "engines", "https://github.com/openai/openai-agents-js/issues/664",
        [piece(0, "a", "w", " "), piece(1, "b", "v", '{"q":2}')], [("a", "w", "{}"), V], does="`{}`",
    ),
    Shape(
        "An empty list of calls in each chunk", "vLLM", "https://github.com/BerriAI/litellm/issues/29286",
        [{"content": "Hi", "tool_calls": []}, {"content": "!", "tool_calls": []}], [], "Hi!",
        does="reads the text",
    ),
]  # fmt: skip


def stream(shape: Shape) -> bytes:
    """The bytes of an engine."""
    deltas = [{"role": "assistant", "content": ""}]
    for delta in shape.deltas:
        given = delta if isinstance(delta, list) else [delta] if "function" in delta else None
        deltas.append(delta if given is None else {"tool_calls": given})
    head: Document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices: list[Document] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    frames = [b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n" for choice in choices]
    return b"".join([*frames, b"data: [DONE]\n\n"])


def relay_of(route: str) -> Relay:
    """What the stream goes through on its way to a client of this route."""
    relay = StreamRelay(strip_usage=False, asked=Asked(REQUEST, chat=True, client_reads_chat=route == "chat"))
    dialect = {"messages": MESSAGES, "responses": RESPONSES}.get(route)
    return relay if dialect is None else PresentedRelay(relay, dialect.presenter({}))


def run(route: str, data: list[bytes]) -> bytes:
    """Send everything through."""
    relay = relay_of(route)
    return b"".join(relay.feed(part) for part in data)


def read(route: str, out: bytes) -> tuple[list[tuple[str, str, str]], str]:
    """The calls and the text that a client reads: of chat as the official SDKs do, which join strings by the index."""
    if route == "messages":
        blocks = read_messages(out)["content"]
        calls = [(one["id"], one["name"], one["input"]) for one in blocks if one["type"] == "tool_use"]
        return calls, "".join(one["text"] for one in blocks if one["type"] == "text")
    if route == "responses":
        items = read_responses(out)["output"]
        calls = [(one["call_id"], one["name"], one["arguments"]) for one in items if one["type"] == "function_call"]
        return calls, "".join(one["content"][0]["text"] for one in items if one["type"] == "message")
    return read_chat_calls(out)


def read_chat_calls(out: bytes) -> tuple[list[tuple[str, str, str]], str]:
    """Join the pieces by index, and the strings of a call by their names; the first piece has id, type and name."""
    text = ""
    calls: list[list[str]] = []
    for frame in out.split(b"\n\n"):
        if not frame or frame == b"data: [DONE]":
            continue
        for choice in orjson.loads(frame[6:])["choices"]:
            text += choice["delta"].get("content") or ""
            for one in choice["delta"].get("tool_calls") or []:
                if one["index"] == len(calls):
                    assert one["id"]
                    assert one["type"] == "function"
                    calls.append(["", "", ""])
                assert one["index"] < len(calls)
                joined = calls[one["index"]]
                joined[0] += one.get("id") or ""
                joined[1] += one["function"].get("name") or ""
                joined[2] += one["function"].get("arguments") or ""
    return [(a, b, c) for a, b, c in calls], text


def _expected(route: str, call: tuple[str, str, str]) -> tuple[str, str, Any]:
    if route != "messages":
        return call
    try:
        return (*call[:2], orjson.loads(call[2]))
    except orjson.JSONDecodeError:
        return call


def _rows() -> list[Any]:
    rows = []
    for shape in SHAPES:
        mark = pytest.mark.compatibility(
            table="engines", row=shape.row, sends=shape.sends, source=shape.source, does=shape.does
        )
        # NB: what is not JSON the reader of messages cannot read: it has a test of its own below.
        for route in ROUTES if "not JSON" not in shape.row else ("chat", "responses"):
            name = re.sub(r"\W+", "-", shape.row.lower())
            rows.append(pytest.param(route, shape, marks=mark, id=f"{name}-{route}"))
    return rows


@pytest.mark.parametrize(("route", "shape"), _rows())
def test_every_call_reaches_the_client(route: str, shape: Shape) -> None:
    """Whatever form an engine gives its calls, a client gets each of them whole, once, with an id and a name."""
    calls, text = read(route, run(route, [stream(shape)]))
    assert [call[1:] for call in calls] == [_expected(route, call)[1:] for call in shape.calls]
    for (found, *_), (wanted, *_) in zip(calls, shape.calls, strict=True):
        assert found == wanted if wanted != ANY else found
    assert len({call[0] for call in calls}) == len(calls)
    assert text.strip() == shape.text


def _whole_rows() -> list[Any]:
    """The shapes with one piece for each call: that is what the call is in a whole answer."""
    rows = []
    for shape in SHAPES:
        pieces = [one for delta in shape.deltas for one in (delta if isinstance(delta, list) else [delta])]
        if len(pieces) == len(shape.calls) and all((one.get("function") or {}).get("name") for one in pieces):
            name = re.sub(r"\W+", "-", shape.row.lower())
            rows += [pytest.param(route, shape, pieces, id=f"{name}-{route}") for route in ROUTES]
    return rows


@pytest.mark.parametrize(("route", "shape", "pieces"), _whole_rows())
def test_a_whole_answer_has_the_same_calls(route: str, shape: Shape, pieces: list[Document]) -> None:
    """What an engine writes of a call in one piece is read alike in a stream and in a whole answer."""
    given = [{key: value for key, value in one.items() if key != "index"} for one in pieces]
    message = {"role": "assistant", "content": None, "tool_calls": given}
    answer = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    mend_answer(answer, Asked(REQUEST, chat=True))
    dialect = {"messages": MESSAGES, "responses": RESPONSES}.get(route)
    said = answer if dialect is None else dialect.write_answer(answer, {})
    if route == "messages":
        calls = [(one["id"], one["name"], one["input"]) for one in said["content"]]
    elif route == "responses":
        calls = [(one["call_id"], one["name"], one["arguments"]) for one in said["output"]]
    else:
        told = said["choices"][0]["message"]["tool_calls"]
        calls = [(one["id"], one["function"]["name"], one["function"]["arguments"]) for one in told]
    for (found, *call), wanted in zip(calls, shape.calls, strict=True):
        expected = _expected(route, wanted)[2]
        if route == "messages" and isinstance(expected, str):
            expected = {"arguments": expected}  # Its input must be an object.
        assert call == [wanted[1], expected]
        assert found == wanted[0] if wanted[0] != ANY else found
    assert len({found for found, *_ in calls} | {"old"}) == len(calls) + 1


COPILOT = {
    "id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"message": {"role": "assistant", "content": "Look"}, "finish_reason": "tool_calls"},
        {"message": {"role": "assistant", "tool_calls": [{
            "id": "a", "type": "function", "function": {"name": "w", "arguments": '{"p":1}'},
        }]}, "finish_reason": "tool_calls"},
    ],
}  # fmt: skip


@pytest.mark.compatibility(
    table="engines",
    row="A whole answer with its text in one choice and its calls in another",
    sends="GitHub Copilot",
    source="https://github.com/SWE-agent/mini-swe-agent/issues/804",
    does="reads them as one on /v1/messages and /v1/responses",
)
def test_calls_in_a_choice_of_their_own() -> None:
    """Choices without an index are parts of the one answer that was asked for: text and calls reach the client."""
    message = MESSAGES.write_answer(COPILOT, {})
    assert message["stop_reason"] == "tool_use"
    assert [block["type"] for block in message["content"]] == ["text", "tool_use"]
    items = RESPONSES.write_answer(COPILOT, {"model": "m"})["output"]
    assert [item["type"] for item in items] == ["message", "function_call"]


@pytest.mark.parametrize("route", ROUTES)
def test_texts_of_an_answer_in_several_choices_are_joined(route: str) -> None:
    """As they are in a stream, what the model thought as well; a call that a part tells once more is one call."""
    call = {"id": "a", "type": "function", "function": {"name": "w", "arguments": '{"p":1}'}}
    parts: list[Document] = [
        {"role": "assistant", "content": "Hello ", "reasoning_content": "One, "},
        {"role": "assistant", "content": "world", "reasoning_content": "two.", "tool_calls": [call]},
        {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "b"}]},
    ]
    answer = {"id": "c", "model": "m", "choices": [{"message": part, "finish_reason": "tool_calls"} for part in parts]}
    if route == "chat":
        mend_answer(answer, Asked(REQUEST, chat=True, client_reads_chat=True))
        (choice,) = answer["choices"]  # type: ignore[misc]
        said: Any = choice["message"]  # type: ignore[index]
        assert (said["content"], said["reasoning_content"]) == ("Hello world", "One, two.")
        ids = [one["id"] for one in said["tool_calls"]]
    elif route == "messages":
        thought, text, *calls = MESSAGES.write_answer(answer, {})["content"]
        assert (text["text"], thought["thinking"]) == ("Hello world", "One, two.")
        ids = [one["id"] for one in calls]
    else:
        thought, text, *calls = RESPONSES.write_answer(answer, {"model": "m"})["output"]
        assert (text["content"][0]["text"], thought["content"][0]["text"]) == ("Hello world", "One, two.")
        ids = [one["call_id"] for one in calls]
    assert ids == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("ls -la", {"arguments": "ls -la"}), ('"{\\"p\\": 1}"', {"p": 1}), ("[1, 2]", {"arguments": "[1, 2]"}),
        ("7", {"arguments": "7"}), ('{"p": 1}', {"p": 1}),
    ],
)  # fmt: skip
def test_a_message_has_an_object_as_input_in_a_stream_too(arguments: str, wanted: Document) -> None:
    """Of arguments that are no object the client of /v1/messages gets the text in one, whole or streamed, in pieces."""
    call = {"id": "a", "type": "function", "function": {"name": "w", "arguments": arguments}}
    answer = {"id": "c", "choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    assert MESSAGES.write_answer(answer, {})["content"][0]["input"] == wanted
    half = len(arguments) // 2
    cut = [piece(0, "a", "w", arguments[:half]), {"content": " "}, piece(0, arguments=arguments[half:])]
    for others, more in (([], []), ([piece(1, "b", "v", '{"q":2}')], [("b", "v", {"q": 2})])):
        calls, _ = read("messages", run("messages", [stream(Shape("", "", "", [*cut, *others], []))]))
        assert calls == [("a", "w", wanted), *more]
        for route in ("chat", "responses"):
            told, _ = read(route, run(route, [stream(Shape("", "", "", [*cut, *others], []))]))
            assert told[0] == ("a", "w", arguments)


@pytest.mark.parametrize("route", ROUTES)
def test_a_stream_of_messages_in_place_of_deltas(route: str) -> None:
    """What stands in a `message` reaches the client, text and calls, and is counted; what is no object is an error."""
    message = {"role": "assistant", "content": "Hello", "tool_calls": [piece(None, "a", "w", '{"p":1}')]}
    chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    relay = relay_of(route)
    out = relay.feed(b"data: " + orjson.dumps(chunk) + b"\n\ndata: [DONE]\n\n")
    assert read(route, out) == ([_expected(route, W)], "Hello")
    assert b'"message":{"role"' not in out or route == "messages"
    assert relay.begun
    assert relay.text.tokens > 0
    chunk["choices"][0]["message"] = "Hello"  # type: ignore[index]
    with pytest.raises(StreamBroken, match="`message` must be an object"):
        relay_of(route).feed(b"data: " + orjson.dumps(chunk) + b"\n\n")


def test_two_calls_of_the_older_form() -> None:
    """They are two on the routes that know more than one; for clients of chat, who would join them, an error."""
    pieces = [("w", '{"p":'), (..., "1}"), ("v", '{"q":2}')]
    deltas = [{"function_call": {"arguments": part} | ({} if name is ... else {"name": name})} for name, part in pieces]
    whole = stream(Shape("", "", "", deltas, []))
    for route in ("messages", "responses"):
        calls, _ = read(route, run(route, [whole]))
        assert [call[1:] for call in calls] == [_expected(route, W)[1:], _expected(route, V)[1:]]
    with pytest.raises(StreamBroken, match="two calls in the form of one"):
        run("chat", [whole])
    repeated = [{"function_call": {"name": "w", "arguments": part}} for part in ('{"p":', "1}", "")]
    whole = stream(Shape("", "", "", repeated, []))
    assert run("chat", [whole]) == whole
    assert [call[1:] for call in read("messages", run("messages", [whole]))[0]] == [_expected("messages", W)[1:]]


def test_a_call_of_the_older_form_stays_one() -> None:
    """A client of chat that reads `function_call` is told of it as the engine told; its finish reason stays, too."""
    whole = stream(Shape("", "", "", [{"function_call": {"name": "w", "arguments": "{}"}}], []))
    assert run("chat", [whole]) == whole
    assert read("messages", run("messages", [whole]))[0][0][1:] == ("w", {})


@pytest.mark.parametrize("call", [{"id": "x"}, {"id": "x", "function": {"name": ""}}, {"function": {"arguments": "7"}}])
def test_a_whole_call_without_a_name_is_an_error(call: Document) -> None:
    """No client could do anything with it; the answer may be had elsewhere."""
    with pytest.raises(UpstreamFailed, match="without a name"):
        repaired_calls([call])


def test_an_empty_list_of_calls_is_no_call() -> None:
    """vLLM writes one into each answer: such a stream passes as the bytes that came, and is not read for calls."""
    (shape,) = (shape for shape in SHAPES if shape.row.startswith("An empty list"))
    whole = stream(shape).replace(b'"finish_reason":"tool_calls"', b'"finish_reason":"stop"')
    assert run("chat", [whole]) == whole
    assert not looks_odd(b'{"tool_calls" : [ ], "x": null}')
    assert not looks_odd(b'{"tool_calls":null}')
    assert looks_odd(b'{"tool_calls":[],"y":{"tool_calls":[{}]}}')
    assert looks_odd(b'{"finish_reason":"tool_calls"}')


def test_which_large_answers_are_read() -> None:
    """Signs of another form are looked for where there may be one; nulls and what is empty are none."""
    assert not looks_odd(b'{"error": null, "reasoning" : "", "thinking": [ ], "choices":[{"index": 0}]}')
    for sign in (b'"error": {}', b'"reasoning": "x"', b'"index": 1', b'"finish_reason": ""', b'"content": [{}]'):
        assert looks_odd(b"{" + sign + b"}")
    for twice in (b'"message":{}', b'"finish_reason":"stop"'):
        assert not looks_odd(b"{" + twice + b"}")
        assert looks_odd(b"{" + twice + b"," + twice + b"}")
    vectors = b'{"object":"list","error": null,"data":[{"index":0,"object":"embedding"},{"index":1}]}'
    assert not looks_odd(vectors, finishes=False)
    assert looks_odd(vectors.replace(b"null", b'{"message":"m"}'), finishes=False)


@pytest.mark.parametrize("route", ROUTES)
def test_a_byte_order_mark_costs_no_text(route: str) -> None:
    """Some proxies put one in front of a stream: the first piece of the answer is read all the same."""
    whole = stream(Shape("", "", "", [{"content": "Hi"}], []))
    assert read(route, run(route, [b"\xef\xbb\xbf" + whole]))[1] == "Hi"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.compatibility(
    table="engines",
    row="The finish reason `error`",
    sends="OpenRouter",
    source="https://github.com/damianvtran/local-operator/pull/223",
    does="an error, and no answer that looks whole",
)
def test_the_finish_reason_error_is_one(route: str) -> None:
    """An engine that says so has broken off: no client takes what came for the whole answer."""
    whole = stream(Shape("", "", "", [{"content": "Hi"}], [])).replace(b'"tool_calls"', b'"error"')
    with pytest.raises(StreamBroken, match="broke its answer off"):
        run(route, [whole])


def test_arguments_that_are_not_json_reach_messages_as_they_came() -> None:
    """Claude Code tells the model itself that its call could not be read."""
    (shape,) = (shape for shape in SHAPES if "not JSON" in shape.row)
    out = run("messages", [stream(shape)])
    assert b'"partial_json":"{\\"p\\": \\"Os"' in out
    assert out.count(b'"type":"tool_use"') == 2


@given(st.sampled_from(SHAPES), st.sampled_from(ROUTES), st.data())
def test_how_the_bytes_are_cut_changes_nothing(shape: Shape, route: str, data: st.DataObject) -> None:
    """The same stream in other pieces of bytes is the same events."""
    whole = stream(shape)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    parts = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True) if start < end]
    made_up = re.compile(rb"call_[0-9a-f]{24}|\d{10}")
    assert made_up.sub(b"", run(route, parts)) == made_up.sub(b"", run(route, [whole]))


@given(st.data())
def test_calls_between_each_other_are_the_same_calls(data: st.DataObject) -> None:
    """However the pieces of several calls are mixed, each client reads the calls that the engine made."""
    count = data.draw(st.integers(1, 4))
    calls = [
        (f"c{at}", f"tool{at}", orjson.dumps({"x": data.draw(st.text(max_size=8))}).decode()) for at in range(count)
    ]
    lanes = []
    for at, (call_id, name, arguments) in enumerate(calls):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(arguments)), max_size=3)))
        bounds = zip([0, *cuts], [*cuts, len(arguments)], strict=True)
        lanes.append([piece(at, call_id, name, "")] + [piece(at, arguments=arguments[a:b]) for a, b in bounds])
    mixed = [lanes[0].pop(0)]
    opened = 1
    while any(lanes):
        ready = [lane for lane in lanes[: opened + 1] if lane]
        lane = data.draw(st.sampled_from(ready))
        opened = max(opened, lanes.index(lane) + 1)
        mixed.append(lane.pop(0))
    shape = Shape("", "", "", mixed, calls)
    for route in ROUTES:
        found, _ = read(route, run(route, [stream(shape)]))
        assert found == [_expected(route, call) for call in calls]


JUNK = st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.text(max_size=3), st.just({}), st.just([]))
PIECES = st.fixed_dictionaries(
    {}, optional={"index": JUNK, "id": JUNK, "type": JUNK, "function": JUNK | st.fixed_dictionaries(
        {}, optional={"name": JUNK, "arguments": JUNK | st.sampled_from(['{"a":1}', "{", "}"])}
    )}
)  # fmt: skip


@given(st.lists(st.lists(PIECES | JUNK, max_size=3) | JUNK, max_size=5), st.sampled_from(ROUTES))
def test_nothing_that_an_engine_sends_is_a_bug(deltas: list[Any], route: str) -> None:
    """Whatever stands where calls should be is read, or it is an error of the stream that says so."""
    shape = Shape("", "", "", [{"tool_calls": delta} for delta in deltas], [])
    with contextlib.suppress(StreamBroken):
        run(route, [stream(shape)])
