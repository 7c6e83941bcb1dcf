"""The words that say what a value is, in the languages that most texts are in, and where they are in a text.

Of Latin script a word counts where it stands alone, or in a name of a program (`userPassword`, `date_of_birth`);
of others it may have an ending, and those written without blanks count anywhere.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from importlib.resources import files
from typing import Final

from ahocorasick_rs import AhoCorasick

from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.view import HIDDEN, LATIN, LETTER, View, fold_sigma


class Word(StrEnum):
    """What a word is about."""

    PHONE = "phone"
    REACH = "reach"
    """Of phones, and of much else."""
    CARD = "card"
    PAYMENT = "payment"
    """Of cards, and of much else."""
    SSN = "ssn"
    NATIONAL_ID = "national id"
    TAX_ID = "tax id"
    PASSPORT = "passport"
    LICENSE = "license"
    BIRTH = "birth"
    BANK = "bank"
    IBAN = "iban"
    BIC = "bic"
    MEDICAL = "medical"
    PASSWORD = "password"  # noqa: S105
    TOKEN = "token"  # noqa: S105
    WALLET = "wallet"
    ADDRESS = "address"
    """Of machines."""
    VERSION = "version"
    THING = "thing"
    """What else has numbers: orders, parcels, books."""


_HIDDEN: Final = re.compile(f"{re.escape(HIDDEN)}+")
_CAPITAL: Final = frozenset(
    ("ein", "dic", "cif", "pan", "hp", "hn", "mst", "aba", "run", "sin", "inn", "nit", "nie", "rut", "spi")
)
"""Short ones that are words of their own in some language: they count in capitals alone."""
ALONE_FROM: Final = "\u0e00"
"""From here on scripts are written without blanks between words, or hang endings on: Thai, Hangul, Kana, Han."""


def listed_words() -> Iterator[tuple[Word, str]]:
    """Give the words of words.txt, as they are compared, each with what it is about."""
    group = Word.THING
    for line in files(__package__).joinpath("words.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            group = Word(line.strip("[]"))
        elif line and not line.startswith("#"):
            for word in line.split("|"):
                yield group, fold_sigma(" ".join(word.lower().split()))


class Words:
    """Finds all of them in one pass."""

    def __init__(self) -> None:
        spelled: dict[str, list[Word]] = {}
        for group, word in listed_words():
            groups = spelled.setdefault(word, [])
            if group not in groups:
                groups.append(group)
        for word in [word for word in spelled if " " in word]:
            for joint in ("_", "-", ""):
                spelled.setdefault(word.replace(" ", joint), spelled[word])
        self._groups = list(spelled.values())
        self._plain = [_is_plain(word) for word in spelled]
        """Whether a word stands where no letter touches it, and nothing else matters."""
        self._automaton = AhoCorasick(list(spelled))

    def hits(self, view: View) -> "Hits":
        """Give where which are."""
        spans: dict[Word, list[tuple[int, int]]] = {}
        text, plain = view.text, self._plain
        # NB: the last byte is what is in front of the first one, too: at place -1.
        kinds = view.folded.translate(_LETTERS) + b"\0"
        for number, (which, start, end) in enumerate(self._matches(view.lowered)):
            if not number & 63:
                go_on()
            if plain[which]:
                if (kinds[start - 1] and not _humps(text, start)) or (kinds[end] and not _humps(text, end)):
                    continue
            elif not _stands(view, start, end):
                continue
            for group in self._groups[which]:
                spans.setdefault(group, []).append((start, end))
        return Hits(spans, view.folded)

    def _matches(self, lowered: str) -> Iterable[tuple[int, int, int]]:
        """Give which words are where; what is hidden in front of an escaped letter is between no two."""
        if HIDDEN not in lowered:
            return self._automaton.find_matches_as_indexes(lowered, overlapping=True)
        cuts, gone, before = [0], [0], 0
        for run in _HIDDEN.finditer(lowered):
            cuts.append(run.start() - before)
            before += run.end() - run.start()
            gone.append(before)
        matches = self._automaton.find_matches_as_indexes(lowered.replace(HIDDEN, ""), overlapping=True)
        return (
            (which, start + gone[bisect_right(cuts, start) - 1], end + gone[bisect_right(cuts, end - 1) - 1])
            for which, start, end in matches
        )


class Hits:
    """Where in a text which words are."""

    def __init__(self, spans: Mapping[Word, list[tuple[int, int]]], folded: bytes) -> None:
        self.spans = {group: sorted(of_group) for group, of_group in spans.items()}
        self._folded = folded
        self._known: dict[Word, tuple[list[tuple[int, int]], list[int]]] = {}

    def _of(self, group: Word) -> tuple[list[tuple[int, int]], list[int]]:
        """Give where words of a group are, without those that are labels themselves, of what comes behind them, and
        where all of them end."""
        known = self._known.get(group)
        if known is None:
            spans = self.spans[group]
            behind = [span for span in spans if not _is_label(self._folded, *span)]
            known = self._known[group] = behind, sorted(end for _, end in spans)
        return known

    def distance(self, groups: Sequence[Word], start: int, end: int, *, before: int, after: int) -> int | None:
        """Give how far from a value the nearest word of some groups is; None: too far. Behind counts double."""
        nearest: int | None = None
        for group in groups:
            if group not in self.spans:
                continue
            spans, ends = self._of(group)
            index = bisect_right(ends, start)
            if index and start - ends[index - 1] <= before and (nearest is None or start - ends[index - 1] < nearest):
                nearest = start - ends[index - 1]
            index = bisect_left(spans, (end, end))
            # NB: the whole word, or what comes much later would matter.
            if index < len(spans) and spans[index][1] - end <= after:
                behind = 2 * (spans[index][0] - end)
                nearest = behind if nearest is None else min(nearest, behind)
        return nearest


_LABELS: Final = re.compile(rb"[ ]?[\"']?[ \t]{0,3}(?:[:=\t]|\.\.)")
_BEGINS: Final = frozenset(b"\n>|")
_VERSION: Final = re.compile(rb"[.:]? ?\d")
_KEY: Final = re.compile(rb"[\"'] ?:")


def _is_label(folded: bytes, start: int, end: int) -> bool:
    """Tell whether a word is the label of what comes behind it: it begins a line, or a sign says so."""
    if _LABELS.match(folded, end) is not None:
        return True
    place = start - 1
    while place >= max(0, start - 4) and folded[place] in b" \t*-":
        place -= 1
    return place >= 0 and folded[place] in _BEGINS


_LETTERS: Final = bytes(65 <= byte <= 90 or 97 <= byte <= 122 or byte == LATIN for byte in range(256))
"""Of each byte whether it is a letter that may be of the same word as those beside it."""
_NOT_PLAIN: Final = _CAPITAL | {"v", "code"}


def _is_plain(word: str) -> bool:
    """Tell whether nothing matters of a word but the letters beside it."""
    return word[0].isascii() and word not in _NOT_PLAIN


def _stands(view: View, start: int, end: int) -> bool:
    """Tell whether a word is one, and not a part of another."""
    lowered, folded = view.lowered, view.folded
    if lowered[start] >= ALONE_FROM:
        return True
    if lowered[start:end] == "v" and _VERSION.match(folded, end) is None:
        return False
    if lowered[start:end] in _CAPITAL and not (view.text[start:end].isupper() or _KEY.match(folded, end)):
        return False
    if lowered[start:end] == "code" and lowered[start - 1 : start] in ("<", "/") and lowered[end : end + 1] == ">":
        # NB: an element of HTML, which says nothing of what stands in it.
        return False
    touched = start and _is_letter(folded[start - 1]) and not _humps(view.text, start)
    if touched and (folded[start - 1] != LETTER or folded[start] == LETTER):
        return False
    return end == len(folded) or not _is_letter(folded[end]) or folded[end] == LETTER or _humps(view.text, end)


def _is_letter(byte: int) -> bool:
    return 65 <= byte <= 90 or 97 <= byte <= 122 or byte in (LATIN, LETTER)


def _humps(text: str, place: int) -> bool:
    """Tell whether a word of a name begins here: `dbPassword`."""
    return text[place].isupper() and text[place - 1].islower()
