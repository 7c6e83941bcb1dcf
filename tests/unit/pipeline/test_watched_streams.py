"""Streams that a policy in mode Shadow looks at: what it reads of them, in every dialect, and when it does not."""

import orjson
import pytest

from capstan_contract.guards import Source
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.guards.watching import MOST_BYTES, Watched, read_stream
from support.guarded import Document, call, delta


def frames(*events: Document) -> bytes:
    """Give the frames of events."""
    return b"".join(b"event: x\ndata: " + orjson.dumps(event) + b"\n\n" for event in events)


def test_a_chat_is_read_as_a_whole_answer() -> None:
    """Text and arguments that came in pieces are one text each."""
    body = (
        frames(delta(content="a sec"), delta(content="ret"), call('{"a":', name="f"), call("1}")) + b"data: [DONE]\n\n"
    )
    pieces, answer = read_stream(body, native=False)
    assert {(one.text, one.source) for one in pieces} >= {("a secret", Source.TEXT), ('{"a":1}', Source.TOOL_ARGUMENTS)}
    assert answer is not None
    assert answer["choices"][0]["message"]["content"] == "a secret"


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "I th"}},
         {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "ink"}},
         {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "So"}},
         {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}}],
        [{"type": "response.reasoning_text.delta", "output_index": 0, "delta": "I th"},
         {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "ink"},
         {"type": "response.output_text.delta", "output_index": 1, "delta": "So"},
         {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"}],
    ],
)  # fmt: skip
def test_other_dialects_are_read_too(events: list[Document]) -> None:
    """What a provider says in its own dialect has texts of the same kinds."""
    pieces, answer = read_stream(frames(*events), native=True)
    assert answer is None
    assert [(one.text, one.source) for one in pieces] == [
        ("I think", Source.REASONING), ("So", Source.TEXT), ("{}", Source.TOOL_ARGUMENTS),
    ]  # fmt: skip


def test_a_stream_that_is_too_long_is_not_kept() -> None:
    """Nothing is held of a stream that is longer than is looked at, and nothing when it was given."""
    budget = MemoryBudget(1 << 30)
    watched = Watched(budget.share())
    watched.take(b"x" * 1000)
    assert budget.held == 1000
    watched.take(b"x" * MOST_BYTES)
    assert budget.held == 0
    watched.take(b"x")
    assert (watched.lost, watched.give(), budget.held) == (True, b"", 0)
    other = Watched(budget.share())
    other.take(b"abc")
    assert (other.give(), budget.held) == (b"abc", 0)
