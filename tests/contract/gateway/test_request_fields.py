"""What becomes of fields that engines and hosted APIs take differently: the table of docs/gateway.md, row by row."""

from typing import Any

import orjson
import pytest

from capstan_gateway.dialects.clients.messages_request import to_chat_request as messages_to_chat
from capstan_gateway.dialects.clients.spoken import RESPONSES
from capstan_gateway.dialects.upstreams.anthropic_request import to_messages_request
from capstan_gateway.documents import COUNTED_BYTES, is_read_alike
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.inference.routes import ROUTES
from capstan_gateway.pipeline.loading import load
from capstan_gateway.pipeline.parse import parse
from support.request_shapes import addresses

CHAT = next(route for route in ROUTES if route.path == "/v1/chat/completions")
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
PASSED, LEFT_OUT = "passed on", "left out"
ENGINES_HINTS = ("chat_template_kwargs", "include_reasoning", "skip_special_tokens", "cache_salt")
ENGINES_OWN = ("min_p", "repetition_penalty", "structured_outputs", "bad_words", "ignore_eos")
FIELDS: dict[str, tuple[Any, str, str, str]] = {
    # value; to Anthropic; on /v1/messages; on /v1/responses
    "logit_bias": ({"5": 1}, "refused", PASSED, PASSED),
    "prediction": ({"type": "content", "content": "x"}, LEFT_OUT, PASSED, PASSED),
    "web_search_options": ({"search_context_size": "low"}, "refused", PASSED, PASSED),
    "service_tier": ("auto", LEFT_OUT, LEFT_OUT, LEFT_OUT),
    "audio": ({"voice": "alloy", "format": "wav"}, "refused", PASSED, PASSED),
    **{name: ({"a": 1}, LEFT_OUT, PASSED, PASSED) for name in ENGINES_HINTS},
    **dict.fromkeys(ENGINES_OWN, (0.5, "refused", PASSED, PASSED)),
}

TOLD: dict[str, tuple[str, str]] = {
    # who sends it; threads that tell of it
    "logit_bias": ("clients", "anthropics/anthropic-sdk-python/issues/393, BerriAI/litellm/issues/7793"),
    "prediction": ("editors, for predicted outputs", "Portkey-AI/gateway/pull/734, 567-labs/instructor/issues/1145"),
    "web_search_options": ("OpenAI's SDKs", "BerriAI/litellm/issues/14250, stdapi-ai/stdapi.ai/issues/120"),
    "service_tier": ("SDKs, Stagehand", "browserbase/stagehand/issues/670, ogx-ai/ogx/issues/3550"),
    "audio": ("voice clients", "vllm-project/vllm/pull/11027"),
    "chat_template_kwargs": (
        "LlamaIndex, agents", "run-llama/llama_index/issues/18635, defilantech/LLMKube/issues/1283",
    ),
    "include_reasoning": ("clients of vLLM, OpenRouter", "vllm-project/vllm/issues/33915"),
    "skip_special_tokens": ("clients of vLLM", "vllm-project/vllm/issues/893, vllm-project/vllm/pull/25281"),
    "cache_salt": ("Open WebUI, gateways", "vllm-project/vllm/issues/16016, open-webui/open-webui/issues/23012"),
    "min_p": ("clients of vLLM, SGLang", "NVIDIA-NeMo/DataDesigner/pull/942"),
    "repetition_penalty": ("clients of vLLM, SGLang", "NVIDIA-NeMo/DataDesigner/pull/942"),
    "structured_outputs": ("Outlines", "dottxt-ai/outlines/pull/1888"),
    "bad_words": ("clients of vLLM", "vllm-project/vllm/pull/19564"),
    "ignore_eos": ("benchmarks", "local-inference-lab/b12x/pull/354"),
}  # fmt: skip


def _row(name: str, does: str, on: str, *values: Any) -> Any:
    sends, source = TOLD[name]
    mark = pytest.mark.compatibility(
        table="requests", row=f"`{name}`", does=does, on=on, sends=sends, source=addresses(source)
    )
    return pytest.param(name, *values, marks=mark, id=f"{name}-{on}")


def _becomes(name: str, said: str, read: Any) -> None:
    if said == "refused":
        with pytest.raises(InvalidRequest) as caught:
            read()
        assert (caught.value.param, caught.value.code) == (name, "unsupported_value")
        assert f"`{name}`" in caught.value.message
    else:
        assert (name in read()) is (said == PASSED)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        _row(name, f"to engines passed on, to Anthropic {row[1]}", "chat", row[0], row[1])
        for name, row in FIELDS.items()
    ],
)
def test_a_field_of_chat(name: str, value: Any, said: str) -> None:
    """An engine gets the bytes as they came; what Anthropic's API has not is left out, or refused by name."""
    given = {**ASK, name: value}
    body = orjson.dumps(given)
    assert parse(CHAT, body).raw is body
    _becomes(name, said, lambda: to_messages_request(given, model="claude"))


@pytest.mark.parametrize(
    ("name", "value"), [("repetition_penalty", 1.0), ("min_p", 0), ("logit_bias", {}), ("echo", False)]
)
def test_what_is_off_is_not_refused(name: str, value: Any) -> None:
    """A field that SDKs send with its neutral value says nothing."""
    assert name not in to_messages_request({**ASK, name: value}, model="claude")


@pytest.mark.parametrize(
    ("name", "value", "said"), [_row(name, row[2], "messages", row[0], row[2]) for name, row in FIELDS.items()]
)
def test_a_field_of_messages(name: str, value: Any, said: str) -> None:
    """Of a messages request an engine gets what both APIs may mean alike."""
    _becomes(name, said, lambda: messages_to_chat({**ASK, "max_tokens": 5, name: value}))


@pytest.mark.parametrize(
    ("name", "value", "said"), [_row(name, row[3], "responses", row[0], row[3]) for name, row in FIELDS.items()]
)
def test_a_field_of_responses(name: str, value: Any, said: str) -> None:
    """The same of a request of the Responses API."""
    _becomes(name, said, lambda: RESPONSES.read_request({"model": "m", "input": "x", name: value}))


AUDIO = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}


@pytest.mark.compatibility(
    table="requests",
    row="`input_audio` parts",
    does="to engines passed on, to Anthropic refused",
    on="chat",
    sends="LangChain, voice clients",
    source=addresses("vllm-project/vllm/pull/11027, anthropics/anthropic-sdk-python/issues/1198"),
)
def test_audio_in_a_chat() -> None:
    """An engine gets audio as it came; Anthropic's API has none, and the part is named."""
    given = {**ASK, "messages": [{"role": "user", "content": [AUDIO]}]}
    body = orjson.dumps(given)
    assert parse(CHAT, body).raw is body
    with pytest.raises(InvalidRequest) as caught:
        to_messages_request(given, model="claude")
    assert caught.value.param == "messages.0.content.0.type"


@pytest.mark.compatibility(table="requests", row="`input_audio` parts", does="refused", on="messages")
def test_audio_in_messages() -> None:
    """Anthropic's API has no audio: the block is named."""
    given = {**ASK, "max_tokens": 5, "messages": [{"role": "user", "content": [AUDIO]}]}
    with pytest.raises(InvalidRequest) as caught:
        messages_to_chat(given)
    assert caught.value.param == "messages.0.content.0.type"


@pytest.mark.compatibility(table="requests", row="`input_audio` parts", does="translated", on="responses")
def test_audio_in_responses() -> None:
    """Audio of the Responses API is audio of chat."""
    given = {"model": "m", "input": [{"type": "message", "role": "user", "content": [AUDIO]}]}
    assert RESPONSES.read_request(given)["messages"][-1]["content"] == [AUDIO]


@pytest.mark.parametrize("kind", ["audio_url", "video_url"])
def test_sounds_and_films_by_url(kind: str) -> None:
    """An engine gets them as they came; no dialect and no other API has them, and each refusal names the part."""
    part = {"type": kind, kind: {"url": "https://example.com/a"}}
    given = {**ASK, "messages": [{"role": "user", "content": [part]}]}
    body = orjson.dumps(given)
    assert parse(CHAT, body).raw is body
    reads: tuple[tuple[str, Any], ...] = (
        ("messages.0.content.0.type", lambda: to_messages_request(given, model="claude")),
        ("messages.0.content.0.type", lambda: messages_to_chat({**given, "max_tokens": 5})),
        (
            "input.0.content.0.type",
            lambda: RESPONSES.read_request({"model": "m", "input": [{"role": "user", "content": [part]}]}),
        ),
    )
    for param, read in reads:
        with pytest.raises(InvalidRequest) as caught:
            read()
        assert caught.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","model":"n","messages":[{"role":"user","content":"x"}]}',
        b'{"\\u006dodel":"m","model":"n","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"n","messages":[],"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"n","messages":[{"role":"user","content":"x"}],"stream":true,"stream":false}',
        b'{"model":"n","messages":[{"role":"user","content":"x"}],"\\u0073tream":false}',
        b'{"model":"n","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{},"stream_options":{}}',
    ],
)
@pytest.mark.parametrize("padding", [b"", b" " * COUNTED_BYTES], ids=["short", "long"])
@pytest.mark.compatibility(
    table="requests",
    row="a name that stands twice, or with escapes",
    does="the last one counts, for everybody",
    sends="clients that mean harm",
    source=addresses("ENTERPILOT/GoModel/pull/870, mrwogu/factory-droid-openai/pull/39"),
)
def test_what_could_be_read_in_two_ways_is_written_anew(body: bytes, padding: bytes) -> None:
    """The engine never sees bytes in which another parser may find another model, prompt or stream than the gateway."""
    request = parse(CHAT, padding + body)
    assert request.raw is None
    assert request.document["model"] == "n"
    assert request.document["messages"] == ASK["messages"]


@pytest.mark.parametrize("padding", [b"", b" " * COUNTED_BYTES], ids=["short", "long"])
@pytest.mark.parametrize(
    "document",
    [
        ASK,
        {**ASK, "stream": True, "stream_options": {"include_usage": True}},
        {**ASK, "messages": [{"role": "user", "content": 'say "model" and "stream" and \n "messages"'}]},
        {**ASK, "messages": [{"role": "user", "content": "Grüße \U0001f600"}]},
    ],
)
def test_what_is_read_alike_passes_as_it_came(document: dict[str, Any], padding: bytes) -> None:
    """Ordinary requests, and texts that speak of fields, are not written anew."""
    assert is_read_alike(padding + orjson.dumps(document), document)


@pytest.mark.parametrize(
    "value",
    [
        b'"\\ud800"',
        b'"\\udc00x"',
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b'"\xff"',
        b'"\x01"',
        b"01",
        b"1,",
        b"/**/1",
    ],
)
@pytest.mark.compatibility(
    table="requests",
    row="lone surrogates, NaN, numbers beyond a double",
    does="refused",
    sends="opencode, Claude Code",
    source=addresses("anomalyco/opencode/issues/14630, anthropics/claude-code/issues/5934"),
)
def test_what_is_no_json_is_refused(value: bytes) -> None:
    """What some parsers take and others do not is refused, and never passed on."""
    with pytest.raises(InvalidRequest) as caught:
        load(b'{"model":"m","messages":[{"role":"user","content":"x"}],"seed":%b}' % value)
    assert caught.value.code == "invalid_json"
