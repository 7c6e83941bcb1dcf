"""All patterns as one automaton, and what of a text they match.

In two steps, both linear: one search for the literals that patterns need (`keys.py`, Aho-Corasick), then each pattern
of which one is there in what is around it (`REACH`), with RE2. In ordinary text that is little or nothing.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

import ahocorasick_rs
import re2  # type: ignore[import-untyped]

from capstan_gateway.guards.attacks.injection import INJECTION
from capstan_gateway.guards.attacks.jailbreak import JAILBREAK
from capstan_gateway.guards.attacks.keys import required, spaced
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
        of_key: dict[bytes, list[int]] = defaultdict(list)
        for number, choices in enumerate(needed):
            if not patterns[number].needs:
                for key in choices[0]:
                    of_key[key].append(number)
        self._needing = tuple(
            (number, tuple(need.encode() for need in pattern.needs))
            for number, pattern in enumerate(patterns)
            if pattern.needs
        )
        self._also = tuple(map(_second, needed))
        self._reach = tuple(map(_reach, expressions))
        self._of_key = tuple(map(tuple, of_key.values()))
        self._keys = ahocorasick_rs.BytesAhoCorasick(list(of_key), implementation=ahocorasick_rs.Implementation.DFA)

    def search(self, folded: str) -> Iterator[Match]:
        """Give the first place of each pattern around each of its literals, in no order."""
        text = folded.encode()
        plain = len(text) == len(folded)
        for number, start, end in self._places(text):
            if not plain:
                start, end = len(text[:start].decode(errors="ignore")), len(text[:end].decode(errors="ignore"))
            yield Match(self._patterns[number], start, end)

    def _places(self, text: bytes) -> Iterator[tuple[int, int, int]]:
        near: dict[int, list[int]] = defaultdict(list)
        # NB: the blank in front lets the first word of a text begin a word. Places are then one too far.
        words = b" " + spaced(text)
        for key, start, _ in self._keys.find_matches_as_indexes(words, overlapping=True):
            for number in self._of_key[key]:
                near[number].append(start)
        for number, starts in near.items():
            go_on()
            expression, reach, also = self._expressions[number], self._reach[number], self._also[number]
            for begin, end in _around(starts, len(text), reach):
                if also and not _has_any(words[begin : end + 1], also):
                    continue
                if found := expression.search(text, begin, end):
                    yield number, *found.span()
        for number, needs in self._needing:
            if any(need in text for need in needs) and (found := self._expressions[number].search(text)):
                yield number, *found.span()


def _has_any(around: bytes, keys: Iterable[bytes]) -> bool:
    # NB: a loop: a generator would take longer than the search that this saves.
    for key in keys:  # noqa: SIM110
        if key in around:
            return True
    return False


def _second(choices: Sequence[frozenset[bytes]]) -> tuple[bytes, ...]:
    """Give what must be there as well; of several of which one is in another, the shorter."""
    keys = choices[1] if len(choices) > 1 else frozenset[bytes]()
    return tuple(key for key in keys if not any(other in key for other in keys if other != key))


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
