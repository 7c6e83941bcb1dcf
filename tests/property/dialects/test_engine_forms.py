"""One answer in an engine's own form, as a stream and as a whole: the same calls on every route, none lost or doubled.

What is drawn is what an engine's form leaves no doubt about: where nothing but the name of a tool tells two calls from
each other, each has arguments that end.
"""

from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.streaming.answers import mend_answer
from capstan_gateway.streaming.asked import Asked
from capstan_gateway.streaming.relay import StreamRelay
from support.dialects import frames, read_messages, read_responses

Document = dict[str, Any]
TOOLS = ("find", "find_all", "read", "write")
OLD = "call_0"
REQUEST: Document = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": OLD, "function": {"name": "find", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": OLD, "content": "r"},
    ],
    "tools": [{"type": "function", "function": {"name": name}} for name in TOOLS],
}
CLIENTS: Document = {
    "messages": {"model": "m"},
    "responses": {"model": "m", "tools": [{"type": "function", "name": name} for name in TOOLS]},
}
ROUTES = ("chat", "messages", "responses")
DIALECTS = {"messages": MESSAGES, "responses": RESPONSES}
VALUES = st.dictionaries(st.text(max_size=4), st.integers(-9, 9) | st.text(max_size=8) | st.none(), max_size=3)
HEAD: Document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


@dataclass(frozen=True)
class Form:
    """How an engine writes calls."""

    index: str
    """right, zero, none, one (it counts from 1)."""
    ids: str
    """first, each, none, late, same (one for all), old (that of an earlier turn), unstable (another in each piece)."""
    names: str
    """first, each."""
    arguments: str
    """pieces, so far (all of them in each piece), object, twice (all of them once more at the end)."""
    between: str
    """What stands between two pieces of a call."""
    together: bool
    """Whether the calls come in one chunk."""


FORMS = st.builds(
    Form,
    index=st.sampled_from(["right", "zero", "none", "one"]),
    ids=st.sampled_from(["first", "each", "none", "late", "same", "old", "unstable"]),
    names=st.sampled_from(["first", "each"]),
    arguments=st.sampled_from(["pieces", "so far", "object", "twice"]),
    between=st.sampled_from(["", "\n"]),
    together=st.booleans(),
)


@dataclass(frozen=True)
class Made:
    """A call that the model has made."""

    name: str
    arguments: str


def is_clear(form: Form) -> bool:
    """Whether a name that comes again can only be of the same call, or only of another one."""
    if form.ids == "late" and form.index == "zero":
        return False  # The name that begins a second call of one tool looks like that of the first once more.
    if form.names == "first":
        return True
    if form.ids == "unstable" or (form.ids == "none" and form.index == "none"):
        return False
    return form.arguments != "twice" or form.ids != "none"


def is_told_by_place(form: Form) -> bool:
    """Whether something other than the name of the tool tells two calls from each other."""
    return form.index in ("right", "one") or form.ids in ("first", "each")


@st.composite
def answers(draw: st.DrawFn) -> tuple[Form, list[Made]]:
    """A form, and calls that it can tell."""
    form = draw(FORMS.filter(is_clear))
    texts = VALUES.map(lambda value: orjson.dumps(value).decode())
    if is_told_by_place(form) and form.arguments != "object":
        texts |= st.sampled_from(["", '{"cut": "of', "[1, 2]"])
    if form.arguments in ("twice", "so far"):
        texts = texts.filter(lambda text: text.startswith("{"))
    if form.arguments == "so far":
        # Of what does not end nobody can tell whether it is all so far, or more.
        texts = texts.filter(lambda text: text.endswith("}"))
    calls = draw(st.lists(st.builds(Made, st.sampled_from(TOOLS), texts), min_size=1, max_size=4))
    if form.ids in ("same", "old") and form.index not in ("right", "one"):
        # The same arguments again, of a call that seems to be the same, are a call that is told twice.
        calls = list({(call.name, call.arguments): call for call in calls}.values())
    return form, calls


def engine_id(form: Form, place: int) -> str:
    """The id of a call in this form; "" for none."""
    return {"none": "", "same": "c", "old": OLD}.get(form.ids, f"c{place}")


def pieces_of(form: Form, place: int, call: Made, cuts: list[int]) -> list[Document]:
    """The pieces of one call."""
    text = call.arguments
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    starts = [0, *ends[:-1]]
    told: list[Any] = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    if form.arguments == "so far":
        told = [text[:end] for end in ends]
    elif form.arguments == "object":
        told = [orjson.loads(text)]
    elif form.arguments == "twice":
        told.append(text)
    pieces = []
    for at, arguments in enumerate(told):
        function: Document = {"arguments": arguments}
        piece: Document = {"function": function}
        if at == 0 or form.names == "each":
            function["name"] = call.name
        if form.index != "none":
            piece["index"] = {"right": place, "zero": 0, "one": place + 1}[form.index]
        if form.ids in ("first", "same", "old", "late", "unstable") and at == 0:
            piece["id"] = engine_id(form, place)
        if form.ids == "each":
            piece["id"] = engine_id(form, place)
        if form.ids == "unstable" and at > 0:
            piece["id"] = f"c{place}-{at}"
        pieces.append(piece)
    if form.ids == "late":
        late = pieces[0].pop("id")
        function = pieces[0]["function"]
        pieces.insert(0, {**pieces[0], "function": {"name": function.pop("name"), "arguments": ""}})
        pieces[1]["id"] = late
    return pieces


def stream_of(form: Form, calls: list[Made], cuts: list[list[int]]) -> bytes:
    """The bytes of an engine that writes these calls in this form."""
    each = [pieces_of(form, place, call, cut) for place, (call, cut) in enumerate(zip(calls, cuts, strict=True))]
    deltas: list[Document] = [{"role": "assistant", "content": ""}]
    if form.together and all(len(pieces) == 1 for pieces in each):
        deltas.append({"tool_calls": [piece for pieces in each for piece in pieces]})
    else:
        for pieces in each:
            for at, piece in enumerate(pieces):
                if at and form.between:
                    deltas.append({"content": form.between})
                deltas.append({"tool_calls": [piece]})
    choices: list[Document] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    chunks = [b"data: " + orjson.dumps({**HEAD, "choices": [choice]}) + b"\n\n" for choice in choices]
    return b"".join([*chunks, b"data: [DONE]\n\n"])


def whole_of(form: Form, calls: list[Made]) -> Document:
    """The same answer in one piece."""
    told = []
    for place, call in enumerate(calls):
        arguments = orjson.loads(call.arguments) if form.arguments == "object" else call.arguments
        one: Document = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
        if found := engine_id(form, place):
            one["id"] = found
        told.append(one)
    message = {"role": "assistant", "content": None, "tool_calls": told}
    return {**HEAD, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def read(route: str, answer: Document) -> list[tuple[str, str, Any]]:
    """Id, name and arguments of each call that a client reads."""
    if route == "messages":
        return [(one["id"], one["name"], one["input"]) for one in answer["content"] if one["type"] == "tool_use"]
    if route == "responses":
        items = [item for item in answer["output"] if item["type"] == "function_call"]
        return [(one["call_id"], one["name"], one["arguments"]) for one in items]
    calls = answer["choices"][0]["message"]["tool_calls"]
    return [(one["id"], one["function"]["name"], one["function"]["arguments"]) for one in calls]


def join_chat(out: bytes) -> Document:
    """Join the pieces as the official SDKs do: by the index, all strings of a call."""
    calls: list[Document] = []
    for _, chunk in frames(out):
        for piece in chunk["choices"][0]["delta"].get("tool_calls") or ():
            if piece["index"] == len(calls):
                calls.append({"id": "", "function": {"name": "", "arguments": ""}})
            call = calls[piece["index"]]
            call["id"] += piece.get("id") or ""
            for name, text in piece["function"].items():
                call["function"][name] += text
    return {"choices": [{"message": {"tool_calls": calls}}]}


def as_told(route: str, calls: list[Made]) -> list[tuple[str, Any]]:
    """Names and arguments as this route has them: an object on one of them, and the text where it is none."""
    told = []
    for call in calls:
        text = call.arguments or "{}"
        if route == "messages":
            try:
                found = orjson.loads(text)
            except orjson.JSONDecodeError:
                found = None
            told.append((call.name, found if isinstance(found, dict) else {"arguments": text}))
        else:
            told.append((call.name, text))
    return told


def streamed(route: str, data: bytes) -> Document:
    """What a client makes of the stream."""
    relay: Any = StreamRelay(strip_usage=False, asked=Asked(REQUEST, chat=True))
    if route == "chat":
        return join_chat(relay.feed(data))
    relay = PresentedRelay(relay, DIALECTS[route].presenter(CLIENTS[route]))
    return read_messages(relay.feed(data)) if route == "messages" else read_responses(relay.feed(data))


@given(answers(), st.data())
def test_a_stream_and_a_whole_answer_make_the_same_calls(made: tuple[Form, list[Made]], data: st.DataObject) -> None:
    """In every form, on every route, a client reads each call once, with its arguments, and with an id of its own."""
    form, calls = made
    cuts = [data.draw(st.lists(st.integers(1, max(1, len(call.arguments))), max_size=3)) for call in calls]
    stream, whole = stream_of(form, calls, cuts), whole_of(form, calls)
    mend_answer(whole, Asked(REQUEST, chat=True))
    for route in ROUTES:
        answers = [whole if route == "chat" else DIALECTS[route].write_answer(whole, CLIENTS[route])]
        if route != "messages" or all(call.arguments != '{"cut": "of' for call in calls):
            answers.append(streamed(route, stream))  # Of what is no JSON its pieces reach the client as they are.
        for answer in answers:
            found = read(route, answer)
            assert [(name, given) for _, name, given in found] == as_told(route, calls)
            ids = [one for one, *_ in found]
            assert len({*ids, OLD}) == len(ids) + 1
            if form.ids in ("first", "each", "late"):
                assert ids == [f"c{place}" for place in range(len(calls))]
