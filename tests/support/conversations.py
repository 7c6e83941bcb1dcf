"""Conversations in no dialect, as clients of each dialect write them.

A conversation is a list of turns. Which result answers which call is told by the number of the call, which stands in
its arguments, so that a reader of any format can tell what belongs together without trusting the ids.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]


@dataclass(frozen=True)
class Text:
    """Something said."""

    text: str


@dataclass(frozen=True)
class Image:
    """A picture: base64 of its bytes, or the URL of one that lies elsewhere."""

    media_type: str
    data: str

    @property
    def url(self) -> str:
        """Give it as a URL."""
        return f"data:{self.media_type};base64,{self.data}" if self.media_type else self.data


@dataclass(frozen=True)
class File:
    """A PDF with its name."""

    name: str
    data: str

    @property
    def url(self) -> str:
        """Give it as a URL."""
        return f"data:application/pdf;base64,{self.data}"


Part = Text | Image | File


@dataclass(frozen=True)
class System:
    """What the owner of the application says."""

    role: str
    text: str


@dataclass(frozen=True)
class User:
    """What the user says and shows; perhaps nothing."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Call:
    """A call of a tool. Its `arguments` hold `number`, which no other call has; its id need not be its own."""

    number: int
    id: str
    name: str
    arguments: Document


@dataclass(frozen=True)
class Assistant:
    """What the model thought, said and called."""

    thought: str
    texts: tuple[str, ...]
    calls: tuple[Call, ...] = ()
    calls_first: bool = False
    """Whether it said its texts behind the calls, where a dialect can tell."""


@dataclass(frozen=True)
class Result:
    """What a call gave."""

    call: Call
    parts: tuple[Part, ...]
    failed: bool = False


@dataclass(frozen=True)
class Results:
    """The results of calls of the assistant's turn before."""

    results: tuple[Result, ...]


Turn = System | User | Assistant | Results
Conversation = list[Turn]

_CHARACTERS = st.characters(codec="utf-8") | st.sampled_from('\n\t "\\{}<>\u2028\U0001f600e\u0301\x00\x7f')
TEXTS = st.text(_CHARACTERS, max_size=12) | st.sampled_from(
    ["", " ", "\n", "So, \n", "Error: x", "\\ud83d", "</s>", "null"]
)
_PIXELS = b"\x89PNG\r\n\x1a\n"
IMAGES = st.binary(max_size=4).map(lambda tail: Image("image/png", base64.b64encode(_PIXELS + tail).decode())) | (
    st.integers(0, 9).map(lambda number: Image("", f"https://example.com/{number}.png"))
)
FILES = st.binary(max_size=4).map(lambda tail: File("a b.pdf", base64.b64encode(b"%PDF-" + tail).decode()))
NAMES = st.sampled_from(["read", "apply_patch", "mcp__srv__do", "n" * 64])
IDS = st.sampled_from(["call_0", "call_0", "toolu_1", "functions.read:0", "", "x" * 70, "\u00e4", "a|b", "a_b"])
ARGUMENTS = st.dictionaries(
    st.text(_CHARACTERS, max_size=3),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS | st.lists(TEXTS, max_size=2),
    max_size=2,
)


def _parts(*, of_tool: bool) -> st.SearchStrategy[tuple[Part, ...]]:
    parts = TEXTS.map(Text) | IMAGES if of_tool else TEXTS.map(Text) | IMAGES | FILES
    return st.lists(parts, max_size=3).map(tuple)


@st.composite
def conversations(draw: st.DrawFn, *, ids: st.SearchStrategy[str] = IDS, most: int = 5) -> Conversation:
    """Conversations: some turns of each kind in any order, calls with all their results, some of them, or none."""
    turns: Conversation = [System(draw(_ROLES), draw(TEXTS)) for _ in range(draw(st.integers(0, 2)))]
    number = 0
    for kind in draw(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=most)):
        if kind == "system":
            turns.append(System(draw(_ROLES), draw(TEXTS)))
        elif kind == "user":
            turns.append(User(draw(_parts(of_tool=False))))
        elif kind == "says":
            thought, texts = draw(_THOUGHTS), tuple(draw(st.lists(TEXTS, max_size=2)))
            # Who has only thought has said something empty, where a dialect cannot tell.
            turns.append(Assistant(thought, texts or ("",) if thought else texts))
        else:
            if turns and isinstance(turns[-1], Assistant):
                turns.append(User((Text("Go on."),)))  # Or nobody could tell two turns apart.
            calls = tuple(
                Call(number + at, draw(ids), draw(NAMES), {**draw(ARGUMENTS), "number": number + at})
                for at in range(draw(st.integers(1, 3)))
            )
            number += len(calls)
            texts = tuple(draw(st.lists(TEXTS, max_size=1)))
            turns.append(Assistant(draw(_THOUGHTS), texts, calls, draw(st.booleans())))
            turns.extend(draw(_answered(calls)))
    return turns if any(map(_speaks, turns)) else [*turns, User((Text("Hi"),))]


def _speaks(turn: Turn) -> bool:
    return isinstance(turn, User) or (isinstance(turn, Assistant) and bool(turn.texts or turn.calls))


_ROLES = st.sampled_from(["system", "developer"])
_KINDS = ("system", "user", "user", "says", "calls", "calls")
_THOUGHTS = st.just("") | TEXTS


@st.composite
def _answered(draw: st.DrawFn, calls: tuple[Call, ...]) -> Conversation:
    """What follows calls. Those that share an id are answered in their order, or nobody could tell them apart."""
    answered = list(calls[: draw(st.sampled_from([len(calls), len(calls), 1, 0]))])
    if len({call.id for call in answered}) == len(answered):
        answered = draw(st.permutations(answered))
    results = [
        Result(call, (Text(f"[{call.number}]"), *draw(_parts(of_tool=True))), draw(st.booleans())) for call in answered
    ]
    between: Conversation = draw(
        st.sampled_from([[], [], [], [System("system", "Mind the time.")], [User((Text("Stop, again!"),))]])
    )
    return [*between, Results(tuple(results))] if results else between


# --- as clients write them ------------------------------------------------------------------------------------------


def as_chat(conversation: Conversation) -> Document:
    """Write a request of chat completions."""
    messages: list[Document] = []
    for turn in conversation:
        if isinstance(turn, System):
            messages.append({"role": turn.role, "content": turn.text})
        elif isinstance(turn, User):
            plain = len(turn.parts) == 1 and isinstance(turn.parts[0], Text)
            content: Any = [_chat_part(part) for part in turn.parts]
            messages.append({"role": "user", "content": content[0]["text"] if plain else content})
        elif isinstance(turn, Assistant):
            said: Document = {"role": "assistant", "content": "".join(turn.texts) or None}
            if turn.thought:
                said["reasoning_content"] = turn.thought
            if turn.calls:
                said["tool_calls"] = [_chat_call(call) for call in turn.calls]
            messages.append(said)
        else:
            for result in turn.results:
                content = [_chat_part(part) for part in result.parts]
                plain = all(isinstance(part, Text) for part in result.parts)
                said = {"role": "tool", "tool_call_id": result.call.id}
                messages.append({**said, "content": "\n".join(part["text"] for part in content) if plain else content})
    return {"model": "m", "messages": messages, "tools": [{"type": "function", "function": {"name": "read"}}]}


def _chat_part(part: Part) -> Document:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": part.url}}
    return {"type": "file", "file": {"filename": part.name, "file_data": part.url}}


def _chat_call(call: Call) -> Document:
    function = {"name": call.name, "arguments": json.dumps(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def as_messages(conversation: Conversation) -> Document:
    """Write a request of Anthropic's: results are the beginning of a user's turn."""
    leading = 0
    while leading < len(conversation) and isinstance(conversation[leading], System):
        leading += 1
    texts = [turn.text for turn in conversation[:leading] if isinstance(turn, System)]
    messages: list[Document] = []
    results: list[Document] = []
    for turn in conversation[leading:]:
        if isinstance(turn, Results):
            results = [_tool_result(result) for result in turn.results]
            messages.append({"role": "user", "content": results})
            continue
        if isinstance(turn, User):
            blocks = [_block(part) for part in turn.parts]
            if results:
                results.extend(blocks)
            else:
                plain = len(blocks) == 1 and blocks[0]["type"] == "text"
                messages.append({"role": "user", "content": blocks[0]["text"] if plain else blocks})
        elif isinstance(turn, System):
            messages.append({"role": turn.role, "content": turn.text})
        else:
            messages.append({"role": "assistant", "content": _blocks_of(turn)})
        results = []
    system = {"system": [{"type": "text", "text": text} for text in texts]} if texts else {}
    tools = [{"name": "read", "input_schema": {"type": "object"}}]
    return {"model": "m", "max_tokens": 9, **system, "messages": messages, "tools": tools}


def _blocks_of(turn: Assistant) -> list[Document]:
    blocks: list[Document] = [{"type": "thinking", "thinking": turn.thought, "signature": ""}] if turn.thought else []
    texts: list[Document] = [{"type": "text", "text": text} for text in turn.texts]
    calls = [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in turn.calls]
    return blocks + (calls + texts if turn.calls_first else texts + calls)


def _tool_result(result: Result) -> Document:
    block: Document = {"type": "tool_result", "tool_use_id": result.call.id}
    plain = len(result.parts) == 1 and isinstance(result.parts[0], Text)
    content: Any = [_block(part) for part in result.parts]
    block["content"] = content[0]["text"] if plain else content
    return {**block, "is_error": True} if result.failed else block


def _block(part: Part) -> Document:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    kind = "image" if isinstance(part, Image) else "document"
    media_type = part.media_type if isinstance(part, Image) else "application/pdf"
    if not media_type:
        return {"type": kind, "source": {"type": "url", "url": part.data}}
    named = {"title": part.name} if isinstance(part, File) else {}
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": part.data}, **named}


def as_responses(conversation: Conversation) -> Document:
    """Write a request of OpenAI's Responses API."""
    items: list[Document] = []
    for turn in conversation:
        if isinstance(turn, System):
            items.append({"type": "message", "role": turn.role, "content": turn.text})
        elif isinstance(turn, User):
            items.append({"type": "message", "role": "user", "content": [_input_part(part) for part in turn.parts]})
        elif isinstance(turn, Assistant):
            items.extend(_output_items(turn))
        else:
            for result in turn.results:
                plain = len(result.parts) == 1 and isinstance(result.parts[0], Text)
                output: Any = [_input_part(part) for part in result.parts]
                output = output[0]["text"] if plain else output
                items.append({"type": "function_call_output", "call_id": result.call.id, "output": output})
    return {"model": "m", "input": items, "tools": [{"type": "function", "name": "read", "parameters": {}}]}


def _output_items(turn: Assistant) -> list[Document]:
    items: list[Document] = []
    if turn.thought:
        thought = [{"type": "reasoning_text", "text": turn.thought}]
        items.append({"type": "reasoning", "id": "rs_1", "summary": [], "content": thought})
    content = [{"type": "output_text", "text": text, "annotations": []} for text in turn.texts]
    said: list[Document] = [{"type": "message", "role": "assistant", "content": content}] if content else []
    calls = [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": json.dumps(call.arguments)}
        for call in turn.calls
    ]
    return items + (calls + said if turn.calls_first else said + calls)


def _input_part(part: Part) -> Document:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "input_image", "image_url": part.url}
    return {"type": "input_file", "filename": part.name, "file_data": part.url}
