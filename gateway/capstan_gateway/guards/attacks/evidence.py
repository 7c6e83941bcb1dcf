"""What in a text looks like an attack, and how much of it there is.

Everything that the text says is looked at (`guards/text/decode.py`). What is found is weighed by who has written the
text: the same order means less from a developer, who may give orders, and more in a document, which may not. What
stands near each other counts together, as if each were independent: 1 minus the product of what each leaves of doubt.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from capstan_contract.guards import Source
from capstan_gateway.guards.attacks.pattern import Pattern
from capstan_gateway.guards.attacks.patterns import automaton, loose_automaton
from capstan_gateway.guards.attacks.suffix import TAIL, many_turns, odd_suffix
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.text.decode import views
from capstan_gateway.guards.text.fold import FoldMap, fold
from capstan_gateway.guards.text.views import View

PLANTED: Final = frozenset((Source.TOOL_RESULTS, Source.DOCUMENTS))
"""Texts that nobody has just said, and that give no orders."""
_OWN: Final = frozenset((Source.SYSTEM,))
_WEIGHT_OF_OWN: Final = 0.35
"""What developers write sounds like orders, because it is."""
_WEIGHT_OF_ANSWERS: Final = 0.6
_PLANTED_POWER: Final = 1.6
_HIDDEN_POWER: Final = 1.5
"""Who encodes something does not want it to be read."""
_MENTIONED: Final = 0.4
"""What is left of the weight of words that are talked about."""
_WORTH_A_LOOK: Final = 0.3
"""Least weight of words of which it matters whether they are only talked about."""
NEAR: Final = 2000
"""Characters in which things count together."""
_QUOTES: Final = "\"'`"
_TALKS: Final = re.compile(
    r"\b(?:detect|prevent|protect|defend|mitigat|classif|vulnerab|injections?\b|attack|phrase|keyword|regex|filter|"
    r"security|example|explain|what does|meaning|research|article|paper|sentence|string|attempts?)"
)
_ABOUT: Final = re.compile(
    r"(?:\b(?:told|asked|tells|asks|advised|said|says|reported|how|whether|why|best way|better|possible|legal|ethical"
    r"|okay|fine|safe|wrong|going|used|refus\w+"
    r"|(?:do|can|could|should|may|must|would|shall) (?:i|we|he|she|they|one)"
    r"|(?:i|we) (?:just )?(?:need|want|have|had|would like|plan|tried|try|decided))\W+"
    r"(?:(?:me|us|him|her|them|people|users|everyone|somebody|someone)\W+)?(?:to\W+)?)$"
)
"""What stands in front of an order that somebody tells of, or asks about, and does not give."""
_ASKED: Final = re.compile(
    r"(?:\b(?:como|por que|puedo|debo|posso|devo|come|perche|wie|warum|kann|soll|sollte|comment|pourquoi|puis-je"
    r"|dois-je|hoe|waarom|как|почему|можно ли|jak|dlaczego|nasil|neden)\W+(?:\w+\W+){0,3}|如何|怎样|怎么|为什么要?)$"
)
"""The same in other languages."""
_ASKED_BEHIND: Final = re.compile(r"\W{0,2}(?:する|します)?(?:には|方法|하?는 ?방법)|\W{0,2}nasil")
"""And what stands behind it where verbs come last."""
_PLAIN_CODECS: Final = frozenset(("markup", "escapes", "gaps", "together"))
"""What browsers, programs and programmers write as well."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Something in a text that attacks have."""

    kind: str
    start: int
    end: int
    injection: float
    jailbreak: float


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that a text says, as it was looked at."""

    view: View
    folded: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a text without a model."""

    signs: Sequence[Sign]
    said: Sequence[Said]
    """The text itself first."""


def prepare() -> None:
    """Make what `gather` needs, once, instead of when the first text comes."""
    automaton()
    loose_automaton()
    gather("-", Source.USER)


def gather(text: str, source: Source) -> Evidence:
    """Look at a text. Raises nothing; linear in its length."""
    signs: dict[tuple[str, int, int], Sign] = {}
    said = []
    for view in views(text):
        go_on()
        folded = fold(view.text)
        said.append(Said(view=view, folded=folded))
        for sign in _signs(view, folded, source):
            place = (sign.kind, sign.start, sign.end)
            other = signs.get(place)
            if other is None or other.injection + other.jailbreak < sign.injection + sign.jailbreak:
                signs[place] = sign
    if source is Source.USER:
        for sign in _shape(text, said[0].folded):
            signs[sign.kind, sign.start, sign.end] = sign
    return Evidence(signs=sorted(signs.values(), key=lambda sign: (sign.start, sign.end)), said=said)


def _signs(view: View, folded: str, source: Source) -> Iterator[Sign]:
    way: FoldMap | None = None
    hidden = bool(view.how) and not _PLAIN_CODECS.issuperset(view.how)
    for pattern, start, end in (loose_automaton() if view.loose else automaton()).search(folded):
        go_on()
        way = way or FoldMap(view.text)
        injection, jailbreak = _weights(pattern, source)
        if hidden:
            injection, jailbreak = _stronger(injection, _HIDDEN_POWER), _stronger(jailbreak, _HIDDEN_POWER)
        elif max(injection, jailbreak) >= _WORTH_A_LOOK and _is_mentioned(folded, start, end):
            injection, jailbreak = injection * _MENTIONED, jailbreak * _MENTIONED
        yield Sign(pattern.kind, *view.back(*way.back(start, end)), injection, jailbreak)


def _weights(pattern: Pattern, source: Source) -> tuple[float, float]:
    if source in PLANTED:
        planted = pattern.planted
        return _stronger(pattern.injection, _PLANTED_POWER) if planted is None else planted, pattern.jailbreak
    if source is Source.USER:
        return pattern.injection, pattern.jailbreak
    share = _WEIGHT_OF_OWN if source in _OWN else _WEIGHT_OF_ANSWERS
    return pattern.injection * share, pattern.jailbreak * share


def _stronger(weight: float, power: float) -> float:
    return float(1 - (1 - weight) ** power)


def _is_mentioned(folded: str, start: int, end: int) -> bool:
    """Say whether words are told of, or stand in quotes in a text that talks about such words."""
    before = folded[max(0, start - 48) : start]
    if _ABOUT.search(before) or _ASKED.search(before) or _ASKED_BEHIND.match(folded, end):
        return True
    before = before[-24:]
    mark = next((quote for quote in reversed(before) if quote in _QUOTES), None)
    if mark is None or mark not in folded[start + 1 : end + 160]:
        return False
    return (
        _TALKS.search(folded, max(0, start - 400), start) is not None
        or _TALKS.search(folded, end, end + 300) is not None
    )


def _shape(text: str, folded: str) -> Iterator[Sign]:
    if weight := odd_suffix(text):
        yield Sign("odd-suffix", max(0, len(text) - TAIL), len(text), 0.0, weight)
    if weight := many_turns(folded):
        yield Sign("many-turns", 0, len(text), weight / 2, weight)


def weigh(signs: Iterable[Sign], *, jailbreak: bool) -> tuple[float, list[Sign]]:
    """Give the score of the place with most of it, and what is there: of each kind the heaviest, where it begins."""
    blocks: dict[int, list[Sign]] = defaultdict(list)
    for sign in signs:
        blocks[sign.start // NEAR].append(sign)
    best: tuple[float, list[Sign]] = (0.0, [])
    for number in blocks:
        score, there = _together((*blocks[number], *blocks.get(number + 1, ())), jailbreak=jailbreak)
        if score > best[0]:
            best = score, there
    return best


def _together(signs: Iterable[Sign], *, jailbreak: bool) -> tuple[float, list[Sign]]:
    heaviest: dict[str, Sign] = {}
    for sign in signs:
        other = heaviest.get(sign.kind)
        if other is None or _weight(sign, jailbreak=jailbreak) > _weight(other, jailbreak=jailbreak):
            heaviest[sign.kind] = sign
    left = 1.0
    for sign in heaviest.values():
        left *= 1 - _weight(sign, jailbreak=jailbreak)
    there = [sign for sign in heaviest.values() if _weight(sign, jailbreak=jailbreak) > 0]
    return 1 - left, sorted(there, key=lambda sign: sign.start)


def _weight(sign: Sign, *, jailbreak: bool) -> float:
    return sign.jailbreak if jailbreak else sign.injection
