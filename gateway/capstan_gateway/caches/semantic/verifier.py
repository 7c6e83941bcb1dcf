"""Which pairs of questions surely have two answers, however alike they are: a veto, with its reason.

    numbers, units, times     another amount, another day                  3 + 5 against 3 + 6
    negation, poles           the opposite                                 how to enable against how to disable
    names, exact              another person, place, product, path, code   in Java against in C++
    order                     the same words, in other places              from Rome to Oslo against from Oslo to Rome
    asks                      another kind of answer                       who wrote it against when was it written
    length                    one says much more than the other

No rule says that two questions are the same: that is the threshold's, behind these. What they refuse wrongly is asked.
"""

from collections import Counter
from typing import Final

from capstan_gateway.caches.semantic.words import POLES, Said, read

LEAST_LENGTH: Final = 0.5
"""How many words that say something the shorter one has, at least, for each of the longer one."""


def differs(one: str, other: str) -> str | None:
    """Give a word for what makes them two questions; None where nothing surely does."""
    if one == other:
        return None
    return differs_said(read(one), read(other))


def differs_said(one: Said, other: Said) -> str | None:
    """Do the same with questions that were taken apart."""
    if one.numbers != other.numbers:
        return "numbers"
    if one.units != other.units:
        return "units"
    if one.times != other.times:
        return "times"
    if one.negations != other.negations:
        return "negation"
    if one.exact != other.exact:
        return "exact"
    if _other_names(one, other) or _other_names(other, one):
        return "names"
    if _opposite(one, other) or _opposite(other, one):
        return "poles"
    if one.asks and other.asks and one.asks != other.asks:
        return "asks"
    if _other_order(one, other):
        return "order"
    if _lengths(one, other) < LEAST_LENGTH:
        return "length"
    return None


def _other_names(one: Said, other: Said) -> bool:
    """Whether one names something that the other does not say at all."""
    return not one.names <= other.names | set(other.words)


def _opposite(one: Said, other: Said) -> bool:
    """Whether one says a word, and the other its opposite in its place."""
    mine, theirs = set(one.words), set(other.words)
    return any(not POLES[word].isdisjoint(theirs - mine) for word in mine - theirs if word in POLES)


def _other_order(one: Said, other: Said) -> bool:
    """Whether names that both say come in another order, or all words do."""
    shared = one.names & other.names
    if len(shared) > 1 and _first(one, shared) != _first(other, shared):
        return True
    return one.content != other.content and Counter(one.content) == Counter(other.content)


def _first(said: Said, names: frozenset[str]) -> list[str]:
    return [word for word in dict.fromkeys(word.removesuffix("'s") for word in said.words) if word in names]


def _lengths(one: Said, other: Said) -> float:
    few, many = sorted((len(one.content), len(other.content)))
    return few / many if many else 1.0
