"""Everything that a text says: as it stands, and through each codec that something in it could be written in.

One scan for "gates" tells which codecs there could be something for (RE2: linear, and quick where there is nothing).
What a codec says is looked at in the same way again, `DEPTH` deep, the nearer first.

At most `SHARE` times as many characters are made of a chunk of a text as it has (and `FREE`): beyond it nothing is
decoded any more. As no codec makes more of a text than it was, the bound is met only by what is written in many codecs
at once; a bomb of nested encodings costs no more than a text of that length.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import re2  # type: ignore[import-untyped]

from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.text import codecs, spaced
from capstan_gateway.guards.text.views import Back, Joined, Piece, View, same_place, through

DEPTH: Final = 3
"""Codecs that a text is taken through one after the other."""
SHARE: Final = 6
FREE: Final = 1 << 12
"""Characters that may be made of any text, however short."""
CHUNK: Final = 1 << 16
"""Characters of a long text that are decoded at a time, so that it takes no more memory than a short one."""
OVERLAP: Final = 1 << 11
"""Of those, how many the next time begins before: what is written on the border is read in one of both."""

_WORDS: Final = (
    "ignore", "disregard", "forget", "previous", "instruct", "prompt", "reveal", "jailbreak", "bypass", "password",
    "restrict", "guideline", "override", "pretend", "system", "secret", "unfiltered", "illegal", "explain how",
)  # fmt: skip
"""One of them is in most attacks. In a cipher they are no words, so that a text in which one is found is one."""
_TELLING: Final = tuple(word for word in _WORDS if len(word) >= 6)
_LEET_FORMS: Final = {
    "a": "[4@]", "b": "8", "c": "[(]", "e": "3", "g": "[69]", "i": "[1!|]", "o": "0", "s": "[5$]", "t": "[7+]",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Codec:
    """One way to write something."""

    name: str
    gate: str
    """What a text has at least in which there is anything for it, in the syntax of RE2, without case."""
    read: Callable[[str], tuple[str, Back]]
    """What a text says in it, empty where it says nothing, and the way back."""
    whole: bool = False
    """Whether that is all of the text, and not only what was written so."""
    loose: bool = False


def _runs(of: Callable[[str], Iterable[Piece]]) -> Callable[[str], tuple[str, Back]]:
    def read(text: str) -> tuple[str, Back]:
        joined = Joined(_made(of(text)), between="\n")
        return joined.text, joined.back

    return read


def _made(pieces: Iterable[Piece]) -> list[Piece]:
    made = []
    for piece in pieces:
        go_on()
        if piece.text:
            made.append(piece)
    return made


def _all(of: Callable[[str], Iterable[Piece]]) -> Callable[[str], tuple[str, Back]]:
    def read(text: str) -> tuple[str, Back]:
        joined = Joined(_made(of(text)))
        return joined.text, joined.back

    return read


def _by_letter(table: dict[int, str]) -> Callable[[str], tuple[str, Back]]:
    return lambda text: (text.translate(table), same_place)


def _shifted(word: str, by: int) -> str:
    return "".join(chr((ord(letter) - 97 + by) % 26 + 97) if letter.isalpha() else letter for letter in word)


def _mirrored(word: str) -> str:
    return "".join(chr(219 - ord(letter)) if letter.isalpha() else letter for letter in word)


def _table(of: Callable[[str], str]) -> dict[int, str]:
    small = {ord(letter): of(letter) for letter in map(chr, range(97, 123))}
    return small | {point - 32: letter.upper() for point, letter in small.items()}


def _letter_by_letter(name: str, of: Callable[[str], str], back: Callable[[str], str]) -> _Codec:
    table = _table(back)
    gate = r"\b(?:" + "|".join(of(word) for word in _TELLING) + ")"
    return _Codec(name, gate, _by_letter(table), whole=True)


def _caesar(by: int) -> _Codec:
    name = "rot13" if by == 13 else "caesar"
    return _letter_by_letter(name, lambda word: _shifted(word, by), lambda word: _shifted(word, -by))


def _backwards(text: str) -> tuple[str, Back]:
    length = len(text)
    return text[::-1], lambda start, end: (length - end, length - start)


def _words_backwards(text: str) -> Iterable[Piece]:
    at = 0
    for part in codecs.WORDS_AND_GAPS.findall(text):
        yield Piece(at, at + len(part), part[::-1])
        at += len(part)


def _leet_gate() -> str:
    forms = []
    for word in _TELLING:
        for place, letter in enumerate(word):
            if letter in _LEET_FORMS:
                behind = "".join(
                    f"(?:{one}|{_LEET_FORMS[one]})" if one in _LEET_FORMS else one for one in word[place + 1 :]
                )
                forms.append(word[:place] + _LEET_FORMS[letter] + behind)
    return "|".join(forms)


def _rot47() -> _Codec:
    table = {point: chr(33 + (point - 33 + 47) % 94) for point in range(33, 127)}
    gate = "(?-i:" + "|".join(re.escape(word.translate(table)) for word in _TELLING) + ")"
    return _Codec("rot47", gate, _by_letter(table), whole=True)


_AGAIN: Final = frozenset(("escapes",))
"""Codecs of a whole text that say more when what they say is taken through them once more."""
_LONG_SHORT: Final = r"(?:[._\-]|\xc2\xb7|\xe2\x80[\x93\x94\xa2]|\xe2\x88[\x92\x99])"
_EMOJI: Final = r"\xf0\x9f[\x80-\xbf]{2}|\xe2[\x86-\x87\x98-\x9e][\x80-\xbf]|\xef\xb8\x8f"
_TOGETHER: Final = (
    r"(?:ignor|disregard|forget|overrid|bypass|reveal|print|show|repeat|pretend)[a-z]{0,24}"
    r"(?:instruct|prompt|restrict|guideline|previous|rules)[a-z]{0,40}"
)
_REVERSED: Final = "|".join(word[::-1] for word in _TELLING)
_CODECS: Final = (
    _Codec("base64", r"(?-i:(?:[A-Z0-9+/]{1,7}[a-z]{1,7}){3}[A-Za-z0-9+/_-]{3})", _runs(codecs.base64_runs)),
    _Codec("hex", r"(?:(?:0x|=)?[0-9A-Fa-f]{2}[\s:,;-]{0,2}){8}", _runs(codecs.hex_runs)),
    _Codec("base32", r"(?-i:[A-Z2-7]{16}|[a-z2-7]{24})", _runs(codecs.base32_runs)),
    _Codec("ascii85", r"<~[!-u\sz]{8,}~>", _runs(codecs.ascii85_runs)),
    _Codec("binary", r"(?:[01]{7,8}[\s,]{0,2}){5}", _runs(codecs.binary_runs)),
    _Codec("decimal", r"(?:\d{2,3}[\s,;]{1,3}){7}", _runs(codecs.code_runs)),
    _Codec("morse", rf"(?:{_LONG_SHORT}{{1,6}}[ \n/|]{{1,4}}){{9}}", _runs(codecs.morse_runs)),
    _Codec("selectors", r"(?:\xef\xb8[\x80-\x8f]|\xf3\xa0[\x84-\x87][\x80-\xbf]){8}", _runs(codecs.selector_runs)),
    _Codec(
        "escapes", r"%[0-9A-F]{2}|&#[0-9X]|\\u\{?[0-9A-F]{2}|\\x[0-9A-F]{2}|\\[0-7]{3}|u\+[0-9A-F]{4}",
        _all(codecs.unescaped), whole=True,
    ),
    _Codec(
        "markup", r"[a-z]<[^<>]{1,60}>(?:<[^<>]{1,60}>)*[a-z]|[a-z](?:\*\*|~~)[a-z]",
        _all(codecs.without_markup), whole=True,
    ),
    _Codec(
        "apart",
        rf"(?:\b\w(?:[ \t\r\n.\-_*|/\\,~+:;]|{_EMOJI}){{1,4}}){{6}}"
        r"|(?:[a-z]{1,4}[\-_*.|~+]){4}|(?:\w\xc2\xb7){6}",
        _runs(spaced.runs_apart), loose=True,
    ),
    _Codec(
        "gaps", r"[\s!-/:-@\[-`{-~]{48}|(?:\xe3\x80\x80|\xc2\xa0|\xe2\x80[\x80-\x8f]){16}",
        _all(codecs.without_gaps), whole=True,
    ),
    _Codec("together", _TOGETHER, _runs(codecs.runs_together), loose=True),
    _rot47(),
    _Codec("leet", _leet_gate(), _by_letter(spaced.LEET), whole=True),
    _Codec("reversed", _REVERSED, _backwards, whole=True),
    _Codec("reversed-words", rf"\b(?:{_REVERSED})\b", _all(_words_backwards), whole=True),
    _letter_by_letter("atbash", _mirrored, _mirrored),
    *(_caesar(by) for by in range(1, 26)),
)  # fmt: skip


@cache
def _gates() -> "re2.Set":
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = False
    options.never_capture = True
    options.max_mem = 32 << 20
    gates = re2.Set.SearchSet(options)
    for codec in _CODECS:
        gates.Add(codec.gate.encode("latin-1"))
    gates.Compile()
    return gates


def views(text: str) -> Iterator[View]:
    """Give the text itself, and then what it says through codecs."""
    yield View(text=text, back=same_place)
    for at in range(0, max(1, len(text) - OVERLAP), CHUNK - OVERLAP):
        yield from _views_of_chunk(text[at : at + CHUNK], at)


def _views_of_chunk(chunk: str, at: int) -> Iterator[View]:
    waiting = deque([View(text=chunk, back=lambda start, end: (at + start, at + end))])
    left = SHARE * len(chunk) + FREE
    while waiting:
        for made in _decoded(waiting.popleft()):
            left -= len(made.text)
            if left < 0:
                return
            yield made
            if len(made.how) < DEPTH:
                waiting.append(made)


def _decoded(view: View) -> Iterator[View]:
    for number in sorted(_gates().Match(view.text.encode(errors="replace")) or ()):
        go_on()
        codec = _CODECS[number]
        if codec.whole and codec.name in view.how and codec.name not in _AGAIN:
            continue
        text, back = codec.read(view.text)
        if text:
            loose = view.loose or codec.loose
            yield View(text=text, back=through(back, view.back), how=(*view.how, codec.name), loose=loose)
