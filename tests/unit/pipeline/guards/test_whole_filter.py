"""A stream that is held to its end."""

import pytest

from capstan_gateway.pipeline.guards.whole_filter import WholeFilter
from capstan_gateway.streaming.filters import Document
from capstan_gateway.streaming.sse import json_of


async def test_all_that_is_held_is_counted() -> None:
    """Log-probabilities, and whatever else a chunk says, count as its text does; nothing is held after the end."""

    async def judged(answer: Document, size: int) -> Document:
        assert size == 3 * len(json_of(chunk))
        return answer

    held = WholeFilter(judged, waited=lambda _: None, now=lambda: 0.0)
    assert held.held == 0
    top = [{"token": f"t{number}", "logprob": -1.0, "bytes": [116]} for number in range(20)]
    chunk = {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"top_logprobs": top}]}}],
    }
    for number in range(1, 4):
        held.chunk(chunk)
        assert held.held >= number * len(json_of(chunk))
    await held.end()
    assert held.held == 0


@pytest.mark.parametrize("asked", [False, True])
async def test_usage_is_told_to_whom_asked_for_it_and_the_wait_is_measured(asked: bool) -> None:
    """Only where the stream that came has had it; from the first chunk to the last."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}

    async def judged(answer: Document, size: int) -> Document:
        assert size > 0
        return {**answer, "usage": usage}

    waits: list[float] = []
    clock = iter((5.0, 8.0))
    held = WholeFilter(judged, waited=waits.append, now=lambda: next(clock))
    chunk: Document = {"id": "c", "object": "chat.completion.chunk", "choices": [
        {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}  # fmt: skip
    held.chunk({**chunk, "usage": None} if asked else chunk)
    given = await held.end()
    assert [one["usage"] for one in given if one.get("usage")] == ([usage] if asked else [])
    assert waits == [3.0]
