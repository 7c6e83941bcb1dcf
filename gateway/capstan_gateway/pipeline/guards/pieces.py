"""The texts of a request, each with who has written it, and the request with other texts in their places. Pure.

Every text that an engine may read is a piece: of messages and prompts, of documents, of tools and their arguments, and
of any other field, known or not. What no guard can read (images, audio, files that are no text, prompts of token
ids) is named in `Pieces.unchecked`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from capstan_contract.guards import Source
from capstan_gateway.dialects.fields import Retrieved
from capstan_gateway.errors import GuardBlocked
from capstan_gateway.pipeline.guards.apart import Apart, apart
from capstan_gateway.pipeline.guards.files import read_data
from capstan_gateway.pipeline.guards.vocabulary import (
    ADDRESSES,
    ASIDE,
    DATA,
    MEDIA,
    NAMES,
    NUMBERS,
    TENSORS,
    UNTYPED,
    WORDS,
)

Document = dict[str, Any]
Step = str | int
OTHER_MEDIA: Final = "media"
IDS: Final = "ids"
"""Of tokens."""

_BY_ROLE: Final = {
    "system": Source.SYSTEM, "developer": Source.SYSTEM, "user": Source.USER, "assistant": Source.ASSISTANT,
    "tool": Source.TOOL_RESULTS, "function": Source.TOOL_RESULTS,
}  # fmt: skip
_BY_FIELD: Final = {
    "prompt": Source.USER, "input": Source.USER, "suffix": Source.USER, "query": Source.USER, "queries": Source.USER,
    "text_1": Source.USER, "text": Source.USER, "documents": Source.DOCUMENTS, "text_2": Source.DOCUMENTS,
    "data_1": Source.USER, "data_2": Source.DOCUMENTS, "items": Source.DOCUMENTS,
    "hotwords": Source.USER, "known_speaker_names[]": Source.USER,
}  # fmt: skip
"""Fields of a request that are its text. Everything else is said by whoever made the application: System."""
_PROMPTS: Final = frozenset(("prompt", "input"))
_SAID: Final = frozenset(("content", "reasoning_content", "reasoning", "refusal"))
"""Fields of a message that are what is said in it."""
_SAYS: Final = {"refusal": "refusal", "thinking": "thinking"}
"""In which field a part says something, by its type: others have a `text`."""
_FILES: Final = frozenset(("file", "input_file", "document", "search_result", "web_fetch_result", "web_search_result"))
"""Types of parts, and of what is in them, that the user has not written."""
_EMBEDS: Final = "prompt_embeds"
BETWEEN: Final = "\n"
"""What stands for the marks that engines put between messages."""
MOST_VALUES: Final = 250_000
"""Of one document, names and numbers among them: some tens of megabytes of pieces. One with more is refused."""
LONG_NUMBER: Final = 10**6
"""From it on a number of a request may be somebody's: of a card, a telephone, an account."""
_NUMBERS: Final = frozenset((int, float))
_FEW_WORDS: Final = 2
_FEW_CHARS: Final = 64


class Place:
    """Where something stands: a step behind another place. What is in one object or list shares that one's place.

    A chain, compared by identity, so that texts a thousand levels deep do not take a thousand steps each.
    """

    __slots__ = ("before", "step")

    def __init__(self, before: "Place | None", step: Step) -> None:
        self.before: Final = before
        self.step: Final = step

    def steps(self) -> list[Step]:
        """Give the whole way, from the document on."""
        found: list[Step] = []
        place: Place | None = self
        while place is not None:
            found.append(place.step)
            place = place.before
        found.reverse()
        return found


@dataclass(frozen=True, slots=True)
class Piece:
    """One text."""

    text: str
    source: Source
    place: Place
    escaped: bool = False
    """Whether it is JSON source: arguments of a call."""
    aside: bool = False
    """Whether it is a setting or a name rather than something that is said: what judges meaning may pass over it."""
    fixed: bool = False
    """Whether nothing else can be written in its place: the name of a field, or what stands there in another form."""

    parts: tuple[int, ...] = ()
    """Where it is what several pieces say behind one another: their numbers. It is looked at, and never written."""
    starts: tuple[int, ...] = ()
    """Where each of them begins in it. What is between two is of neither."""
    is_part: bool = False
    """Whether what it says is said by such a piece too."""
    apart: Apart | None = None
    """Set where it is once more what pieces say, with line ends between them. It is looked at, and nothing else."""

    @property
    def is_written(self) -> bool:
        """Whether it is a text of its own, and not what others say together."""
        return not self.parts and self.apart is None

    @property
    def says(self) -> bool:
        """Whether it may mean something: who judges meaning is not shown settings and names, but for long ones."""
        return not self.aside or len(self.text) > _FEW_CHARS or len(self.text.split(None, _FEW_WORDS)) > _FEW_WORDS

    @property
    def path(self) -> str:
        """Name the place, without any word of a client's own."""
        steps = (
            f"[{step}]" if isinstance(step, int) else f".{step if step in NAMES else '*'}"
            for step in self.place.steps()
        )  # fmt: skip
        return "".join(steps).lstrip(".")

    @property
    def field(self) -> str | None:
        """Name the outermost field that it is in; None for one that the API does not have."""
        step = self.place.steps()[0]
        return step if isinstance(step, str) and step in NAMES else None


class TooManyTexts(GuardBlocked):
    """A document holds more values than are gone through."""

    def __init__(self) -> None:
        super().__init__(f"the request holds more than {MOST_VALUES} texts and values, which no guard can check")


@dataclass(slots=True)
class Pieces:
    """What a request says."""

    texts: list[Piece] = field(default_factory=list)
    """Messages first, in their order."""
    unchecked: set[str] = field(default_factory=set)
    """What of it nobody can read: `media`, `ids`."""
    ids_at: str | None = None
    """The field, of those that have ids, that is first."""
    numbers: bool = False
    """Whether long numbers are texts too, where they are no settings."""
    left: int = MOST_VALUES
    """How many values may still be gone through."""

    def take(self, values: int) -> None:
        """Go through so many values; raises TooManyTexts in front of them where these are too many."""
        self.left -= values
        if self.left < 0:
            raise TooManyTexts

    def has_ids(self, name: str) -> None:
        """Note that this field holds a prompt as an engine reads it: ids, or vectors of them."""
        self.unchecked.add(IDS)
        self.ids_at = self.ids_at or name


def pieces_of(document: Mapping[str, Any], *, most: int = MOST_VALUES) -> Pieces:
    """Give all texts of a request as engines understand it: chat, completion, embedding, classification, score.

    Raises TooManyTexts where it has more than so many values.
    """
    found = Pieces(numbers=True, left=most)
    found.take(len(document))
    messages = document.get("messages")
    if isinstance(messages, list):
        _messages(messages, found)
    elif messages is not None:
        walk(messages, Place(None, "messages"), Source.USER, found)
    for name, value in document.items():
        if name in ("model", "messages"):  # NB: for the former the engine is sent a name of its own.
            continue
        source = _BY_FIELD.get(name)
        if _is_prompt_of_ids(name, value):
            found.has_ids(name)
            if name in _PROMPTS:
                continue
        if source is not None:
            walk(value, Place(None, name), source, found, within=_WITHIN.get(name, Within.NOTHING))
        else:
            _name(name, Place(None, name), Source.SYSTEM, found)
            walk(value, Place(None, name), Source.SYSTEM, found, aside=True)
    return found


def _messages(messages: list[Any], found: Pieces) -> None:
    found.take(len(messages))
    top = Place(None, "messages")
    turn: list[_Said] = []
    """What the user says until the assistant does: engines read it as one."""
    for number, message in enumerate(messages):
        begin = len(found.texts)
        said = _message(message, Place(top, number), found)
        if said is None or said.source is Source.USER:
            turn.extend(() if said is None else (said,))
            continue
        if said.source is Source.ASSISTANT and len(found.texts) > begin:
            _join_turn(found, turn, top)
            turn = []
        join(found, said.begin, said.place, said.value, end=said.end, lines=True)
    _join_turn(found, turn, top)


class _Said(NamedTuple):
    """The content of a message: which texts of all are of it."""

    source: Source
    begin: int
    end: int
    place: Place
    value: Any


def _message(message: Any, place: Place, found: Pieces) -> _Said | None:
    """Take all texts of a message, and say which are its content."""
    if not isinstance(message, dict):
        walk(message, place, Source.USER, found)
        return None
    role = message.get("role")
    source = _BY_ROLE.get(role, Source.USER) if isinstance(role, str) else Source.USER
    said = _Said(source, 0, 0, place, None)
    found.take(len(message))
    for name, value in message.items():
        at = Place(place, name)
        _name(name, at, source, found)
        begin = len(found.texts)
        if type(value) is str and name == "content":
            if value:
                found.texts.append(Piece(value, source, at))
        else:
            within = Within.PARTS if name == "content" else Within.NOTHING
            walk(value, at, source, found, aside=name not in _SAID, within=within)
        if name == "content":
            said = _Said(source, begin, len(found.texts), at, value)
    return said


def _name(name: str, place: Place, source: Source, found: Pieces) -> None:
    if name and name not in NAMES:
        found.texts.append(Piece(name, source, place, aside=True, fixed=True))


def join(found: Pieces, begin: int, place: Place, value: Any, *, end: int | None = None, lines: bool = False) -> None:
    """Add what the parts of one message, which is this value and stands there, say together: engines put them behind
    one another. With `lines` also as those read it that put line ends between them."""
    if (len(found.texts) if end is None else end) - begin > 1:
        _join(found, [(number, 0) for number in _parts(found, begin, end, place, value)], place, lines=lines)


def _join_turn(found: Pieces, turn: Sequence[_Said], top: Place) -> None:
    """Add what the messages of a user say together, one behind the other, where no assistant speaks between them."""
    if len(turn) == 1:
        join(found, turn[0].begin, turn[0].place, turn[0].value, end=turn[0].end, lines=True)
        return
    _join(
        found,
        [
            (number, n)
            for n, one in enumerate(turn)
            for number in _parts(found, one.begin, one.end, one.place, one.value)
        ],
        top,
        lines=True,
    )


def _parts(found: Pieces, begin: int, end: int | None, place: Place, value: Any) -> Iterator[int]:
    """Give the numbers of the texts of a content: itself, or its parts."""
    for number in range(begin, len(found.texts) if end is None else end):
        piece = found.texts[number]
        at, step = piece.place.before, piece.place.step
        if piece.place is place or (at is place and isinstance(step, int)):
            yield number
        elif at is not None and at.before is place and isinstance(at.step, int) and not piece.fixed:
            kind = value[at.step].get("type")
            if step == (_SAYS.get(kind, "text") if isinstance(kind, str) else "text"):
                yield number


def _join(found: Pieces, numbers: Sequence[tuple[int, int]], place: Place, *, lines: bool = False) -> None:
    """Add what these texts, each of a message, say behind one another: those of each source by themselves."""
    parts: dict[Source, list[tuple[int, int]]] = {}
    for one in numbers:
        parts.setdefault(found.texts[one[0]].source, []).append(one)
    for source, given in parts.items():
        if len(given) < 2:
            continue
        texts: list[str] = []
        starts: list[int] = []
        length, last = 0, given[0][1]
        for number, message in given:
            if message != last:
                texts.append(BETWEEN)
                length, last = length + len(BETWEEN), message
            text = found.texts[number].text
            texts.append(text)
            starts.append(length)
            length += len(text)
            found.texts[number] = replace(found.texts[number], is_part=True)
        numbered = tuple(number for number, _ in given)
        found.texts.append(Piece("".join(texts), source, place, parts=numbered, starts=tuple(starts)))
        if lines:
            _add_apart(found, given, source, place)


def _add_apart(found: Pieces, given: Sequence[tuple[int, int]], source: Source, place: Place) -> None:
    """Add what the parts of each message say with line ends between them, where that is something else."""
    whole = len(found.texts) - 1
    for _, parts in groupby(given, key=itemgetter(1)):
        made = apart(whole, [(number, found.texts[number].text) for number, _ in parts])
        if made is not None:
            found.texts.append(Piece(made[1], source, place, fixed=True, is_part=True, apart=made[0]))


class Within(Enum):
    """What the API has at a place: only there may something be what nobody can read. Elsewhere every string is text."""

    NOTHING = auto()
    DOCUMENT = auto()
    """What is judged or ranked: its `content` are parts."""
    PARTS = auto()
    PART = auto()
    """Of a message; its type says what it holds."""
    MEDIA = auto()
    """The image, audio, video or file of a part: an address, data, or an object of these."""
    IN_MEDIA = auto()


_WITHIN: Final = {
    "input": Within.PARTS,
    **dict.fromkeys(
        ("query", "queries", "documents", "items", "text_1", "text_2", "data_1", "data_2"), Within.DOCUMENT
    ),
}  # fmt: skip
"""Fields of a request that may be parts, and those in which `content` may be."""


def walk(
    value: Any, place: Place, source: Source, found: Pieces, *, aside: bool = False, within: Within = Within.NOTHING
) -> None:
    """Take all texts of a value, in their order: without recursion, because JSON is read deeper than Python calls."""
    waiting: list[tuple[Any, Place, Source, bool, Within]] = [(value, place, source, aside, within)]
    while waiting:
        value, place, source, aside, within = waiting.pop()
        if isinstance(value, str):
            if value:
                written = Source.DOCUMENTS if source is Source.USER and isinstance(value, Retrieved) else source
                _text(value, place, written, found, aside=aside, within=within)
        elif isinstance(value, list):
            if _NUMBERS.issuperset(types := set(map(type, value))) and (
                aside or int not in types or not any(map(_is_long, value))
            ):
                continue
            found.take(len(value))
            last, inner = len(value) - 1, _in_list(within)
            waiting.extend((one, Place(place, last - n), source, aside, inner) for n, one in enumerate(reversed(value)))
        elif isinstance(value, dict):
            found.take(len(value))
            kind = value.get("type")
            if within is Within.PART and value.get("uuid") is not None:
                found.unchecked.add(OTHER_MEDIA)  # By which an engine finds an image that it was sent before.
            if isinstance(kind, str) and kind in _FILES:
                source = Source.DOCUMENTS
            for name in value:
                _name(name, Place(place, name), source, found)
            waiting.extend(
                (one, Place(place, name), source, _is_aside(name, aside=aside), _in_field(within, name, kind))
                for name, one in reversed(value.items())
            )
        elif found.numbers and not aside and _is_long(value):
            found.texts.append(Piece(str(value), source, place))


def _is_long(value: Any) -> bool:
    return type(value) is int and value >= LONG_NUMBER


def _is_aside(name: str, *, aside: bool) -> bool:
    return (aside and name not in ("description", "arguments")) or name in ASIDE


def _in_list(within: Within) -> Within:
    if within is Within.PARTS:
        return Within.PART
    return within if within is Within.DOCUMENT else Within.NOTHING


def _in_field(within: Within, name: str, kind: Any) -> Within:
    if within is Within.DOCUMENT and name == "content":
        return Within.PARTS
    if within is Within.PART and name in (UNTYPED if kind is None else MEDIA.get(str(kind), ())):
        return Within.MEDIA
    return Within.IN_MEDIA if within is Within.MEDIA else Within.NOTHING


def _text(text: str, place: Place, source: Source, found: Pieces, *, aside: bool, within: Within) -> None:
    name = place.step
    if aside and text in WORDS:
        return
    if within in (Within.MEDIA, Within.IN_MEDIA):
        if name in DATA or text[:5].lower() == "data:":
            _data(text, place, found, aside=aside)
            return
        if name in ADDRESSES:
            found.unchecked.add(OTHER_MEDIA)  # What is there; the address itself is a text like others.
    found.texts.append(Piece(text, source, place, escaped=name == "arguments", aside=aside))


def _data(text: str, place: Place, found: Pieces, *, aside: bool) -> None:
    """Take the text out of data where the API has such."""
    read = read_data(text)
    if read.is_media or place.step in TENSORS:
        found.unchecked.add(OTHER_MEDIA)
    if read.raw:
        found.texts.append(Piece(text, Source.DOCUMENTS, place, aside=aside))
    if read.text:
        found.texts.append(Piece(read.text, Source.DOCUMENTS, place, fixed=True))


def _is_prompt_of_ids(name: str, value: Any) -> bool:
    """Whether a field of a request is a prompt that nobody can read, under whatever name an engine takes one."""
    if name in _PROMPTS:
        return _is_tokens(value)
    if name == _EMBEDS:
        return bool(value)
    return name not in NUMBERS and isinstance(value, list) and _is_tokens(value)


def _is_tokens(value: Any) -> bool:
    """Whether a prompt is, or has in it, token ids."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, int | float) and not isinstance(one, bool):
            return True
        if isinstance(one, list):
            if one and isinstance(one[0], int | float):
                return True
            waiting.extend(inner for inner in one if not isinstance(inner, str | dict))
    return False


# --- put back ---------------------------------------------------------------------------------------------------------


def with_texts(document: Mapping[str, Any], texts: Iterable[tuple[Place, str]]) -> Document:
    """Give the document with these texts in their places; what does not change is the same object."""
    root: Document = dict(document)
    copied: dict[Place | None, Any] = {None: root}
    inner: Any
    holder: Any
    for place, text in texts:
        missing: list[Place] = []
        at = place.before
        while at is not None and at not in copied:
            missing.append(at)
            at = at.before
        holder = copied[at]
        for at in reversed(missing):
            inner = holder[at.step]
            holder[at.step] = copied[at] = inner = list(inner) if isinstance(inner, list) else dict(inner)
            holder = inner
        holder[place.step] = text
    return root


def changes(new: Iterable[Piece], old: Iterable[Piece]) -> list[tuple[Place, str]]:
    """Give what is to be written where pieces have become others."""
    return [(one.place, one.text) for one, was in zip(new, old, strict=True) if one is not was and one.is_written]


def texts_changed(new: Iterable[Piece], old: Iterable[Piece]) -> list[tuple[str, str]]:
    """Give the texts that were there, and what they are now, where pieces have become others."""
    return [(was.text, one.text) for one, was in zip(new, old, strict=True) if one is not was and one.is_written]


def choose(pieces: Iterable[Piece], sources: frozenset[Source]) -> Iterator[int]:
    """Give the numbers of those that are of these sources."""
    return (number for number, piece in enumerate(pieces) if piece.source in sources)
