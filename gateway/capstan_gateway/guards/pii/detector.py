"""The detector of personal data: what all recognisers see, without what is no such thing, and what a policy leaves out.

What is found depends on what is near: no more than `reach` characters in front, and on nothing behind a place that is
`safe_end` of the text so far. So a text that comes in pieces is read as the whole one is.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final

import re2  # type: ignore[import-untyped]

from capstan_contract.guards import PiiKind, Source
from capstan_gateway.guards.pii import banks, cards, coins, formed, internet, labelled, pending, phones, secrets
from capstan_gateway.guards.pii.numbers import NUMBERS_GATE, Use, numbers
from capstan_gateway.guards.pii.phones import PhoneBook, phone_book
from capstan_gateway.guards.pii.raw import AFTER, WIDTH, Raw, outside, standing
from capstan_gateway.guards.pii.scan import Scanned, linear_set
from capstan_gateway.guards.pii.view import UNSEEN, view_of
from capstan_gateway.guards.pii.words import Word, Words
from capstan_gateway.guards.port import NOTHING, Cost, Finding, Scan

THRESHOLD: Final = 0.5
"""Least score of what is found, where a policy says nothing else."""
HELD: Final = WIDTH + AFTER + 2
"""What is nearer to the end of a text than this may still become another thing, unless `pending` knows better."""
FRONT: Final = 256
"""How far in front of a value it is looked, for words and for the beginning of what it is a part of."""


_GATED: Final[tuple[tuple[bytes, Callable[[Scanned], Iterator[Raw]]], ...]] = (
    (formed.LETTERED_GATE, formed.find_lettered),
    (banks.IBANS_GATE, banks.find_ibans),
    (internet.AT_WORDS_GATE, internet.find_at_words),
    (internet.V4_GATE, internet.find_v4),
    (internet.V6_GATE, internet.find_v6),
    (internet.MACS_GATE, internet.find_macs),
    (coins.COINS_GATE, coins.find_coins),
    (secrets.KEYS_GATE, secrets.find_keys),
)
"""What there is at least, somewhere in a folded text, where a recogniser sees anything."""
_NUMBERS: Final = len(_GATED)


@cache
def _gates() -> "re2.Set":
    """Make what tells in one pass which recognisers have anything to do: most of them have nothing in most texts."""
    return linear_set([*(gate for gate, _ in _GATED), NUMBERS_GATE])


@cache
def _words() -> Words:
    return Words()


@dataclass(frozen=True)
class PiiDetector:
    """Finds personal data and secrets that have a form, or a word in front of them."""

    thresholds: dict[PiiKind, float]
    """Of the kinds that are looked for."""
    book: PhoneBook
    allowed: frozenset[str] = frozenset()
    """Values that are none, plain."""
    words: Words = field(default_factory=_words)

    @property
    def cost(self) -> Cost:
        """Below a millisecond for 8 KB."""
        return Cost.CHEAP

    @property
    def reach(self) -> int:
        """The longest of the kinds that are looked for, and the words around it."""
        longest = secrets.MOST if PiiKind.SECRET in self.thresholds else internet.MOST_URL
        return longest + FRONT + HELD

    @property
    def front(self) -> int:
        """What is said in front of a value, where nothing goes on that began before that."""
        return FRONT

    def scan(self, text: str, source: Source) -> Scan:  # noqa: ARG002 - the same for all
        """Give what is in a text."""
        scanned = self._scanned(text)
        return _said(self._found(scanned, list(self._raws(scanned))))

    def safe_end(self, text: str) -> int:
        """Give up to where a text of which more is to come is decided."""
        offset = max(0, len(text) - 2 * self.reach)
        scanned = self._scanned(text[offset:])
        raws = list(self._raws(scanned))
        return self._safe_end(scanned, offset, raws, self._found(scanned, raws))

    def decide(self, text: str, source: Source) -> tuple[Scan, int]:  # noqa: ARG002 - the same for all
        """Give both of a text, at the price of one."""
        scanned = self._scanned(text)
        raws = list(self._raws(scanned))
        found = self._found(scanned, raws)
        return _said(found), self._safe_end(scanned, 0, raws, found)

    def _safe_end(self, scanned: Scanned, offset: int, raws: Sequence[Raw], found: Sequence[Finding]) -> int:
        """Give it of a text that was looked at from an offset on."""
        length = len(scanned.view.text)
        least = max(0, length - self.reach)
        place = min(
            [
                pending.begin(scanned, max(0, length - HELD)),
                *(raw.start for raw in raws if raw.open and raw.start >= least),
            ]
        )
        whole = [Raw(None, finding.start, finding.end, 1.0) for finding in found]
        # NB: what begins here would begin with what nobody sees in front of it.
        return offset + max(outside(whole, place=self._beginning(scanned, place)), least)

    def _scanned(self, text: str) -> Scanned:
        view = view_of(text)
        return Scanned(view, self.words.hits(view), min([THRESHOLD, *self.thresholds.values()]))

    def _raws(self, scanned: Scanned) -> Iterator[Raw]:
        """Give what every recogniser sees.

        All look, whatever is wanted: a card must not be taken for a phone number because nobody asks for cards.
        """
        there = _gates().Match(scanned.view.folded) or ()
        if _NUMBERS in there:
            for number in numbers(scanned, _use, said=partial(_says_phone, scanned)):
                yield from cards.find_card(scanned, number)
                yield from formed.find_numeric(scanned, number)
                yield from phones.find_phone(scanned, number, self.book)
        for place in there:
            if place != _NUMBERS:
                yield from _GATED[place][1](scanned)
        yield from internet.find_emails(scanned)
        yield from internet.find_url_credentials(scanned)
        yield from labelled.find_labelled(scanned)
        yield from secrets.find_labelled(scanned)

    def _found(self, scanned: Scanned, raws: Sequence[Raw]) -> list[Finding]:
        """Give what stands and is wanted."""
        sure = [raw for raw in raws if raw.score >= (THRESHOLD if raw.kind is None else self._least(raw.kind))]
        return [
            Finding(raw.kind, self._beginning(scanned, raw.start), raw.end, raw.score)
            for raw in standing(sure)
            if raw.kind is not None and raw.kind in self.thresholds and not self._is_allowed(scanned, raw)
        ]

    def _least(self, kind: PiiKind) -> float:
        return self.thresholds.get(kind, THRESHOLD)

    def _beginning(self, scanned: Scanned, start: int) -> int:
        """Give where a value begins, with what nobody sees in front of it: it may be the rest of an escape."""
        folded, least = scanned.view.folded, max(0, start - 5)
        while start > least and folded[start - 1] == UNSEEN:
            start -= 1
        return start

    def _is_allowed(self, scanned: Scanned, raw: Raw) -> bool:
        return bool(self.allowed) and plain(scanned.view.text[raw.start : raw.end]) in self.allowed


def _use(mask: bytes, digits: int, whole: bool, least: float) -> Use | None:
    """Tell when a number that is written so may be something, for `numbers`."""
    if cards.is_written_so(mask, digits) or formed.is_written_so(mask):
        return Use.ALWAYS
    if phones.most_by_form(mask, digits, whole=whole, zero=False) >= least:
        return Use.ALWAYS
    if phones.most_by_form(mask, digits, whole=whole, zero=True) >= least:
        return Use.ZERO
    return Use.NEAR if phones.LEAST <= digits <= phones.MOST else None


def _says_phone(scanned: Scanned, start: int, end: int) -> bool:
    """Tell whether a word is near that makes phone numbers of what is no such thing by its form alone."""
    return scanned.near((Word.PHONE, Word.REACH), start, end) is not None


def _said(found: Sequence[Finding]) -> Scan:
    return Scan(tuple(found)) if found else NOTHING


def plain(value: str) -> str:
    """Give a value as it is compared: without case, width and what nobody sees."""
    normal = unicodedata.normalize("NFKC", value).casefold()
    return "".join(character for character in normal if unicodedata.category(character) not in ("Cf", "Zs"))


def pii_detector(
    kinds: Mapping[PiiKind, float | None], *, allowed: Iterable[str] = (), regions: Sequence[str] = ()
) -> PiiDetector:
    """Make one that looks for some kinds, each with its threshold; None: the usual one. ValueError: no such region."""
    return PiiDetector(
        thresholds={kind: THRESHOLD if least is None else least for kind, least in kinds.items()},
        book=phone_book(regions),
        allowed=frozenset(plain(value) for value in allowed),
    )
