"""Which of the questions nearest to one has an answer for it: rules first, then the score."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from capstan_contract.caches import SemanticTier
from capstan_gateway.caches.semantic.index import Near
from capstan_gateway.caches.semantic.score import load_scale
from capstan_gateway.caches.semantic.verifier import differs_said
from capstan_gateway.caches.semantic.words import Said, read
from capstan_gateway.embed.sentences import MOST_PIECES, Sentence

MOST_CHARACTERS: Final = 600
"""Of a question that is compared. The vectors see the first 126 word pieces, and one that is cut is not compared."""
_KNOWN: Final = 2048


class Judge:
    """What a policy says of pairs. Never changes."""

    def __init__(self, tier: SemanticTier) -> None:
        self._verifies: Final = tier.verify
        self._similarity: Final = tier.similarity
        self._least_score: Final = load_scale().least(tier.errorBudget, verified=tier.verify)

    def serving(
        self,
        text: str,
        sentence: Sentence,
        near: Iterable[Near],
        *,
        least: float,
        sentence_of: Callable[[str], Sentence | None],
    ) -> list[Near]:
        """Give those whose answers serve, the surest first.

        `least` is the least similarity that the client takes.
        """
        found: list[tuple[float, Near]] = []
        for one in near:
            if one.similarity < max(least, self._similarity or 0.0):
                continue
            if self._verifies and differs_said(_read(text), _read(one.asked.text)) is not None:
                continue
            other = sentence if one.asked.text == text else sentence_of(one.asked.text)
            if other is None or max(len(sentence.ids), len(other.ids)) >= MOST_PIECES:
                continue
            score = 1.0 if one.asked.text == text else load_scale().score(sentence, other)
            if self._similarity is not None or score >= self._least_score:
                found.append((score, one))
        return [one for _, one in sorted(found, key=lambda pair: -pair[0])]


def differ(one: str, other: str) -> bool:
    """Whether two questions surely have two answers, by the rules."""
    return one != other and differs_said(_read(one), _read(other)) is not None


@lru_cache(maxsize=_KNOWN)
def _read(text: str) -> Said:
    return read(text)
