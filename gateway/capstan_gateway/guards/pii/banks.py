"""Bank accounts of the world (IBAN): the country's length, and the check digits (ISO 13616)."""

import re
from collections.abc import Iterator
from typing import Final

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.raw import Raw
from capstan_gateway.guards.pii.scan import Scanned, linear
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
_BEGINS: Final = linear(rb"[A-Za-z]{2}[ -]?\d[ ]?\d")
_SIGNS: Final = frozenset(b" .-\xad")
_IN_ONE: Final = re.compile(rb"[A-Z]{2}\d{2}[A-Z]{0,4}\d{7,25}[A-Z0-9]{0,3}")
_LEAST_DIGITS: Final = 6


def find_ibans(scanned: Scanned) -> Iterator[Raw]:
    """Give them, written in one or in groups."""
    folded = scanned.view.folded
    place = 0
    while (match := _BEGINS.search(folded, place)) is not None:
        go_on()
        place = match.start() + 1
        length = _LENGTHS.get(folded[match.start() : match.start() + 2].upper().decode())
        if length is not None and scanned.begins(match.start()):
            yield from _of_length(scanned, match.start(), length)


def _of_length(scanned: Scanned, start: int, length: int) -> Iterator[Raw]:
    end = _end(scanned.view.folded, start, length)
    if end is None or not scanned.ends(end):
        yield from _of_other_length(scanned, start)
        return
    iban = re.sub(rb"[^0-9A-Za-z]", b"", scanned.view.folded[start:end]).decode().upper()
    if sum(character.isdigit() for character in iban) < _LEAST_DIGITS:
        return
    if mod97(iban):
        yield Raw(PiiKind.IBAN, start, end, 0.99)
    elif scanned.near((Word.IBAN,), start, end, before=24, after=0) is not None:
        yield Raw(PiiKind.IBAN, start, end, 0.6)


def _of_other_length(scanned: Scanned, start: int) -> Iterator[Raw]:
    """Give one that is too long or too short for its country, as made-up ones are, where its check digits are right."""
    match = _IN_ONE.match(scanned.view.folded, start)
    if match is not None and scanned.ends(match.end()):
        named = scanned.near((Word.IBAN,), start, match.end(), before=24, after=0) is not None
        if named or mod97(match.group().decode()):
            yield Raw(PiiKind.IBAN, start, match.end(), 0.6)


def _end(folded: bytes, start: int, length: int) -> int | None:
    """Give where an IBAN of a length ends: written in one, or in groups of four."""
    end, taken, grouped = start, 0, False
    while taken < length:
        if end >= len(folded):
            return None
        byte = folded[end]
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
