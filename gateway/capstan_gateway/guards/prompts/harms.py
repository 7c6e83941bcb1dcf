"""What a moderating model says of one text, and what a policy makes of that."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from capstan_contract.guards import ModerationCategory

UNNAMED: Final = "harm"
"""The kind of what a model flags without saying for what."""
OTHER: Final = "other"
"""The kind of a category that has no name that could be told."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_/.-]{0,63}")
_BETWEEN: Final = re.compile(r"[\s&,()]+")


@dataclass(frozen=True, slots=True)
class Harms:
    """What a model says of one text: nothing in it means that the text is harmless."""

    flagged: frozenset[str] = frozenset()
    """Categories that the model itself takes for there."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """From 0 to 1, of the categories that it has told them of."""

    def __or__(self, other: "Harms") -> "Harms":
        """Give what two answers about one text say together."""
        scores = dict(self.scores)
        for name, score in other.scores.items():
            scores[name] = max(score, scores.get(name, 0.0))
        return Harms(self.flagged | other.flagged, scores)


HARMLESS: Final = Harms()


def union(harms: Iterable[Harms]) -> Harms:
    """Give what several answers about one text say together."""
    found = HARMLESS
    for one in harms:
        found |= one
    return found


def slug(name: str) -> str:
    """Give a category's name as it is told: `Violent Crimes` is violent-crimes. `OTHER` where that is no name."""
    told = _BETWEEN.sub("-", name.strip().lower()).strip("-")
    return told if _NAME.fullmatch(told) else OTHER


def is_score(value: object) -> bool:
    """Whether this is a number from 0 to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def judged(harms: Harms, wanted: Sequence[ModerationCategory], names: Mapping[str, str]) -> list[tuple[str, float]]:
    """Give the categories that a policy takes for found, with their scores, by name.

    `names` are those that the format has beside its own: codes, such as S1. A category with a threshold is found by its
    score; without one, or of which no score was told, as the model flags it. What is flagged for no known reason is
    found whatever is wanted.
    """
    if not wanted:
        return sorted((name, harms.scores.get(name, 1.0)) for name in harms.flagged)
    found = {name: harms.scores.get(name, 1.0) for name in harms.flagged & {UNNAMED, OTHER}}
    for category in wanted:
        name = names.get(category.name.strip().lower(), slug(category.name))
        score = harms.scores.get(name)
        if category.threshold is None or score is None:
            if name in harms.flagged:
                found[name] = 1.0 if score is None else score
        elif score >= category.threshold:
            found[name] = score
    return sorted(found.items())
