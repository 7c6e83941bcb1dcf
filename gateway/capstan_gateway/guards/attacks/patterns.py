"""All patterns as one automaton, and what of a text they match.

In two steps, both linear: one search for the literals that patterns need (`keys.py`, Aho-Corasick), then each pattern
of which all that it needs is there in what is around one of the rarest (`REACH`), with RE2. In ordinary text that is
little or nothing.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

import ahocorasick_rs
import re2  # type: ignore[import-untyped]

from capstan_gateway.guards.attacks.injection import INJECTION
from capstan_gateway.guards.attacks.jailbreak import JAILBREAK
from capstan_gateway.guards.attacks.keys import required, spaced, telling
from capstan_gateway.guards.attacks.languages import LANGUAGES
from capstan_gateway.guards.attacks.pattern import Pattern
from capstan_gateway.guards.attacks.templates import TEMPLATES
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.text.fold import fold

PATTERNS: Final = (*INJECTION, *JAILBREAK, *TEMPLATES, *LANGUAGES)
REACH: Final = 120
"""Bytes in front of and behind a literal in which a pattern must match as a whole, beside the gaps that it allows."""
LEAST_GAP: Final = 16
_GAPS: Final = re.compile(rb"\{\d+,(\d+)\}")
_MEMORY: Final = 8 << 20
_FOREIGN: Final = re.compile(r"[^\x00-\x7f]+")


class Match(NamedTuple):
    """A pattern that is in a text."""

    pattern: Pattern
    start: int
    """In characters of the folded text; so is `end`."""
    end: int


class Automaton:
    """Some patterns, ready to be looked for. From any thread."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = tuple(patterns)
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.dot_nl = True
        options.never_capture = True
        options.max_mem = _MEMORY
        expressions = [_FOREIGN.sub(lambda run: fold(run[0]), pattern.expression).encode() for pattern in patterns]
        self._expressions = tuple(re2.compile(expression, options) for expression in expressions)
        needed = [required(expression) for expression in expressions]
        firsts: dict[bytes, list[int]] = defaultdict(list)
        others: dict[bytes, list[int]] = defaultdict(list)
        sets: dict[frozenset[bytes], int] = {}
        also: list[tuple[int, ...]] = []
        for number, choices in enumerate(needed):
            rest = telling(choices[1:]) if not patterns[number].needs else []
            also.append(tuple(sets.setdefault(keys, len(sets)) for keys in rest))
            for key in choices[0] if not patterns[number].needs else ():
                firsts[key].append(number)
        for keys, place in sets.items():
            for key in keys:
                others[key].append(place)
        self._also = tuple(also)
        """Of each pattern the sets of literals of which one each must be near its first."""
        keys_of_all = list({**firsts, **others})
        self._of_key = tuple((tuple(firsts[key]), tuple(others[key])) for key in keys_of_all)
        self._keys = ahocorasick_rs.BytesAhoCorasick(keys_of_all, implementation=ahocorasick_rs.Implementation.DFA)
        self._reach = tuple(map(_reach, expressions))
        self._needing = [number for number, pattern in enumerate(patterns) if pattern.needs]
        self._needs = _any_of([patterns[number].needs for number in self._needing], options)

    def search(self, folded: str) -> Iterator[Match]:
        """Give the first place of each pattern around each of its literals, in no order."""
        text = folded.encode()
        if len(text) == len(folded):
            for number, start, end in self._places(text):
                yield Match(self._patterns[number], start, end)
            return
        found = list(self._places(text))
        places = _characters(text, {place for _, start, end in found for place in (start, end)})
        for number, start, end in found:
            yield Match(self._patterns[number], places[start], places[end])

    def _places(self, text: bytes) -> Iterator[tuple[int, int, int]]:
        near: dict[int, list[int]] = defaultdict(list)
        ends: dict[int, list[int]] = defaultdict(list)
        # NB: the blank in front lets the first word of a text begin a word. Places are then one too far.
        words = b" " + spaced(text)
        for key, start, end in self._keys.find_matches_as_indexes(words, overlapping=True):
            firsts, others = self._of_key[key]
            for number in firsts:
                near[number].append(start)
            for number in others:
                ends[number].append(end)
        for number, starts in near.items():
            go_on()
            also = [ends.get(place) for place in self._also[number]]
            if not all(also):
                continue
            expression = self._expressions[number]
            for begin, end in _around(starts, len(text), self._reach[number]):
                if _have_one(also, begin, end + 1) and (found := expression.search(text, begin, end)):
                    yield number, *found.span()
        for place in self._needs.Match(text) or ():
            number = self._needing[place]
            if found := self._expressions[number].search(text):
                yield number, *found.span()


def _have_one(lists: Iterable[Sequence[int] | None], begin: int, end: int) -> bool:
    """Tell whether each of some sorted lists has a number behind the first of these, up to the last of them."""
    # NB: a loop: a generator would take longer than what is in it.
    for numbers in lists:
        place = bisect_right(numbers or (), begin)
        if numbers is None or place == len(numbers) or numbers[place] > end:
            return False
    return True


def _any_of(needs: Sequence[Sequence[str]], options: "re2.Options") -> "re2.Set":
    """Make what tells in one pass which of these have a word in a text."""
    found = re2.Set.SearchSet(options)
    for words in needs or [("\0",)]:
        found.Add("|".join(map(re2.escape, words)).encode())
    found.Compile()
    return found


_CONTINUED: Final = bytes(range(0x80, 0xC0))


def _characters(text: bytes, places: Iterable[int]) -> dict[int, int]:
    """Give how many characters of a text in UTF-8 are, whole, in front of each place."""
    found: dict[int, int] = {}
    at = count = 0
    for place in sorted(places):
        count += len(text[at:place].translate(None, _CONTINUED))
        found[place] = count - (text[place : place + 1] in _CONTINUED and place < len(text))
        at = place
    return found


def _reach(expression: bytes) -> int:
    """Give how far from a literal what matches can go: what usual words take, and the gaps that it allows."""
    return REACH + sum(gap for gap in map(int, _GAPS.findall(expression)) if gap >= LEAST_GAP)


def _around(places: Iterable[int], length: int, reach: int) -> Iterator[tuple[int, int]]:
    """Give what is around some places, those that are near each other together."""
    begin = end = -1
    for place in places:
        if place > end:
            if end >= 0:
                yield begin, end
            begin = max(0, place - reach)
        end = min(length, place + reach)
    yield begin, end


_ANY: Final = r"[\W_]*"
_LOOSE_FILLER: Final = "(?:all|any|the|your|my|these|those|of|previous|prior|above|earlier|preceding|safety|system| )*"
LOOSE_PATTERNS: Final = tuple(
    Pattern(kind, expression.replace(" ", _ANY), injection, jailbreak)
    for kind, expression, injection, jailbreak in (
        (
            "override",
            rf"(?:ignore|disregard|forget|bypass) {_LOOSE_FILLER} (?:instruction|prompt|rules|guideline|direction)",
            0.9,
            0.5,
        ),
        (
            "prompt-extraction",
            "(?:reveal|show|print|repeat|tell|give|output|display) (?:me|us)? (?:the|your|all)? (?:system|initial|hidden|secret)? (?:prompt|instructions)",
            0.8,
            0.2,
        ),
        ("prompt-extraction", "system prompt", 0.5, 0.1),
        (
            "secret-extraction",
            "(?:reveal|show|print|tell me|give me|output|say|write|spell) (?:the|your)? (?:secret|password|api key|access code|flag)",
            0.7,
            0.1,
        ),
        ("mode", "(?:developer|god|jailbreak|dan) mode", 0.4, 0.7),
        ("named-persona", "do anything now|jailbreak", 0.4, 0.8),
        ("rule-free", "(?:no|without|any) (?:restrictions|rules|limits|filters|ethics|guidelines)", 0.3, 0.6),
    )
)
"""What attacks say, for texts of which one cannot tell where words end."""


@cache
def automaton() -> Automaton:
    """Give that of all patterns: made once, which takes some 200 ms."""
    return Automaton(PATTERNS)


@cache
def loose_automaton() -> Automaton:
    """Give that for texts of which one cannot tell where words end."""
    return Automaton(LOOSE_PATTERNS)
