"""Guards of type Keywords: a policy's words and phrases, all of them at the price of one pass over the text.

Case, width, composition and alphabets don't matter unless the policy says that case does; a blank in a phrase stands
for any white space (`folding.py`). A finding is called `keyword` and never by the word, which is what was in the text.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from capstan_contract.guards import KeywordsGuard, Source
from capstan_gateway.guards.plain.folding import Folded
from capstan_gateway.guards.plain.words import Words, foreign_words, plain_words
from capstan_gateway.guards.port import NOTHING, Cost, Finding, Scan

KIND: Final = "keyword"
MOST_FINDINGS: Final = 10_000
"""From so many on, the rest of the text is one."""


@dataclass(frozen=True, slots=True)
class KeywordsDetector:
    """Finds words."""

    words: Words
    keep_case: bool

    @property
    def cost(self) -> Cost:
        """Some 50 us for 8 KB."""
        return Cost.CHEAP

    @property
    def reach(self) -> int:
        """That of its words."""
        return self.words.reach

    def scan(self, text: str, source: Source) -> Scan:  # noqa: ARG002 - the same for all
        """Give where words stand; of words within others the outer ones."""
        folded = Folded(text, keep_case=self.keep_case)
        found = outermost(((start, end) for start, end, _ in self.words.places(folded)), len(text))
        return Scan(tuple(Finding(KIND, start, end) for start, end in found)) if found else NOTHING

    def safe_end(self, text: str) -> int:
        """Give up to where a text of which more is to come is decided."""
        return self.words.safe_end(text, keep_case=self.keep_case)


def outermost(spans: Iterable[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Give spans that come by their ends without those that are within others, by where they begin."""
    found: list[tuple[int, int]] = []
    for start, end in spans:
        while found and start <= found[-1][0]:
            found.pop()
        if not found or end > found[-1][1]:
            found.append((start, end))
        if len(found) > MOST_FINDINGS:
            found[-1] = found[-1][0], length
            break
    return found


def build_keywords_detector(guard: KeywordsGuard) -> KeywordsDetector:
    """Make what a guard asks for. Raises ValueError, naming the word that cannot be looked for."""
    words = plain_words(guard.keywords, what="keywords", keep_case=guard.caseSensitive)
    foreign = foreign_words(guard.keywords, keep_case=guard.caseSensitive)
    return KeywordsDetector(Words(words, whole=guard.wholeWords, foreign=foreign), guard.caseSensitive)
