"""What guards have replaced in a request, for what is kept of it: nothing that was kept from an engine is. Pure.

Guards rewrite the chat request, and what is kept is in the client's own dialect. So a text that stands there as it
stood in the chat request becomes what that became, and in all others each value that was replaced is replaced wherever
it stands. What cannot be found there (a value that went over the border of two parts) keeps all of it from being kept.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import ahocorasick_rs

_OURS: Final = {
    "id": re.compile(r"[a-z]{2,6}_[0-9A-Za-z_]{8,80}"), "previous_response_id": re.compile(r"resp_[0-9A-Za-z_]{8,80}"),
    **dict.fromkeys(("type", "role", "status", "object"), re.compile(r"[a-z_.]{1,40}")),
}  # fmt: skip
"""What of the API itself stands under these names: it is no text, and stays."""


class Value(NamedTuple):
    """Something that a guard has replaced."""

    written: str
    """As it stood in the text."""
    meant: str
    """The same without the escapes of JSON, where that text was source of JSON."""
    placeholder: str
    """With its brackets."""


class Replaced:
    """What all guards have replaced in one request."""

    def __init__(self) -> None:
        self._texts: dict[str, str | None] = {}
        self._values: dict[str, Value] = {}

    def note(self, texts: Iterable[tuple[str, str]], values: Iterable[Value]) -> None:
        """Note that these texts have become others, by these values being replaced in them."""
        for old, new in texts:
            # NB: two members of a router may replace different things in one text: then all of both is.
            self._texts[old] = new if self._texts.get(old, new) == new else None
        for value in values:
            self._values.setdefault(value.written, value)

    def join(self, other: "Replaced") -> None:
        """Note what was noted elsewhere of the same request."""
        for old, new in other._texts.items():
            self._texts[old] = new if self._texts.get(old, new) == new else None
        self._values = {**other._values, **self._values}

    def __bool__(self) -> bool:
        return bool(self._values)

    def rewritten(self, kept: Sequence[Any], of: Any) -> list[Any] | None:
        """Give what is to be kept of the document `of` with everything replaced; None where that cannot be done."""
        search = _Search(self._values.values())
        for text in _texts_of(of):
            search.note(text)
        if not search.is_complete:
            return None

        def change(text: str) -> str:
            became = self._became(text)
            return search.replaced(text) if became is None else became

        return [_mapped(one, change) for one in kept]

    def _became(self, text: str) -> str | None:
        """Give what an engine was sent in the place of a text; None for a text that is none of the request's, or of
        which several things were made."""
        if self._texts.get(text) is None:
            return None
        for _ in range(len(self._texts)):
            if text not in self._texts:
                break
            new = self._texts[text]
            if new is None or new == text:
                return new
            text = new
        return text


class _Search:
    """Finds all values in one pass, the longest where several begin at one place."""

    def __init__(self, values: Iterable[Value]) -> None:
        self._values = list(values)
        self._words = [word for value in self._values for word in (value.written, value.meant)]
        self._automaton = ahocorasick_rs.AhoCorasick(self._words, matchkind=ahocorasick_rs.MatchKind.LeftmostLongest)
        self._seen = ahocorasick_rs.AhoCorasick(self._words)
        self._missing = set(range(len(self._values)))

    def note(self, text: str) -> None:
        """Note which of them stand in a text."""
        if self._missing:
            found = self._seen.find_matches_as_indexes(text, overlapping=True)
            self._missing.difference_update(number // 2 for number, _, _ in found)

    @property
    def is_complete(self) -> bool:
        """Whether each of them was there."""
        return not self._missing

    def replaced(self, text: str) -> str:
        """Give a text with the placeholders of all that stand in it."""
        parts: list[str] = []
        at = 0
        for number, start, end in self._automaton.find_matches_as_indexes(text):
            parts += text[at:start], self._values[number // 2].placeholder
            at = end
        return "".join((*parts, text[at:])) if parts else text


def _texts_of(document: Any) -> Iterable[str]:
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _mapped(document: Any, change: Callable[[str], str]) -> Any:
    """Give a document with all its texts changed: without recursion, because JSON is read deeper than Python calls."""
    root = [document]
    waiting: list[tuple[Any, Any]] = [(root, 0)]
    while waiting:
        holder, key = waiting.pop()
        one = holder[key]
        if isinstance(one, str):
            ours = _OURS.get(key) if isinstance(key, str) else None
            if ours is None or ours.fullmatch(one) is None:
                holder[key] = change(one)
        elif isinstance(one, dict):
            holder[key] = copy = dict(one)
            waiting.extend((copy, name) for name in copy)
        elif isinstance(one, list):
            holder[key] = listed = list(one)
            waiting.extend((listed, number) for number in range(len(listed)))
    return root[0]
