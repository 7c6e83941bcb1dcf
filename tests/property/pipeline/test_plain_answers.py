"""Most answers of engines are looked at once, and briefly: that must say the same as the closer look."""

import copy
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.errors import GatewayError
from capstan_gateway.inference.routes import ROUTES
from capstan_gateway.pipeline.engine_answer import mended_large, read_answer
from capstan_gateway.pipeline.request import Request
from capstan_gateway.streaming.forms import REASONING

CHAT = next(route for route in ROUTES if route.path == "/v1/chat/completions")
PLAIN = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
}
VALUES = [None, "", "x", "error", "length", "tool_calls", [], ["x"], [{"type": "text", "text": "x"}], {}, {"a": "x"}, 1]
FIELDS = ("content", "refusal", "tool_calls", "function_call", *REASONING)
Place = tuple[str | int, ...]
Change = tuple[Place, Any]
PLACES: list[Place] = [
    ("error",),
    ("object",),
    ("choices",),
    ("choices", 0),
    ("choices", 0, "finish_reason"),
    ("choices", 0, "message"),
    *(("choices", 0, "message", field) for field in FIELDS),
]


def changed(place: Place, value: Any, answer: Any) -> Any:
    """Give an answer with another value at a place, if it still has that."""
    if not place:
        return value
    name, *rest = place
    if isinstance(answer, dict) and isinstance(name, str):
        return {**answer, name: changed(tuple(rest), value, answer.get(name))}
    if isinstance(answer, list) and name == 0 and answer:
        return [changed(tuple(rest), value, answer[0]), *answer[1:]]
    return answer


def outcome(read: Any, body: bytes) -> Any:
    """Give what a client reads, or of which kind the error is."""
    try:
        given_out = read(Request(CHAT, {"model": "m"}, stream=False, usage_asked=False), body, hosted=False)
    except GatewayError as error:
        return type(error)
    return given_out if isinstance(given_out, bytes) else given_out[0]


def assert_same(changes: Iterable[Change]) -> None:
    """Fail unless both looks come to the same."""
    answer: Any = copy.deepcopy(PLAIN)
    for place, value in changes:
        answer = changed(place, value, answer)
    body = orjson.dumps(answer)
    assert outcome(read_answer, body) == outcome(mended_large, body)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[-1])
def test_one_field_is_enough_for_a_closer_look(place: Place) -> None:
    """An answer is taken for plain at once only where a closer look would leave it as it came."""
    for value in VALUES:
        assert_same([(place, value)])


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(VALUES)), max_size=4))
def test_several_fields_are_looked_at_together(changes: list[Change]) -> None:
    """So it is whatever else is odd of it."""
    assert_same(changes)
