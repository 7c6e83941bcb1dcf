"""Redaction that can be undone: what was found is `[EMAIL_1]` in what a model sees, and itself again in its answer.

    redact(pieces, others)      the texts of a conversation, rewritten, and what stands for what
    Placeholders.restore        an answer as a whole
    Placeholders.restorer       an answer that comes in pieces

Numbers are given by first appearance, so that they stay as long as a conversation is sent again from its beginning, and
never one that a text of the request already has in such brackets: what the client wrote is never taken for one of ours.
Models change how they write them: small letters, blanks or hyphens for underscores, brackets of other scripts, and a
backslash in front of what Markdown would read. All that is understood.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.json_strings import JsonPlace, replacement
from capstan_gateway.guards.port import Finding

MOST_LABEL: Final = 48
"""Most characters of the word in a placeholder."""
_MOST_DIGITS: Final = 7

_OPEN, _CLOSE = r"[\[\uff3b\u3010]", r"[\]\uff3d\u3011]"
_JOINT: Final = r"(?:\\{0,2}_|[ -])"
_NAME: Final = rf" ?([A-Za-z][A-Za-z0-9]{{0,47}}(?:{_JOINT}[A-Za-z0-9]{{1,48}}){{0,8}}{_JOINT}[1-9][0-9]{{0,6}}) ?"
_PLACEHOLDER: Final = re.compile(rf"\\{{1,2}}{_OPEN}{_NAME}\\{{1,2}}{_CLOSE}|{_OPEN}{_NAME}{_CLOSE}")
_BEGUN: Final = re.compile(rf"\\{{0,2}}(?:{_OPEN}(?P<name>(?:[A-Za-z0-9 _-]|\\{{1,2}}(?=[_\]\uff3d\u3011]|\Z))*))?\Z")
_LAST_OPEN: Final = re.compile(rf"\\{{0,2}}{_OPEN}[^\[\uff3b\u3010]*\Z|\\{{1,2}}\Z")

_EXACT: Final = frozenset({PiiKind.SECRET, PiiKind.URL_CREDENTIALS, PiiKind.CRYPTO_ADDRESS})
_FOLDED: Final = frozenset(kind.value for kind in PiiKind) - {kind.value for kind in _EXACT}
"""Kinds whose values are the same however they are written. Of others, such as passwords, every character counts."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A text of a conversation, and what is to be replaced in it."""

    text: str
    findings: Sequence[Finding] = ()
    """In any order. Those that overlap are replaced as one."""
    escaped: bool = False
    """Whether the text is the source of JSON, as the arguments of tools are: then values stand in it with escapes."""
    restored: Collection[Finding] | None = None
    """Those of the findings whose values come back in an answer; None: all. Of several that are replaced as one, all
    must be among them."""
    document: bool = False
    """Whether the source of JSON is a whole document: then what replaces a bare value is a string."""


class Placeholders:
    """What stands for what, in one request. It never changes, and is of use for the answer to that request alone."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values: Mapping[str, str] = dict(values)
        """By the placeholder, with its brackets."""
        self._by_name = {placeholder[1:-1]: value for placeholder, value in self.values.items()}

    def __bool__(self) -> bool:
        return bool(self.values)

    def restore(self, text: str, *, escaped: bool = False) -> str:
        """Give a text with the values in their places again. `escaped`: the text is the source of JSON."""
        if not self._by_name:
            return text

        def value(match: re.Match[str]) -> str:
            found = self._by_name.get(_canonical(match[1] or match[2]))
            return match[0] if found is None else _escape(found) if escaped else found

        return _PLACEHOLDER.sub(value, text)

    def restorer(self, *, escaped: bool = False) -> "Restorer":
        """Give what does so with a text that comes in pieces."""
        return Restorer(self, escaped=escaped)

    def begins(self, name: str) -> bool:
        """Tell whether the beginning of a name may become one that stands for something."""
        begun = _canonical(name.removeprefix(" "))
        return any(known.startswith(begun) or known + "_" == begun for known in self._by_name)


class Restorer:
    """Restores a text that comes in pieces, however it is cut: together they give what `restore` gives of the whole."""

    def __init__(self, placeholders: Placeholders, *, escaped: bool = False) -> None:
        self._placeholders = placeholders
        self._escaped = escaped
        self._tail = ""

    @property
    def held(self) -> int:
        """How many characters wait for what comes next: fewer than a placeholder has, however it is written."""
        return len(self._tail)

    def feed(self, chunk: str) -> str:
        """Give what may go on, now that this is there as well."""
        if not self._placeholders:
            return chunk
        text = self._tail + chunk
        held = self._held_from(text)
        self._tail = text[held:]
        return self._placeholders.restore(text[:held], escaped=self._escaped)

    def end(self) -> str:
        """Give what is left."""
        text, self._tail = self._tail, ""
        return text

    def _held_from(self, text: str) -> int:
        """Give where something begins that may become a placeholder; the end of the text where nothing does."""
        last = _LAST_OPEN.search(text, max(0, len(text) - 8 * MOST_LABEL))
        if last is None:
            return len(text)
        begun = _BEGUN.match(text, last.start())
        if begun is None or (begun["name"] is not None and not self._placeholders.begins(begun["name"])):
            trailing = len(text) - len(text.rstrip("\\"))
            return len(text) - min(trailing, 2)
        return last.start()


@dataclass(frozen=True, slots=True)
class Redacted:
    """Texts in which placeholders stand for what was found."""

    texts: tuple[str, ...]
    """In the order of the pieces."""
    placeholders: Placeholders


@dataclass
class Naming:
    """Gives names: the same for the same value, and none that is taken."""

    taken: set[str] = field(default_factory=set)
    """Names that texts have already, without brackets."""
    _given: dict[tuple[str, str], str] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)
    _values: dict[str, str] = field(default_factory=dict)
    _restored: set[str] = field(default_factory=set)

    def avoid(self, text: str) -> None:
        """Never give a name that a text has."""
        for match in _PLACEHOLDER.finditer(text):
            self.taken.add(_canonical(match[1] or match[2]))

    def name(self, kind: str, value: str, *, restored: bool = True) -> str:
        """Give the placeholder of a value, with its brackets. `restored`: the value may come back in an answer."""
        key = (kind, _same(kind, value))
        name = self._given.get(key)
        if name is None:
            name = self._given[key] = self._next(label_of(kind))
            self._values[name] = value
        if restored:
            self._restored.add(name)
        return f"[{name}]"

    @property
    def names(self) -> list[str]:
        """Give all placeholders that were given, with their brackets."""
        return [f"[{name}]" for name in self._values]

    def placeholders(self) -> Placeholders:
        """Give what stands for what, so far, of all whose values may come back."""
        return Placeholders({f"[{name}]": value for name, value in self._values.items() if name in self._restored})

    def _next(self, label: str) -> str:
        number = self._last.get(label, 0) + 1
        while f"{label}_{number}" in self.taken:
            number += 1
        self._last[label] = number
        # NB: kinds that differ may have one label, and one label may be another with a number.
        self.taken.add(f"{label}_{number}")
        return f"{label}_{number}"


def redact(pieces: Iterable[Piece], others: Iterable[str] = (), naming: Naming | None = None) -> Redacted:
    """Replace what was found in the texts of a conversation, in its order.

    `others` are all other texts of it that a model sees. With `naming`, names go on from those given before.
    """
    pieces = tuple(pieces)
    naming = Naming() if naming is None else naming
    for text in (*(piece.text for piece in pieces), *others):
        naming.avoid(text)
    return Redacted(tuple(_rewritten(piece, naming) for piece in pieces), naming.placeholders())


def _rewritten(piece: Piece, naming: Naming) -> str:
    parts: list[str] = []
    place = 0
    source = JsonPlace() if piece.document else None
    one_by_one = united(piece.findings)
    for finding, restored in zip(one_by_one, _restored(piece, one_by_one), strict=True):
        value = piece.text[finding.start : finding.end]
        if piece.escaped:
            value = unescape(value)
        name = naming.name(finding.kind, value, restored=restored)
        if source is not None:
            source.feed(piece.text[place : finding.start])
            begins = source.in_string
            source.feed(piece.text[finding.start : finding.end])
            name = replacement(name, begins, source.in_string)
        parts += (piece.text[place : finding.start], name)
        place = finding.end
    return "".join((*parts, piece.text[place:]))


def _restored(piece: Piece, one_by_one: Iterable[Finding]) -> Iterator[bool]:
    """Tell of each that is replaced whether all that it is made of come back."""
    kept = None if piece.restored is None else frozenset(piece.restored)
    made_of = sorted((one for one in piece.findings if one.start < one.end), key=lambda one: one.start)
    at = 0
    for finding in one_by_one:
        begin = at
        while at < len(made_of) and made_of[at].start < finding.end:
            at += 1
        yield kept is None or all(one in kept for one in made_of[begin:at])


def united(findings: Iterable[Finding]) -> list[Finding]:
    """Give findings that do not overlap and cover the same, each of the kind of the longest that it is made of."""
    result: list[Finding] = []
    longest = 0
    for finding in sorted(findings, key=lambda finding: (finding.start, -finding.end, -finding.score)):
        length = finding.end - finding.start
        if length <= 0:
            continue
        if not result or finding.start >= result[-1].end:
            result.append(finding)
            longest = length
        elif finding.end > result[-1].end:
            last = result.pop()
            kind = finding.kind if length > longest else last.kind
            longest = max(length, longest)
            result.append(Finding(kind, last.start, finding.end, max(last.score, finding.score)))
    return result


def label_of(kind: str) -> str:
    """Give the word for a kind: `DateOfBirth` is DATE_OF_BIRTH. Without what is no ASCII; of nothing DATA is left."""
    humps = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind)
    label = "_".join(re.findall(r"[A-Za-z0-9]+", humps)).upper()[:MOST_LABEL].strip("_")
    label = "_".join(label.split("_")[:8])
    return label if label[:1].isalpha() else f"DATA_{label}"[:MOST_LABEL].strip("_")


def _canonical(name: str) -> str:
    return re.sub(r"\\{0,2}_|[ -]", "_", name).replace("\\", "").upper()


def _same(kind: str, value: str) -> str:
    """Give what is the same for values that are the same."""
    if kind not in _FOLDED:
        return value
    folded = unicodedata.normalize("NFKC", value).casefold()
    if any(character.isalpha() for character in folded):
        return "".join(folded.split())
    return "".join(character for character in folded if character.isalnum() or character == "+") or value


def _escape(value: str) -> str:
    return json.dumps(value, ensure_ascii=not _is_text(value))[1:-1]


def _is_text(value: str) -> bool:
    """Tell whether it can be written in UTF-8: halves of surrogate pairs cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def unescape(value: str) -> str:
    """Give what a piece of a string of JSON means; itself where it is none."""
    try:
        unescaped = json.loads(f'"{value}"', strict=False)
    except ValueError:
        return value
    return unescaped if isinstance(unescaped, str) else value
