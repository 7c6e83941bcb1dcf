"""Bank accounts of the world (IBAN): the country's length, and the check digits (ISO 13616)."""

import re
from collections.abc import Iterator
from typing import Final

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.labelled import COUNTRIES
from capstan_gateway.guards.pii.raw import Raw
from capstan_gateway.guards.pii.scan import Scanned, linear
from capstan_gateway.guards.pii.view import UNSEEN
from capstan_gateway.guards.pii.words import Word

_LENGTHS: Final = {
    country: length
    for length, countries in (
        (15, "NO"),
        (16, "BE"),
        (18, "DK FI FK FO GL NL SD"),
        (19, "MK SI"),
        (20, "AT BA EE KZ LT LU MN XK"),
        (21, "CH HR LI LV"),
        (22, "BG BH CR DE GB GE IE ME RS VA"),
        (23, "AE GI IL IQ OM SO TL"),
        (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
        (25, "AO CV GW LY MZ PT ST"),
        (26, "DZ IR IS TR"),
        (27, "BI CF CG CM DJ FR GA GQ GR IT KM MC MG MR SM TD"),
        (28, "AL AZ BF BJ BY CI CY DO GT HN HU LB MA ML NE NI PL SN SV TG"),
        (29, "BR EG PS QA UA"),
        (30, "JO KW MU YE"),
        (31, "MT SC"),
        (32, "LC"),
        (33, "RU"),
    )
    for country in countries.split()
}
"""Characters of an IBAN, by country: those of the registry, and those whose banks use some all the same."""
IBANS_GATE: Final = rb"[A-Za-z]{2}\d\d(?:\xad*[ .-]?\xad*[0-9A-Za-z]){7}"
"""With what all that are found begin."""
_BEGINS: Final = linear(IBANS_GATE)
_SIGNS: Final = frozenset(b" .-")
_OTHERS: Final = re.compile(
    rb"(?i:[A-Z]{2}\d{2}[A-Z]{0,4}\d{7,25}[A-Z0-9]{0,3})"
    rb"|[A-Za-z]{2}\d{2}(?P<sign>[ .-])(?:[A-Za-z]{4}|\d{4})(?:(?P=sign)\d{4}){1,6}(?:(?P=sign)\d{1,3})?"
)
"""How those are written that are as long as none of their country: in one, or in groups of four."""
_LEAST_DIGITS: Final = 6


def find_ibans(scanned: Scanned) -> Iterator[Raw]:
    """Give them, written in one or in groups."""
    folded = scanned.view.folded
    place = 0
    while (match := _BEGINS.search(folded, place)) is not None:
        go_on()
        place = match.start() + 1
        country = folded[match.start() : match.start() + 2].upper()
        if COUNTRIES.fullmatch(country) is not None and scanned.begins(match.start()):
            yield from _of_length(scanned, match.start(), _LENGTHS.get(country.decode(), 0))


def _of_length(scanned: Scanned, start: int, length: int) -> Iterator[Raw]:
    end = _end(scanned.view.folded, start, length) if length else None
    if end is None or not scanned.ends(end):
        yield from _of_other_length(scanned, start, known=length > 0)
        return
    iban = re.sub(rb"[^0-9A-Za-z]", b"", scanned.view.folded[start:end]).decode().upper()
    if sum(character.isdigit() for character in iban) < _LEAST_DIGITS:
        return
    if mod97(iban):
        yield Raw(PiiKind.IBAN, start, end, 0.99)
    elif _is_named(scanned, start):
        yield Raw(PiiKind.IBAN, start, end, 0.6)


def _of_other_length(scanned: Scanned, start: int, *, known: bool) -> Iterator[Raw]:
    """Give one that is too long or too short for its country, or of one that has none (`known`).

    Made-up ones are so. They count by their check digits, which every hundredth number has: not as that of a thing.
    """
    match = _OTHERS.match(scanned.view.folded, start)
    if match is None or not scanned.ends(match.end()):
        return
    plain = re.sub(rb"[^0-9A-Za-z]", b"", match.group()).decode().upper()
    if mod97(plain) and (plain[4].isalpha() or scanned.told((Word.THING,), start) is None):
        yield Raw(PiiKind.IBAN, start, match.end(), 0.98)
    elif (known or mod97(plain)) and _is_named(scanned, start):
        yield Raw(PiiKind.IBAN, start, match.end(), 0.6)


def _is_named(scanned: Scanned, start: int) -> bool:
    return scanned.near((Word.IBAN,), start, start, before=24, after=0) is not None


def _end(folded: bytes, start: int, length: int) -> int | None:
    """Give where an IBAN of a length ends: written in one, or in groups of four."""
    end, taken, grouped = start, 0, False
    while taken < length:
        if end >= len(folded):
            return None
        byte = folded[end]
        if byte == UNSEEN and taken:
            end += 1
            continue
        if byte < 128 and chr(byte).isalnum():
            taken += 1
        elif taken % 4 or not taken or folded[end - 1] in _SIGNS or byte not in _SIGNS or (taken > 4 and not grouped):
            return None
        else:
            grouped = True
        end += 1
    return end


def mod97(iban: str) -> bool:
    """Tell whether its check digits are right (ISO 7064, mod 97-10)."""
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1
