"""A question as the words that it is made of, and what those say. Pure."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from capstan_gateway.caches.semantic.lists import (
    ARTICLES,
    ASKING,
    HOW,
    NEGATIONS,
    NUMBER_WORDS,
    PHRASES,
    PREPOSITIONS,
    SIGNS,
    STOP,
    TIME_NAMES,
    TIMES,
    UNITS,
    WHETHER,
)

_CODE: Final = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_ADDRESS: Final = re.compile(r"(?:https?://|www\.)\S+|[^\s@]+@[^\s@]+\.[^\s@]+|(?:[\w.-]*/){2,}[\w.-]*|[A-Za-z]:\\\S+")
_NUMBER: Final = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:[,\u00a0\u202f']\d{3})+|\d+)(?:\.\d+)?")
_WORD: Final = re.compile(r"[A-Za-z]\+\+|[A-Za-z]#|\.[A-Z]{2,}|\w+(?:['’\-.]\w+)*", re.UNICODE)
_SENTENCE: Final = re.compile(r"[.!?:;\n]\s*[\"“(']?$")
_FLAG: Final = re.compile(r"(?<!\S)(?:-[A-Za-z]{1,2}|--[A-Za-z][\w-]*)(?![\w-])")
_FORMULA: Final = re.compile(r"(?<=[\w)\s])(?:[-+*/^=<>≤≥≠×÷]|<=|>=|==|!=)(?=[\s\w(])")
_PHRASE: Final = re.compile(rf"\b(?:{'|'.join(sorted(PHRASES, key=len, reverse=True))})\b", re.IGNORECASE)
_SHORT: Final = re.compile(r"\d\s?([A-Za-z]{1,2})\b")
_COMMON: Final = re.compile(r"\b[Aa]n?\s+([a-z]\w+)")
_CAPITALS: Final = frozenset(("US", "IT", "WHO"))
_NEAR: Final = 8
"""Characters before a word that say whether it begins a sentence."""
_FUTURE: Final = frozenset(("will", "won't", "gonna", "'ll"))
_PAST: Final = frozenset(("was", "were", "did", "had", "been"))
_PRESENT: Final = frozenset(("is", "are", "am"))
_MINE: Final = frozenset(("my", "mine", "our", "ours", "myself"))
_YOURS: Final = frozenset(("your", "yours", "yourself"))
_TITLE: Final = 0.6
"""Share of words with a capital letter from which on that makes none a name."""


class Said(NamedTuple):
    """What was found in a question."""

    words: tuple[str, ...]
    """All words in lower case, in their order, but for code and addresses."""
    content: tuple[str, ...]
    """Those of them that say what is asked, without their endings."""
    numbers: tuple[str, ...]
    """In their order, however they are written."""
    units: frozenset[str]
    times: frozenset[str]
    negations: int
    names: frozenset[str]
    """Words that are written as names and identifiers are, without their endings."""
    common: frozenset[str]
    """Words in small letters behind `a` and `an`, without their endings: no names."""
    capitals: frozenset[str]
    """Small words that are another one in capitals: the US, WHO."""
    short: frozenset[str]
    """One or two letters behind a number, as they are: m and M are two units."""
    exact: tuple[str, ...]
    """Code, addresses, flags of commands and the signs of formulas, as they are."""
    asks: str
    """What kind of answer is wanted: who, when, how many; empty where that is not said."""
    placed: frozenset[tuple[str, str]]
    """Prepositions, each with the word that it stands before."""
    tense: str
    """`future`, `past`, `present` or none of them."""
    whose: str
    """`mine`, `yours` or neither."""


def read(text: str) -> Said:
    """Take a question apart."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    exact = [one.strip("`\n ") for one in _CODE.findall(text)]
    text = _CODE.sub(" ", text)
    exact += [one.rstrip(".,;:!?)") for one in _ADDRESS.findall(text)]
    text = _PHRASE.sub(lambda found: PHRASES[found.group().casefold()], _ADDRESS.sub(" ", text))
    found = [(match.group(), match.start()) for match in _WORD.finditer(text)]
    lower = [_plain(word.casefold()) for word, _ in found]
    exact += _FLAG.findall(text)
    exact += [sign for sign in _FORMULA.findall(text) if sign != "-" and sign != "/"]
    return Said(
        words=tuple(lower),
        content=tuple(stem(word) for word in lower if word not in STOP and not word.isdigit()),
        numbers=_numbers(text, lower),
        units=frozenset(UNITS[word] for word in lower if word in UNITS)
        | {unit for sign, unit in SIGNS.items() if sign in text},
        times=frozenset(word for word in lower if word in TIMES)
        | {word.casefold() for word, at in found if word in TIME_NAMES and at},
        negations=sum(word.replace("'", "") in NEGATIONS or word.endswith("n't") for word in lower),
        names=frozenset(stem(name) for name in _names(text, found)),
        common=frozenset(map(stem, _COMMON.findall(text))),
        capitals=frozenset(_capitals([word for word, _ in found])),
        short=frozenset(_SHORT.findall(text)),
        exact=tuple(exact),
        asks=_asks(lower),
        placed=frozenset(_placed(lower)),
        tense=_tense(set(lower)),
        whose=_whose(set(lower)),
    )


def _plain(word: str) -> str:
    """Give what is short for two words without the second one where that says nothing: what's."""
    base = word.removesuffix("'s")
    return base if base in STOP else word


def stem(word: str) -> str:
    """Give a word without the ending that says number, time or case; a rough one, the same for both sides."""
    word = word.casefold().removesuffix("'s").replace("'", "")
    for ending, rest in (("ies", "y"), ("sses", "ss"), ("ing", ""), ("edly", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)] + rest
            break
    # NB: 1.11 is not 1.1.
    if len(word) > 3 and word[-1] == word[-2] and word[-1].isalpha() and word[-1] not in "aeiouls":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def _numbers(text: str, words: Iterable[str]) -> tuple[str, ...]:
    placed: list[tuple[int, str]] = []
    for match in _NUMBER.finditer(text):
        try:
            number = Decimal(re.sub(r"[,\u00a0\u202f'+]", "", match.group().replace("−", "-")))
        except InvalidOperation:
            continue
        placed.append((match.start(), format(number.normalize(), "f")))
    at = 0
    lowered = text.casefold()
    for word in words:
        at = max(lowered.find(word, at), at)
        for part in word.split("-"):
            if part in NUMBER_WORDS:
                placed.append((at, str(NUMBER_WORDS[part])))
    return tuple(number for _, number in sorted(placed, key=lambda one: one[0]))


def _names(text: str, found: Sequence[tuple[str, int]]) -> Iterable[str]:
    capital = sum(word[:1].isupper() for word, _ in found)
    # NB: where small words have capitals too, nobody can tell a name by its own.
    title = capital > _TITLE * len(found) and any(word.istitle() and word.casefold() in STOP for word, _ in found[1:])
    for word, at in found:
        inner = word[1:]
        plain = word.casefold()
        if (
            (any(char.isdigit() for char in word) and (word.count(".") > 1 or any(char.isalpha() for char in word)))
            or "_" in word
            or (len(word) > 1 and word[1] in "+#")
        ):
            yield plain
        elif title or "'" in word.removesuffix("'s") or (plain in STOP and word not in TIME_NAMES) or len(word) < 2:
            continue
        elif inner != inner.lower() or (word[:1].isupper() and not _begins(text, at)):
            yield plain


def _capitals(words: Sequence[str]) -> Iterable[str]:
    for before, word in zip(("", *words), words, strict=False):
        if word in _CAPITALS or (word == "us" and before.casefold() == "the"):
            yield word.casefold()


def _begins(text: str, at: int) -> bool:
    return not text[:at].strip("\"“(' ") or _SENTENCE.search(text[max(at - _NEAR, 0) : at]) is not None


def _asks(words: Sequence[str]) -> str:
    for number, word in enumerate(words[:10]):
        if word == "how" and number + 1 < len(words):
            if words[number + 1] in HOW:
                return f"how {words[number + 1]}"
            return "why" if words[number + 1] == "come" else "how"
        if word in ASKING:
            return ASKING[word]
        if word in ("what", "which"):
            return ""
    return "whether" if any(word in WHETHER for word in words[:1]) else ""


def _placed(words: Sequence[str]) -> Iterable[tuple[str, str]]:
    for number, word in enumerate(words):
        if word in PREPOSITIONS:
            behind = [next_ for next_ in words[number + 1 : number + 4] if next_ not in ARTICLES]
            for next_ in behind[:1]:
                yield word, stem(next_)


def _tense(words: set[str]) -> str:
    tenses = (("future", _FUTURE), ("past", _PAST), ("present", _PRESENT))
    return next((tense for tense, said in tenses if not said.isdisjoint(words)), "")


def _whose(words: set[str]) -> str:
    mine, yours = not _MINE.isdisjoint(words), not _YOURS.isdisjoint(words)
    return "" if mine == yours else "mine" if mine else "yours"
