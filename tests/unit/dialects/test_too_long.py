"""A prompt that is too long, in the words of engines, and in those by which agents know it."""

from typing import Any

import orjson
import pytest

from capstan_contract.config import Compatibility, MaxTokens, ModelEntry, StaticBackend
from capstan_gateway.dialects.clients.messages_answer import error_words
from capstan_gateway.dialects.clients.native import NativeResponsesRelay, read_native_response
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.dialects.targets.limits import lengths_of
from capstan_gateway.dialects.targets.target import Target
from capstan_gateway.engine_errors import normalise_error, upstream_error_event
from capstan_gateway.errors import InvalidRequest
from fakes.anthropic_upstream import event
from support.request_shapes import addresses

VLLM = (
    "This model's maximum context length is 262144 tokens. However, you requested 0 output tokens and your prompt"
    " contains at least 262145 input tokens, for a total of at least 262145 tokens."
)
VLLM_OLD = (
    "This model's maximum context length is 8192 tokens. However, you requested 33000 tokens (1000 in the messages,"
    " 32000 in the completion). Please reduce the length of the messages or completion."
)
ROWS = [
    ({"error": {"message": VLLM, "type": "BadRequestError"}}, "prompt is too long: 262145 tokens > 262144"),
    (
        {"error": {"message": VLLM_OLD, "code": 400}},
        "input length and `max_tokens` exceed context limit: 1000 + 32000 > 8192,",
    ),
    (
        {"message": "The input (12345 tokens) is longer than the model's context length (8192 tokens)."},
        "prompt is too long: 12345 tokens > 8192 maximum",
    ),
    (
        {"message": "Input length (700001 tokens) exceeds the maximum allowed length (536826 tokens). Use less."},
        "prompt is too long: 700001 tokens > 536826 maximum",
    ),
    (
        {
            "error": {
                "code": 400, "type": "exceed_context_size_error",
                "message": "request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it",
            }
        },
        "prompt is too long: 9412 tokens > 8192 maximum",
    ),
    (
        {
            "error": {
                "code": "model_max_prompt_tokens_exceeded",
                "message": "prompt token count of 74490 exceeds the limit of 72000",
            }
        },
        "prompt is too long: 74490 tokens > 72000 maximum",
    ),
    ({"error": {"message": "Please reduce the length of the messages or completion."}}, "prompt is too long: Please"),
    ({"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}, "prompt is too long: 9 tokens > 8 maximum"),
]  # fmt: skip


SOURCES = {
    0: ("vLLM", "vllm-project/vllm/pull/37011, anthropics/claude-code/issues/820"),
    2: ("SGLang", "NVIDIA-NeMo/Switchyard/pull/426, ranxianglei/billion-context/pull/493"),
    4: ("llama.cpp", "NousResearch/hermes-agent/pull/89504, openclaw/openclaw/pull/64196"),
    5: ("GitHub Copilot", "ericc-ch/copilot-api/issues/210"),
}
"""Who says it so, by its place above."""


def _row(sends: str, source: str) -> pytest.MarkDecorator:
    return pytest.mark.compatibility(
        table="engines", row=f"A prompt that is too long, as {sends} says it", sends=sends, source=addresses(source),
        does="`prompt is too long: N tokens > M maximum` on Messages, `context_length_exceeded` on the others",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "words"),
    [pytest.param(*row, marks=[_row(*SOURCES[at])] if at in SOURCES else []) for at, row in enumerate(ROWS)],
)
def test_every_engines_words_become_those_of_the_agents(body: dict[str, object], words: str) -> None:
    """Claude Code compacts by the words, Codex by the code; the status is 400 for both."""
    error = normalise_error(400, orjson.dumps(body))
    assert (error.status, error.code) == (400, "context_length_exceeded")
    status, told = MESSAGES.write_error(error, "r")
    inner = orjson.loads(told)["error"]
    assert (status, inner["type"]) == (400, "invalid_request_error")
    assert inner["message"].startswith(words)
    status, told = RESPONSES.write_error(error, "r")
    inner = orjson.loads(told)["error"]
    assert (status, inner["code"], inner["param"]) == (400, "context_length_exceeded", "input")


def test_the_same_in_a_stream() -> None:
    """An error that comes as the first event of an answer is read alike."""
    error = upstream_error_event({"error": {"message": VLLM, "code": 400}})
    assert error_words(error) == "prompt is too long: 262145 tokens > 262144 maximum"


def test_a_native_response_that_fails_for_its_length_says_so() -> None:
    """Codex compacts by this code; told as a failure of the server it would ask again for ever."""
    failed = {"error": {"code": "context_length_exceeded", "message": "too long"}}
    response = {"id": "r", "object": "response", "status": "failed", "output": [], **failed}
    relay = NativeResponsesRelay()
    out = relay.feed(event("response.failed", sequence_number=1, response=response))
    assert b'"context_length_exceeded"' in out
    assert relay.error is not None
    assert relay.error.status == 400
    body, _ = read_native_response(orjson.dumps(response))
    assert orjson.loads(body)["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_limit_is_named_as_the_client_knows_it(field: str) -> None:
    """On `/v1/responses` it has another name than in chat."""
    error = InvalidRequest(f"`{field}` must be at most 5", param=field)
    told = orjson.loads(RESPONSES.write_error(error, "r")[1])["error"]
    assert (told["param"], told["message"]) == ("max_output_tokens", "`max_output_tokens` must be at most 5")
    other = orjson.loads(RESPONSES.write_error(InvalidRequest("`x` is odd", param="x"), "r")[1])["error"]
    assert (other["param"], other["message"]) == ("x", "`x` is odd")


@pytest.mark.parametrize(
    ("words", "asked", "lengths", "told"),
    [
        (8000, None, {}, "prompt is too long: 10006 tokens > 9000 maximum"),
        (800, None, {}, "prompt is too long: 9001 tokens > 9000 maximum"),
        (800, 32000, {}, "prompt is too long: 9001 tokens > 9000 maximum"),
        (800, 32000, {"maxTokens": MaxTokens.REFUSE}, "input length and `max_tokens` exceed context limit: 1006 + 320"),
    ],
)  # fmt: skip
def test_numbers_are_made_where_an_engine_names_none(
    words: int, asked: int | None, lengths: dict[str, Any], told: str
) -> None:
    """Of the window of the config and the estimate; where by that all would fit, the prompt is longer than it seems."""
    entry = ModelEntry(
        id="ns/m", servedName="m", upstreamName="m", backend=StaticBackend(urls=()), contextWindow=9000,
        compatibility=Compatibility(**lengths),
    )  # fmt: skip
    document: dict[str, Any] = {"messages": [{"role": "user", "content": "word " * words}]}
    error = normalise_error(400, b'{"error":{"message":"Please reduce the length of the messages."}}')
    assert error.lengths is None
    error.lengths = lengths_of(document if asked is None else {**document, "max_tokens": asked}, Target.of(entry))
    assert error_words(error).startswith(told)


@pytest.mark.parametrize(
    "message",
    [
        "Too many tokens, please wait before trying again.",
        "max_tokens=32000 cannot be greater than max_model_len=max_total_tokens=28672. Please request fewer.",
        "max_completion_tokens=32000 cannot be greater than max_model_len=28672.",
    ],
)
@pytest.mark.compatibility(
    table="engines", row="A limit or a throttle that speaks of tokens", sends="vLLM, Groq",
    source=addresses("jin-bo/agentao/pull/88"), does="no prompt that is too long: nothing is compacted for it",
)  # fmt: skip
def test_what_is_not_about_the_prompt_is_none_of_it(message: str) -> None:
    """An agent that compacts for a limit of its own, or for a throttle, loses its conversation for nothing."""
    error = normalise_error(400, orjson.dumps({"error": {"message": message, "code": 400}}))
    assert error.code != "context_length_exceeded"
    assert error_words(error) == message
