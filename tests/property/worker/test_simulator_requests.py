"""Whatever a client sends, the simulator answers it or refuses it: nothing is an internal error."""

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_worker.simulator.errors import ApiError
from capstan_worker.simulator.pooling import POOLING
from capstan_worker.simulator.protocol import ROLES
from capstan_worker.simulator.requests import parse_body, parse_chat, parse_completion
from capstan_worker.simulator.settings import Dials, SimulatorSettings
from capstan_worker.simulator.shapes import Shapes

SETTINGS = SimulatorSettings(model="sim", context_window=2048, embedding_size=8)
DIALS = Dials(reasoning_tokens=5, refusal_rate=0.2, accuracy=0.5, answer_tokens=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abtype", max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
SCHEMA_WORDS = (
    "type", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "required", "minItems",
    "maxItems", "minimum", "maximum", "exclusiveMinimum", "multipleOf", "minLength", "maxLength", "format",
)  # fmt: skip
SCHEMAS = st.recursive(
    JSON | st.sampled_from(["object", "array", "string", "integer", "number", "#", "#/properties/a"]),
    lambda inner: st.dictionaries(st.sampled_from(SCHEMA_WORDS), inner, max_size=4),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(ROLES) | JSON, "content": st.just("look at it") | JSON},
    optional={"tool_calls": JSON, "name": JSON, "tool_call_id": JSON, "reasoning": JSON},
)
TOOL = st.fixed_dictionaries(
    {"type": st.just("function"), "function": st.fixed_dictionaries({"name": st.just("look"), "parameters": SCHEMAS})}
)
FIELDS = (
    "model", "max_tokens", "max_completion_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "n", "stop",
    "stream", "stream_options", "logprobs", "top_logprobs", "seed", "tools", "tool_choice", "response_format",
    "structured_outputs", "logit_bias", "parallel_tool_calls", "reasoning_effort", "include_reasoning", "echo",
    "chat_template_kwargs", "ignore_eos", "bad_words", "cache_salt", "user", "presence_penalty", "suffix", "prompt",
)  # fmt: skip
MORE = st.dictionaries(st.sampled_from(FIELDS), JSON | st.integers(0, 9), max_size=3)
CHATS = st.builds(
    lambda known, more: {**known, **more},
    st.fixed_dictionaries(
        {"messages": st.lists(MESSAGE, min_size=1, max_size=3) | JSON},
        optional={
            "tools": st.lists(TOOL | JSON, max_size=2),
            "tool_choice": st.sampled_from(["auto", "required", "none"])
            | st.builds(lambda function: {"type": "function", "function": function}, JSON)
            | st.just({"type": "function", "function": {"name": "look"}}),
            "response_format": st.builds(
                lambda schema: {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, SCHEMAS
            ),
            "max_tokens": st.integers(1, 40),
        },
    ),
    MORE,
)


def _told(work: Callable[[], Any]) -> tuple[Any, int | None]:
    """Give what comes of it, or the status with which it is refused, in a document that can be written."""
    try:
        return work(), None
    except ApiError as error:
        orjson.dumps(error.document)
        return None, error.status


@settings(max_examples=300)
@given(body=CHATS, chat=st.booleans())
def test_no_request_is_an_internal_error(body: dict[str, Any], chat: bool):
    """Every chat and completion request is answered within its bounds, or refused with a status below 500."""
    request, status = _told(lambda: (parse_chat if chat else parse_completion)(body, SETTINGS, DIALS))
    if status is None:
        answers, status = _told(request.answers)
    if status is not None:
        assert 400 <= status < 500
        return
    shapes = Shapes(request, number="1", created=1, cached_tokens=0)
    orjson.dumps(shapes.whole(answers))
    for index, answer in enumerate(answers):
        assert len(answer.tokens) <= request.max_tokens
        orjson.dumps(shapes.chunk([shapes.piece(index, answer, 0, 3)], None))


@settings(max_examples=150)
@given(
    path=st.sampled_from(sorted(POOLING)),
    body=st.dictionaries(
        st.sampled_from(
            ("input", "messages", "text_1", "text_2", "query", "documents", "top_n", "dimensions", "encoding_format")
        ),
        JSON | st.just("x") | st.just(["x", "y"]),
        max_size=4,
    ),
)
def test_no_pooling_request_is_an_internal_error(path: str, body: dict[str, Any]):
    """The same of embeddings, classes, scores and rankings."""
    _, status = _told(lambda: POOLING[path][1](body, "sim", SETTINGS, "1"))
    assert status is None or 400 <= status < 500


@given(body=st.binary(max_size=40) | st.text().map(str.encode) | JSON.map(orjson.dumps))
def test_no_body_is_an_internal_error(body: bytes):
    """Bytes are a JSON object, or are refused."""
    document, status = _told(lambda: parse_body(body))
    assert status == 400 or isinstance(document, dict)
