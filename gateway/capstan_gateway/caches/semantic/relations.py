"""How two English words are related, by WordNet 3.1: the same, the opposite, two of one kind.

The table holds the 14,000 commonest words that WordNet has, with their commonest senses; `scripts/cache_words.py` made it, and WORDNET_LICENSE is beside it.
"""

import gzip
import json
from enum import IntEnum
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

_FILE: Final = Path(__file__).with_name("relations.json.gz")
_ENDINGS: Final = (
    ("ies", "y"), ("ves", "f"), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
    ("s", ""), ("es", ""), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"), ("er", ""), ("er", "e"), ("est", ""),
    ("est", "e"), ("ly", ""), ("ily", "y"),
)  # fmt: skip
_SHORT: Final = ("go", "do", "be")
_IRREGULAR: Final = dict(
    pair.split(":")
    for pair in [
        "bought:buy",
        "sold:sell",
        "went:go",
        "gone:go",
        "made:make",
        "said:say",
        "told:tell",
        "got:get",
        "gotten:get",
        "gave:give",
        "given:give",
        "took:take",
        "taken:take",
        "came:come",
        "knew:know",
        "known:know",
        "thought:think",
        "found:find",
        "became:become",
        "began:begin",
        "begun:begin",
        "wrote:write",
        "written:write",
        "ran:run",
        "won:win",
        "lost:lose",
        "left:leave",
        "kept:keep",
        "held:hold",
        "built:build",
        "sent:send",
        "spent:spend",
        "met:meet",
        "paid:pay",
        "led:lead",
        "grew:grow",
        "grown:grow",
        "drew:draw",
        "drawn:draw",
        "drove:drive",
        "driven:drive",
        "spoke:speak",
        "spoken:speak",
        "broke:break",
        "broken:break",
        "chose:choose",
        "chosen:choose",
        "fell:fall",
        "fallen:fall",
        "flew:fly",
        "flown:fly",
        "taught:teach",
        "caught:catch",
        "brought:bring",
        "fought:fight",
        "sang:sing",
        "sung:sing",
        "saw:see",
        "seen:see",
        "ate:eat",
        "eaten:eat",
        "wore:wear",
        "worn:wear",
        "rose:rise",
        "risen:rise",
        "threw:throw",
        "thrown:throw",
        "felt:feel",
        "meant:mean",
        "slept:sleep",
        "heard:hear",
        "died:die",
        "dying:die",
        "lying:lie",
        "men:man",
        "women:woman",
        "children:child",
        "people:person",
        "feet:foot",
        "teeth:tooth",
        "mice:mouse",
        "better:good",
        "best:good",
        "worse:bad",
        "worst:bad",
        "further:far",
        "farther:far",
    ]
)


class Relation(IntEnum):
    """How near two words are; the greatest that holds."""

    NONE = 0
    """Nothing is known of them."""
    SIBLING = 1
    """Two of one kind: oak and elm."""
    KIND = 2
    """One is a kind of the other: tree and oak."""
    NEAR = 3
    """Of one family, or similar: decide and decision."""
    SAME = 4
    """There is a sense in which they mean the same."""
    AGAINST = 5
    """They say the opposite."""


class Relations:
    """The table. Read once, never changes."""

    def __init__(self, table: dict[str, dict[str, list[int]]], against: list[list[str]]) -> None:
        self._words = table["words"]
        self._up = {int(sense): frozenset(above) for sense, above in table["up"].items()}
        self._beside = {int(sense): frozenset(near) for sense, near in table["beside"].items()}
        self._against = frozenset(frozenset(pair) for pair in against)

    def knows(self, word: str) -> bool:
        """Whether the table has it."""
        return any(form in self._words for form in forms(word))

    def between(self, one: str, other: str) -> Relation:
        """Give how two words, as they are written in lower case, are related."""
        mine, theirs = forms(one), forms(other)
        if any(frozenset((my, their)) in self._against for my in mine for their in theirs):
            return Relation.AGAINST
        if not mine.isdisjoint(theirs):
            return Relation.SAME
        left, right = self._senses(mine), self._senses(theirs)
        if not left or not right:
            return Relation.NONE
        if not left.isdisjoint(right):
            return Relation.SAME
        if not self._around(self._beside, left).isdisjoint(right) or not self._around(self._beside, right).isdisjoint(
            left
        ):
            return Relation.NEAR
        above, over = self._around(self._up, left), self._around(self._up, right)
        if not above.isdisjoint(right) or not over.isdisjoint(left):
            return Relation.KIND
        return Relation.NONE if above.isdisjoint(over) else Relation.SIBLING

    def _senses(self, forms: frozenset[str]) -> frozenset[int]:
        return frozenset(sense for form in forms for sense in self._words.get(form, ()))

    def _around(self, table: dict[int, frozenset[int]], senses: frozenset[int]) -> frozenset[int]:
        return frozenset(other for sense in senses for other in table.get(sense, ()))


@lru_cache(maxsize=8192)
def forms(word: str) -> frozenset[str]:
    """Give what a word may be an inflected form of, and itself."""
    word = word.removesuffix("'s")
    found = {word, _IRREGULAR.get(word, word)}
    for ending, rest in _ENDINGS:
        base = word[: -len(ending)] + rest
        if word.endswith(ending) and (len(base) >= 3 or base in _SHORT):
            found.add(base)
            if ending in ("ing", "ed", "er", "est") and not rest and base[-1] == base[-2]:
                found.add(base[:-1])
    return frozenset(found)


@cache
def load_relations() -> Relations:
    """Read the table: 1.2 MB of JSON, some 20 MB in memory, 50 ms."""
    table = json.loads(gzip.decompress(_FILE.read_bytes()))
    return Relations(table, table["against"])
