"""Which call a piece is of, what a client is told of it, and where nobody could tell."""

from sys import getsizeof
from typing import Any

import pytest

from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.streaming.arguments import MAX_DOUBTFUL
from capstan_gateway.streaming.asked import NOTHING, Asked
from capstan_gateway.streaming.call_parts import CallIds, ObjectEnd, function_of, text_in, text_of_arguments
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.tool_calls import MAX_CALLS, MAX_WAITING, CallRepair, repaired_calls

TOOLS = Asked(
    {
        "tools": [{"function": {"name": name}} for name in ("edit", "edit_file", "read")] + [None, {}, {"function": 7}],
        "messages": [
            {"role": "assistant", "tool_calls": [{"id": "old"}, {"id": None}, 7]}, {"tool_calls": "x"}, "no message",
        ],
    },
    chat=True,
)  # fmt: skip


def piece(index: Any = None, call_id: Any = None, name: Any = None, arguments: Any = None, **others: Any) -> Any:
    """A piece of a call with those fields that have a value."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {key: value for key, value in (("index", index), ("id", call_id)) if value is not None}
    return {**fields, "function": function, **others}


def told(*chunks: Any, asked: Asked = TOOLS, finish: bool = True) -> list[tuple[int, str, str, str]]:
    """Place, id, name and arguments of each call that a client puts together of these chunks' pieces."""
    repair = CallRepair(asked)
    calls: dict[int, list[str]] = {}
    pieces = [written for chunk in chunks for written in repair.pieces(chunk if isinstance(chunk, list) else [chunk])]
    for written in pieces + (repair.rest() if finish else []):
        call = calls.setdefault(written["index"], ["", "", ""])
        call[0] += written.get("id", "")
        call[1] += written["function"].get("name", "")
        call[2] += written["function"]["arguments"]
    assert list(calls) == list(range(len(calls)))
    return [(place, *call) for place, call in calls.items()]  # type: ignore[misc]


def made(*chunks: Any, asked: Asked = TOOLS) -> list[tuple[str, str]]:
    """The same, without places and ids."""
    return [(name, arguments) for _, _, name, arguments in told(*chunks, asked=asked)]


def test_what_a_client_is_told_first_and_then() -> None:
    """The first piece has place, id, type and name; the others place and arguments; what else an engine says stays."""
    repair = CallRepair()
    first = piece(3, "a", "f", '{"x"', extra_content={"s": 1}, type="function")
    opening = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}}
    assert repair.pieces([first]) == [{"extra_content": {"s": 1}, **opening}]
    assert repair.pieces([piece(3, "a", "f", ":1}")]) == [{"index": 0, "function": {"arguments": ":1}"}}]
    assert repair.pieces([piece(3, None, None, "", more=1)]) == [{"more": 1, "index": 0, "function": {"arguments": ""}}]
    assert repair.pieces([piece(3), piece(3, "a", "f", ""), None, 7]) == []
    assert repair.rest() == []
    assert repair.called


def test_no_call_is_no_call() -> None:
    """A place that is kept for a call which does not come is none."""
    repair = CallRepair()
    assert repair.pieces([piece(0), {"index": 1}, {"function": 7}]) == []
    assert repair.rest() == []
    assert not repair.called


@pytest.mark.parametrize(
    ("chunks", "calls"),
    [
        # A name behind the name of a tool, at the same place, without an id:
        ([piece(0, None, "edit"), piece(0, None, "_file", "{}")], [("edit_file", "{}")]),
        ([piece(0, None, "edit"), piece(0, None, "edit_file", "{}")], [("edit_file", "{}")]),
        ([piece(0, None, "edit"), piece(0, None, "read", "{}")], [("edit", "{}"), ("read", "{}")]),
        ([piece(0, None, "edit"), piece(0, None, "edit", '{"a":1}')], [("edit", '{"a":1}')]),
        ([piece(0, None, "un"), piece(0, None, "known", "{}")], [("unknown", "{}")]),
        # Without a place too, a name begins a call:
        ([piece(None, None, "edit"), piece(None, None, "edit")], [("edit", "{}"), ("edit", "{}")]),
        # Behind arguments another name is another call, though they are not whole:
        ([piece(0, None, "edit", '{"a'), piece(0, None, "read", "{}")], [("edit", '{"a'), ("read", "{}")]),
        ([piece(0, "a", "edit", '{"a'), piece(0, "a", "read", "{}")], [("edit", '{"a'), ("read", "{}")]),
        # In one chunk two names are two calls, and a piece without one goes on:
        ([[piece(0, None, "edit"), piece(0, None, "_file")]], [("edit", "{}"), ("_file", "{}")]),
        ([[piece(0, "a", "edit"), piece(0, "a", "_file")]], [("edit", "{}"), ("_file", "{}")]),
        ([[piece(0, None, "edit"), piece(0, None, None, '{"a":1}')]], [("edit", '{"a":1}')]),
        ([[piece(0, "a", "edit"), piece(0, "a", "edit", '{"a":1}')]], [("edit", '{"a":1}')]),
        # Arguments that come again, all or so far:
        ([piece(0, "a", "edit", '{"a'), piece(0, "a", "edit", '{"a":1}')], [("edit", '{"a":1}')]),
        ([piece(0, "a", "edit", '{"a":1}'), piece(0, None, "edit", '{"a":1}')], [("edit", '{"a":1}')]),
        ([piece(0, None, "edit", "{}"), piece(0, None, "edit", "{}")], [("edit", "{}"), ("edit", "{}")]),
        ([piece(0, None, "edit", "{}"), piece(0, None, "edit", "")], [("edit", "{}")]),
        ([piece(0, "a", "edit", '{"a":1}'), piece(0, "b", None, '{"a":1}')], [("edit", '{"a":1}')]),
        # Nothing that is no object comes again:
        ([piece(0, "a", "edit", "7"), piece(0, None, None, "7")], [("edit", "77")]),
        ([piece(0, "a", "edit", "[1"), piece(0, None, None, "[1")], [("edit", "[1[1")]),
        # An id of its own is another call, unless that had none, or arguments go on without a name:
        ([piece(0, None, "edit", '{"a'), piece(0, "b", "edit", '":1}')], [("edit", '{"a":1}')]),
        ([piece(0, "a", "edit", ""), piece(0, "b", "edit", "{}")], [("edit", "{}"), ("edit", "{}")]),
        ([piece(0, "a", "edit", ""), piece(0, "b", None, '{"a":1}')], [("edit", '{"a":1}')]),
        ([piece(0, "a", "edit", '{"a'), piece(0, "b", None, " ")], [("edit", '{"a ')]),
        ([piece(0, "a", "edit", "{}"), piece(0, "b"), piece(0, None, "read", "{}")], [("edit", "{}"), ("read", "{}")]),
        # `null` says that there are none; inside of others it is a part of them:
        ([piece(0, "a", "edit", "null")], [("edit", "{}")]),
        ([piece(0, "a", "edit", '{"a":'), piece(0, None, None, "null"), piece(0, None, None, "}")],
         [("edit", '{"a":null}')]),
        ([piece(0, "a", "edit", {"a": None})], [("edit", '{"a":null}')]),
        ([piece(0, "a", "edit", " "), piece(0, None, None, "{}")], [("edit", "{}")]),
        ([piece(0, "a", "edit", "{"), piece(0, None, None, " "), piece(0, None, None, "}")], [("edit", "{ }")]),
        ([piece(True, "a", "edit", "{"), piece("0", None, None, "}")], [("edit", "{}")]),
    ],
)  # fmt: skip
def test_which_call_a_piece_is_of(chunks: list[Any], calls: list[tuple[str, str]]) -> None:
    """By its id, else its place, else where a name begins; what comes again counts once."""
    assert made(*chunks) == calls


@pytest.mark.parametrize(
    ("chunks", "calls"),
    [
        # What may be either is more of them, once the next piece or the end says so:
        (['{"a":', '{"a":1}', "}"], ['{"a":{"a":1}}']),
        (['{"a":[', '{"a":[1]}', ",", '{"a":[2]}]}'], ['{"a":[{"a":[1]},{"a":[2]}]}']),
        (['{"a":', '{"a":1}', " ", "}"], ['{"a":{"a":1} }']),
        # ... or all of them so far: the next one is, too, or nothing more comes, or another object:
        (['{"a":', '{"a":{"b":', '{"a":{"b":1}', '{"a":{"b":1}}'], ['{"a":{"b":1}}']),
        (['{"a":', '{"a":1}'], ['{"a":1}']),
        (['{"a":', '{"a":1}', " "], ['{"a":1}']),
        (['{"a":', '{"a":1}', '{"a":2}'], ['{"a":1}', '{"a":2}']),
        # An engine that has sent them so far once does so always:
        (['{"a"', '{"a":', '{"a":{"b":', '{"a":{"b":{}', '{"a":{"b":{}}}'], ['{"a":{"b":{}}}']),
        # What is neither passes as it came:
        (['{"a":', '{"a":1', "} x y"], ['{"a":{"a":1} x y']),
        (['{"a":', '{"a":1', ",,"], ['{"a":{"a":1,,']),
        (['{"a":', '{"a":'], ['{"a":{"a":']),
    ],
)
def test_arguments_that_begin_like_those_before(chunks: list[str], calls: list[str]) -> None:
    """They are more of them where that can be JSON, and all of them once more only where it cannot."""
    pieces = [piece(0, None, None, text) for text in chunks[1:]]
    assert [arguments for _, arguments in made(piece(0, "a", "read", chunks[0]), *pieces)] == calls
    late = [piece(0, "a", None, chunks[0]), *pieces, piece(0, None, "read", "")]
    if len(calls) == 1:
        assert made(*late) == [("read", calls[0])]


def test_arguments_in_doubt_that_were_cut() -> None:
    """Of an answer that broke off at its limit nobody can say that they are all: no tool runs with a part of them."""
    repair = CallRepair()
    first = piece(0, "a", "f", '{"a":')
    repair.pieces([first])
    assert repair.pieces([piece(0, None, None, '{"a":1}')]) == []
    assert repair.held == getsizeof('{"a":1}')
    assert repair.rest(cut=True) == [{"index": 0, "function": {"arguments": '{"a":1}'}}]
    assert repair.held == 0


def test_doubtful_arguments_are_bounded() -> None:
    """What may be either waits for so long only, and is more of them then; too much of all calls is an error."""
    long = '{"a":["' + "x" * MAX_DOUBTFUL + '",'
    assert [arguments for _, arguments in made(piece(0, "a", "read", long), piece(0, None, None, long))] == [long * 2]
    repair = CallRepair()
    short = '{"a":["' + "x" * (MAX_DOUBTFUL // 2) + '",'
    given = [(piece(at, f"c{at}", "read", short), piece(at, None, None, short)) for at in range(MAX_CALLS)]
    with pytest.raises(StreamBroken, match="nobody could tell"):
        repair.pieces([one for both in given for one in both])
    assert repair.held < 2 * MAX_WAITING


def test_without_tools_a_name_goes_on() -> None:
    """Where nobody knows what was offered, a name behind a name is more of it."""
    assert made(piece(0, None, "edit"), piece(0, None, "read", "{}"), asked=NOTHING) == [("editread", "{}")]


def test_arguments_of_another_call_of_the_same_tool() -> None:
    """Two complete objects behind one name are two calls of that tool; each has an id of its own."""
    calls = told(piece(0, "a", "read", '{"a":1}'), piece(0, None, None, '{"a":2}'), piece(0, "a", None, '{"a":3}'))
    assert [(name, arguments) for _, _, name, arguments in calls] == [("read", f'{{"a":{at}}}') for at in (1, 2, 3)]
    assert calls[0][1] == "a"
    assert calls[2][1] == "a_2"
    assert calls[1][1].startswith("call_")


def test_a_call_that_waits_is_told_before_the_next() -> None:
    """Clients put calls into a list by their place: one without an id and arguments is not told behind others."""
    assert told(piece(0, None, "edit"), piece(1, "b", "read", "{}"))[0][2:] == ("edit", "{}")
    nameless = [piece(0, "a"), piece(1, "b", "read", "{}"), piece(0, None, "edit", "{}")]
    assert told(*nameless) == [(0, "b", "read", "{}"), (1, "a", "edit", "{}")]


@pytest.mark.parametrize(
    "chunks",
    [
        [piece(0, "a")],
        [piece(0, None, None, "{}")],
        [piece(0, "a", "f", "{}"), piece(0, "b", None, '{"a":1}')],
    ],
)
def test_a_call_without_a_name_is_an_error(chunks: list[Any]) -> None:
    """At the end, where none came: no client could do anything with it."""
    with pytest.raises(StreamBroken, match="without a name"):
        told(*chunks)


def test_arguments_behind_the_end_of_a_call() -> None:
    """When a client was told that there are none, those that come are an error; white space is not, nor a new call."""
    repair = CallRepair()
    repair.pieces([piece(0, "a", "f")])
    assert repair.rest() == [{"index": 0, "function": {"arguments": "{}"}}]
    assert repair.rest() == []
    assert repair.pieces([piece(0, None, None, " ")]) == []
    (second,) = repair.pieces([piece(1, "b", "g", "{}")])
    assert second["index"] == 1
    with pytest.raises(StreamBroken, match="came back to a tool call"):
        repair.pieces([piece(0, None, None, '{"a":1}')])


def test_ids_are_unique_in_the_answer_and_the_conversation() -> None:
    """The second one with an id gets a number behind it; an id that is taken, too, is left out."""
    chunks = [piece(at, call_id, "read", f'{{"a":{at}}}') for at, call_id in enumerate(("old", "a", "a_2", "old"))]
    assert [call_id for _, call_id, *_ in told(*chunks)] == ["old_2", "a", "a_2", "old_3"]
    ids = CallIds(["a"])
    assert [ids.unique(one) for one in ("a", "a_2", "a", "a")] == ["a_2", "a_2_2", "a_3", "a_4"]
    assert ids.unique("") != ids.unique("")
    assert TOOLS.call_ids == {"old", ""}


def test_what_waits_for_a_name_is_counted_and_bounded() -> None:
    """It is held until the name comes; more than a name is worth waiting for is an error."""
    repair = CallRepair()
    repair.pieces([piece(0, "a", None, '{"x":'), piece(0, None, None, "1")])
    assert repair.held == getsizeof('{"x":') + getsizeof("1")
    (opened,) = repair.pieces([piece(0, None, "f", "}")])
    assert opened["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert repair.held == 0
    with pytest.raises(StreamBroken, match="without a name"):
        repair.pieces([piece(1, "b", None, "x" * MAX_WAITING)])


def test_no_more_calls_than_anybody_makes() -> None:
    """An engine that opens calls without end is stopped."""
    repair = CallRepair()
    for at in range(MAX_CALLS):
        repair.pieces([piece(at, f"c{at}", "f", "{}")])
    repair.pieces([piece(MAX_CALLS - 1, None, None, " ")])
    with pytest.raises(StreamBroken, match="too many tool calls"):
        repair.pieces([piece(MAX_CALLS, "one more", "f", "{}")])


def test_calls_of_a_whole_answer() -> None:
    """Ids where there are none or twice, arguments as text, nothing that is no call; what else there is stays."""
    given = [
        {"id": "old", "function": {"name": "f", "arguments": {"a": 1}}, "extra": 1}, "x", {"function": {"name": ""}},
        {"id": None, "type": "", "function": {"name": "g", "arguments": " ", "x": 1}},
    ]  # fmt: skip
    first, second = repaired_calls(given, TOOLS)
    function = {"name": "f", "arguments": '{"a":1}'}
    assert first == {"id": "old_2", "type": "function", "function": function, "extra": 1}
    assert second["function"] == {"name": "g", "arguments": "{}", "x": 1}
    assert second["id"].startswith("call_")
    for nameless in ({"id": "x"}, {"function": {"arguments": "7"}}):
        with pytest.raises(UpstreamFailed, match="without a name"):
            repaired_calls([nameless])


def test_what_was_asked_for() -> None:
    """One answer unless more are asked for, of chat only; the names of its tools, and what goes on from one."""
    assert TOOLS.tools == {"edit", "edit_file", "read"}
    assert TOOLS.tools is TOOLS.tools
    assert [Asked({"n": n}, chat=True).single for n in (None, 1, 2)] == [True, True, False]
    assert not Asked({}, chat=False).single
    assert not NOTHING.single
    assert not NOTHING.client_reads_chat
    assert (
        Asked({"tools": 7, "messages": 7}, chat=True).tools == Asked({"messages": 7}, chat=True).call_ids == frozenset()
    )
    assert TOOLS.begins_another("edit", "read")
    assert not TOOLS.begins_another("edit", "_file")
    assert not TOOLS.begins_another("edit", "edit_file")
    assert not TOOLS.begins_another("edit_", "file")


@pytest.mark.parametrize(
    ("pieces", "complete"),
    [
        (["{}"], True), (["{"], False), (["{", "}"], True), (['{"a":"}', '"}'], True), (['{"a":"}"'], False),
        (['{"a":"\\', '"}"}'], True), (['{"a":"\\\\', '"}'], True), (['{"a":"\\u', '0022"}'], True), (["[1,{}"], False),
        (["[1,{}]"], True), (["7"], False), (["{}{"], True), (['"{"'], False), (["", "{}", ""], True),
        (['{"a":"x\\', 'n"}'], True),
    ],
)  # fmt: skip
def test_where_an_object_is_complete(pieces: list[str], complete: bool) -> None:
    """By its brackets outside of strings, however it is cut; an escape may be cut in two."""
    end = ObjectEnd()
    for text in pieces:
        end.feed(text)
    assert end.complete is complete


def test_parts_of_calls_of_wrong_types_are_none() -> None:
    """What is no function is an empty one, and what is no text is none."""
    assert function_of({"function": 7}) == function_of({}) == {}
    assert (text_in({"a": 7}, "a"), text_in({"a": "b"}, "a"), text_in({}, "a")) == ("", "b", "")
    assert [text_of_arguments(one) for one in (None, "null", "x", [1], {"é": 1})] == ["", "", "x", "[1]", '{"é":1}']
    assert text_of_arguments("null", begun=True) == "null"
