"""A stream that is held to its end."""

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
