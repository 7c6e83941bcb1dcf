"""Which pairs of questions surely have two answers, however alike they are: a veto, with its reason.

    numbers, units, times     another amount, another day                  3 + 5 against 3 + 6
    negation, poles           the opposite                                 how to enable against how to disable
    names, exact              another person, place, product, path, code   in Java against in C++, Alien against Aliens
    case                      a name for a word, another unit              Apple against an apple, 5 Mb against 5 MB
    order, place              the same words, in other places              from Rome to Oslo against from Oslo to Rome
    asks, tense, whose        another kind of answer, another time, owner  who wrote it against when was it written
    side                      who did it, to whom it was done              who taught him against who did he teach
    extremes                  which of many, how many, or their mean       the tallest against the richest
    joint                     all of them or one of them                   A and B against A or B
    word, small               a word for another that is no synonym        the capital of France against of Spain
    more                      a word that the other has nothing for        the tallest man against the tallest old man
    length                    one says much more than the other

No rule says that two questions are the same: that is the score's, behind these. What they refuse wrongly is asked.
"""

from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

from capstan_gateway.caches.semantic.lists import (
    ALIKE,
    AMOUNTS,
    ARTICLES,
    AWAY,
    EXTREMES,
    LEADING,
    MODALS,
    OF,
    POLES,
    STOP,
    WEAK,
)
from capstan_gateway.caches.semantic.relations import Relation, forms, load_relations
from capstan_gateway.caches.semantic.words import Said, read, stem

LEAST_LENGTH: Final = 0.5
"""How many words that say something the shorter one has, at least, for each of the longer one."""
MOST_CHANGED: Final = 24
"""Words that only one of the two says, from which on nobody can tell; the rules behind compare each with each."""
_TURNED: Final = (
    "un", "in", "im", "il", "ir", "dis", "non", "de", "mis", "anti", "re", "pre", "post", "over", "under", "sub",
    "super", "inter", "intra", "hyper", "hypo", "bi", "multi", "mono", "semi", "ex",
)  # fmt: skip
_ENDED: Final = (("ful", "less"), ("er", "ee"), ("or", "ee"), ("able", "ed"))
_FEW: Final = 3
"""Words that say something, up to which a question has none to spare."""


def differs(one: str, other: str) -> str | None:
    """Give a word for what makes them two questions; None where nothing surely does."""
    if one == other:
        return None
    return differs_said(read(one), read(other))


def differs_said(one: Said, other: Said) -> str | None:
    """Do the same with questions that were taken apart."""
    return next((name for name, rule in _RULES if rule(one, other)), None)


def _other_asks(one: Said, other: Said) -> bool:
    """Whether another kind of answer is wanted: a place and a time, a list and how many there are."""
    if one.asks and other.asks:
        return one.asks != other.asks
    counts = [said.asks in ("how many", "how much") for said in (one, other)]
    return counts[0] != counts[1] and not all(not AMOUNTS.isdisjoint(said.words) for said in (one, other))


def _other_side(one: Said, other: Said) -> bool:
    """Whether one asks who did it, and the other to whom it was done: who taught, who did somebody teach."""
    sides = {side for side in (_side(one), _side(other)) if side}
    return len(sides) > 1


def _side(said: Said) -> str:
    if len(said.words) < _FEW or said.words[0] not in ("who", "whom", "what"):
        return ""
    behind = said.words[1]
    return "object" if behind in ("do", "does", "did") else "" if behind in STOP else "subject"


def _other_units(one: Said, other: Said) -> bool:
    """Whether each has a unit that the other has not, or one has a unit of its numbers that the other has not."""
    mine, theirs = one.units - other.units, other.units - one.units
    return bool(mine and theirs) or bool((mine or theirs) and one.numbers)


def _other_names(one: Said, other: Said) -> bool:
    """Whether one names something that the other does not say at all."""
    return not one.names <= other.names | {stem(word) for word in other.words}


def _other_forms(one: Said, other: Said) -> bool:
    """Whether a name of both is written in another form: Alien, Aliens."""
    mine, theirs = _forms(one), _forms(other)
    return any(
        mine[name].isdisjoint(theirs[name]) for name in one.names | other.names if name in mine and name in theirs
    )


def _forms(said: Said) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for word in said.words:
        found.setdefault(stem(word), set()).add(word.removesuffix("'s"))
    return found


def _other_tense(one: Said, other: Said) -> bool:
    """Whether one is about what was and the other about what will be, or about what is and they say the same else."""
    tenses = {one.tense, other.tense}
    if tenses == {"present", "past"}:
        return Counter(one.content) == Counter(other.content)
    return tenses == {"future", "past"}


def _other_case(one: Said, other: Said) -> bool:
    """Whether one has a name for what the other has a common word for, or a unit in letters of the other size."""
    if (one.names - other.names) & other.common or (other.names - one.names) & one.common:
        return True
    if not (one.capitals - other.capitals).isdisjoint(other.words):
        return True
    if not (other.capitals - one.capitals).isdisjoint(one.words):
        return True
    return any(mine != theirs and mine.lower() == theirs.lower() for mine in one.short for theirs in other.short)


def _opposite(one: Said, other: Said) -> bool:
    """Whether one says a word, and the other its opposite in its place."""
    mine, theirs = set(one.words) - set(other.words), set(other.words) - set(one.words)
    relations = load_relations()
    for word in mine:
        plain = forms(word)
        for against in theirs:
            others = forms(against)
            if any(not POLES[form].isdisjoint(others) for form in plain if form in POLES):
                return True
            if relations.between(word, against) is Relation.AGAINST or _turned(plain, others):
                return True
    return False


def _turned(mine: Iterable[str], theirs: Iterable[str]) -> bool:
    """Whether one is the other with a syllable in front or at its end that turns it round."""
    pairs = [(my, their) for my in mine for their in theirs if len(my) > _FEW and len(their) > _FEW]
    for my, their in pairs:
        if any(my == turn + their or their == turn + my for turn in _TURNED):
            return True
        for end, against in _ENDED:
            if {my, their} == {my.removesuffix(end) + end, my.removesuffix(end) + against}:
                return True
    return False


def _other_order(one: Said, other: Said) -> bool:
    """Whether names that both say come in another order, or all words do: but for a part that went to the front."""
    shared = one.names & other.names
    if len(shared) > 1 and _first(one, shared) != _first(other, shared):
        return True
    if one.content == other.content or Counter(one.content) != Counter(other.content):
        return False
    return _compounds(one) != _compounds(other) and not is_turned_round(one.content, other.content)


def _compounds(said: Said) -> list[str]:
    """Give the words that say something with `symptoms of the flu` written as `flu symptoms`."""
    found: list[str] = []
    of = False
    for word in said.words:
        if word in STOP or word.isdigit():
            of = word in OF or (of and word in ARTICLES)
        else:
            found.insert(len(found) - 1 if of and found else len(found), stem(word))
            of = False
    return found


def is_turned_round(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one is the other with its end put to the front, word by word; of two words that is another question."""
    if len(one) != len(other) or len(one) < _FEW:
        return False
    return any(one[at:] + one[:at] == other for at in range(1, len(one)))


def _other_place(one: Said, other: Said) -> bool:
    """Whether a word that both say stands behind another preposition: from Rome, to Rome."""
    mine, theirs = _behind(one), _behind(other)
    if _swapped(one, other):
        return True
    return any(
        frozenset((my, their)) in AWAY
        for word in mine.keys() & theirs.keys()
        if mine[word].isdisjoint(theirs[word])
        for my in mine[word]
        for their in theirs[word]
    )


def _behind(said: Said) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for preposition, word in said.placed:
        found.setdefault(word, set()).add(preposition)
    return found


def _swapped(one: Said, other: Said) -> bool:
    """Whether a preposition stands before another one of the words that both say."""
    both = set(one.content) & set(other.content)
    for preposition in {preposition for preposition, _ in one.placed} & {
        preposition for preposition, _ in other.placed
    }:
        mine = {word for said, word in one.placed if said == preposition}
        theirs = {word for said, word in other.placed if said == preposition}
        if preposition in LEADING and mine.isdisjoint(theirs) and mine | theirs <= both:
            return True
    return False


def _other_joint(one: Said, other: Said) -> bool:
    """Whether one says `or`, or `only`, and the other does not."""
    return any((word in one.words) != (word in other.words) for word in ("or", "only"))


def _extremes(said: Said) -> set[str]:
    """Give which of many is asked for, and whether it is how many there are."""
    found = {EXTREMES[word] for word in said.words if word in EXTREMES}
    found |= {word for word in said.words if word.endswith("est") and _is_extreme(word)}
    return found | ({"count"} if said.asks in ("how many", "how much") else set())


def _is_extreme(word: str) -> bool:
    known = word not in EXTREMES and word not in WEAK and len(word) > _FEW + 1
    return known and any(load_relations().knows(base) for base in (word[:-3], word[:-2], word[:-4], f"{word[:-4]}y"))


def _other_word(one: Said, other: Said) -> bool:
    """Whether a word stands where the other has another one that is no synonym, and the rest is as it was."""
    mine, theirs = _telling(one), _telling(other)
    relations = load_relations()
    stems = [stem(word) for word in mine], [stem(word) for word in theirs]
    for tag, begin, end, start, stop in SequenceMatcher(None, *stems, autojunk=False).get_opcodes():
        alone = tag == "replace" and end - begin == stop - start == 1
        if alone and relations.between(mine[begin], theirs[start]) not in (Relation.SAME, Relation.NEAR):
            return True
    return False


def _other_small_word(one: Said, other: Said) -> bool:
    """Whether all is as it was but for one word, and that is no other form of what it was."""
    if len(one.words) != len(other.words):
        return False
    changed = [pair for pair in zip(one.words, other.words, strict=True) if pair[0] != pair[1]]
    if len(changed) != 1:
        return False
    mine, theirs = changed[0]
    if any({mine, theirs} <= group for group in ALIKE) or (one.asks == "how" and {mine, theirs} <= MODALS):
        return False
    return load_relations().between(mine, theirs) not in (Relation.SAME, Relation.NEAR)


def _one_more(one: Said, other: Said) -> bool:
    """Whether all that one says is in the other, which says something more that is not small."""
    mine, theirs = Counter(one.content), Counter(other.content)
    more = (mine - theirs) + (theirs - mine)
    if len(more) > MOST_CHANGED:
        return True
    if (mine - theirs) and (theirs - mine):
        return False
    said = {stem(word): word for word in (*one.words, *other.words)}
    kinds = {
        after
        for asked in (one, other)
        for word, after in zip(asked.words, asked.words[1:], strict=False)
        if word in ("which", "what")
    }
    return any(said.get(word, word) not in WEAK and said.get(word, word) not in kinds for word in more)


def _telling(said: Said) -> list[str]:
    return [word for word in said.words if word not in STOP]


def _first(said: Said, names: frozenset[str]) -> list[str]:
    return [word for word in dict.fromkeys(map(stem, said.words)) if word in names]


def _lengths(one: Said, other: Said) -> float:
    few, many = sorted((len(one.content), len(other.content)))
    return few / many if many else 1.0


_RULES: Final = (
    ("numbers", lambda one, other: one.numbers != other.numbers),
    ("units", _other_units),
    ("times", lambda one, other: one.times != other.times),
    ("negation", lambda one, other: one.negations != other.negations),
    ("exact", lambda one, other: one.exact != other.exact),
    ("names", lambda one, other: _other_names(one, other) or _other_names(other, one) or _other_forms(one, other)),
    ("case", _other_case),
    ("asks", _other_asks),
    ("side", _other_side),
    ("joint", _other_joint),
    ("extremes", lambda one, other: _extremes(one) != _extremes(other)),
    ("tense", _other_tense),
    ("whose", lambda one, other: {one.whose, other.whose} == {"mine", "yours"}),
    ("length", lambda one, other: _lengths(one, other) < LEAST_LENGTH),
    ("place", _other_place),
    ("order", _other_order),
    ("more", _one_more),
    ("poles", _opposite),
    ("word", _other_word),
    ("small", _other_small_word),
)
