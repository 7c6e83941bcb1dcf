"""Conversations that are cut: whatever they are, calls keep their results, order is kept, and what is left fits."""

import sys
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from capstan_gateway.tokens.trim import TooMuch, Trimmed, trim

SIZES = st.integers(0, 20)
IDS = st.sampled_from("abcd")


def _message(role: str, size: int, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": "x", "size": size, **fields}


CALLS = st.lists(IDS, min_size=1, max_size=3, unique=True)
ANY = st.one_of(
    st.builds(_message, st.sampled_from(["system", "developer", "user", "assistant"]), SIZES),
    st.builds(lambda size, ids: _message("assistant", size, tool_calls=[{"id": id} for id in ids]), SIZES, CALLS),
    st.builds(lambda size, id: _message("tool", size, tool_call_id=id), SIZES, IDS),
    st.builds(lambda size: _message("function", size), SIZES),
    st.builds(lambda size, ids: _message("assistant", size, content=[{"type": "tool_use", "id": id} for id in ids]),
              SIZES, CALLS),
    st.builds(lambda size, ids: _message("user", size, content=[
        {"type": "tool_result", "tool_use_id": id} for id in ids]), SIZES, CALLS),
)  # fmt: skip
CONVERSATIONS = st.lists(ANY, min_size=1, max_size=14)


def size_of(message: dict[str, Any]) -> int:
    """Give how large a message is said to be."""
    return int(message["size"])


def cut(messages: list[dict[str, Any]], most: int) -> Trimmed:
    """Cut a conversation."""
    return trim(messages, most=most, count=size_of)


def least(messages: list[dict[str, Any]]) -> int:
    """Give what a conversation cannot be cut below."""
    try:
        cut(messages, -1)
    except TooMuch as error:
        return error.least
    raise AssertionError("nothing is less than nothing")


def calls_in(message: dict[str, Any]) -> list[str]:
    """Give the ids of its calls."""
    parts = message["content"] if isinstance(message["content"], list) else []
    return [call["id"] for call in message.get("tool_calls", [])] + [p["id"] for p in parts if p["type"] == "tool_use"]


def results_in(message: dict[str, Any]) -> list[str]:
    """Give the ids that it has results of."""
    parts = message["content"] if isinstance(message["content"], list) else []
    found = [part["tool_use_id"] for part in parts if part["type"] == "tool_result"]
    return [*found, message["tool_call_id"]] if "tool_call_id" in message else found


def pairs(messages: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Give each call's message with each one that has a result of it: the newest call of an id that came before."""
    found, owner = [], dict[str, dict[str, Any]]()
    for message in messages:
        found += [(owner[name], message) for name in results_in(message) if name in owner]
        owner.update(dict.fromkeys(calls_in(message), message))
    return found


@given(CONVERSATIONS, st.integers(-5, 150))
def test_what_is_left_fits_and_is_in_order(messages: list[dict[str, Any]], most: int) -> None:
    """It is a part of what was given, in its order; what went is counted; else it is said how much is needed."""
    trimmed = cut(messages, max(most, least(messages)))
    assert trimmed.messages or not messages
    if most < least(messages):
        with pytest.raises(TooMuch):
            cut(messages, most)
    left = [id(message) for message in trimmed.messages]
    assert left == [id(message) for message in messages if id(message) in set(left)]
    assert sum(map(size_of, trimmed.messages)) <= max(most, least(messages))
    assert (len(messages) - len(left), sum(map(size_of, messages)) - sum(map(size_of, trimmed.messages))) == (
        trimmed.dropped, trimmed.tokens,
    )  # fmt: skip


@given(CONVERSATIONS, st.integers(0, 150))
def test_a_call_and_its_results_are_never_parted(messages: list[dict[str, Any]], most: int) -> None:
    """Both stay or both go, in both APIs, also where results come late, several at once, or ids are used again."""
    try:
        left = {id(message) for message in cut(messages, most).messages}
    except TooMuch:
        return
    for call, result in pairs(messages):
        assert (id(call) in left) == (id(result) in left)


@given(CONVERSATIONS, st.integers(0, 150))
def test_what_must_stay_stays(messages: list[dict[str, Any]], most: int) -> None:
    """Every system message, the last message of the user that says something, and what the conversation ends with."""
    try:
        left = {id(message) for message in cut(messages, most).messages}
    except TooMuch:
        return
    kept = [message for message in messages if message["role"] in ("system", "developer")]
    asked = [message for message in messages if message["role"] == "user" and not results_in(message)]
    others = [message for message in messages if message["role"] not in ("system", "developer")]
    assert {id(message) for message in (*kept, *asked[-1:], *others[-1:])} <= left


@given(CONVERSATIONS, st.integers(0, 150))
def test_no_more_goes_where_there_is_more_room(messages: list[dict[str, Any]], most: int) -> None:
    """Who allows more tokens keeps at least what fewer would keep; and what fits is left as it is."""
    most = max(most, least(messages))
    fewer = {id(message) for message in cut(messages, most).messages}
    assert fewer <= {id(message) for message in cut(messages, most + 10).messages}
    assert cut(messages, sum(map(size_of, messages))).messages is messages


@given(st.integers(1, 8), st.integers(0, 60))
def test_users_and_assistants_still_take_turns(turns: int, most: int) -> None:
    """Of a conversation in which they took turns, whole turns go: many templates refuse anything else."""
    messages = [_message("system", 1)]
    messages += [_message(role, 3) for _ in range(turns) for role in ("user", "assistant")] + [_message("user", 3)]
    assume(most >= 4)
    roles = [message["role"] for message in cut(messages, most).messages[1:]]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


def test_the_middle_goes_first() -> None:
    """The beginning and the end of a conversation are kept longest."""
    messages = [_message(role, 1, name=f"{role}{turn}") for turn in range(5) for role in ("user", "assistant")]
    names = [[message["name"][-1] for message in cut(messages, most).messages[::2]] for most in (10, 8, 6, 4, 2)]
    assert names == [["0", "1", "2", "3", "4"], ["0", "2", "3", "4"], ["0", "3", "4"], ["3", "4"], ["4"]]
    with pytest.raises(TooMuch) as caught:
        cut(messages, 1)
    assert caught.value.least == 2


def test_calls_go_before_the_turn_that_they_are_in() -> None:
    """Of one long turn of an agent the older calls go with their results; the question and the newest call stay."""
    messages = [_message("user", 1)]
    for name in "abc":
        messages += [_message("assistant", 1, tool_calls=[{"id": name}]), _message("tool", 5, tool_call_id=name)]
    assert [size_of(message) for message in cut(messages, 13).messages] == [1, 1, 5, 1, 5]
    assert cut(messages, 7).messages == [messages[0], *messages[-2:]]
    with pytest.raises(TooMuch):
        cut(messages, 6)


def test_one_message_with_results_of_several_calls_holds_them_together() -> None:
    """Calls of two messages whose results came in one: all three stay, or all three go."""
    calls = [_message("assistant", 1, content=[{"type": "tool_use", "id": name}]) for name in "ab"]
    results = _message("user", 1, content=[{"type": "tool_result", "tool_use_id": name} for name in "ab"])
    first, last = _message("user", 1), _message("user", 1)
    assert cut([first, *calls, results, last], 4).messages == [first, last]
    assert cut([first, *calls, results, last], 1).messages == [last]


def steps(calls: int) -> int:
    """Count the lines that are run to cut a conversation in which each message has results of two calls."""
    asked = [_message("assistant", 1, content=[{"type": "tool_use", "id": str(n)}]) for n in range(calls)]
    told = [
        _message("user", 1, content=[{"type": "tool_result", "tool_use_id": id} for id in ("0", str(n))])
        for n in range(1, calls)
    ]
    count = 0

    def trace(frame: Any, event: str, arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        cut([*asked, *told, _message("user", 1)], 1)
    finally:
        sys.settrace(before)
    return count


def test_entangled_calls_take_time_in_proportion() -> None:
    """Twice as many calls take about twice as many steps: no conversation occupies a thread for minutes."""
    assert steps(800) < 2.5 * steps(400)
