"""Bank accounts of the world (IBAN): the country's length, and the check digits (ISO 13616)."""

import re
from collections.abc import Iterator
from typing import Final

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.pii.raw import Raw
from capstan_gateway.guards.pii.scan import Scanned, linear
from capstan_gateway.guards.pii.words import Word

_LENGTHS: Final = dict(
    AD=24, AE=23, AL=28, AT=20, AZ=28, BA=20, BE=16, BG=22, BH=22, BI=27, BR=29, BY=28, CH=21, CR=22, CY=28, CZ=24,
    DE=22, DJ=27, DK=18, DO=28, EE=20, EG=29, ES=24, FI=18, FK=18, FO=18, FR=27, GB=22, GE=22, GI=23, GL=18, GR=27,
    GT=28, HN=28, HR=21, HU=28, IE=22, IL=23, IQ=23, IS=26, IT=27, JO=30, KW=30, KZ=20, LB=28, LC=32, LI=21, LT=20,
    LU=20, LV=21, LY=25, MC=27, MD=24, ME=22, MK=19, MN=20, MR=27, MT=31, MU=30, NI=28, NL=18, NO=15, OM=23, PK=24,
    PL=28, PS=29, PT=25, QA=29, RO=24, RS=22, RU=33, SA=24, SC=31, SD=18, SE=24, SI=19, SK=24, SM=27, SO=23, ST=25,
    SV=28, TL=23, TN=24, TR=26, UA=29, VA=22, VG=24, XK=20, YE=30,
    # what banks of these use, though they are not in the registry
    AO=25, BF=28, BJ=28, CF=27, CG=27, CI=28, CM=27, CV=25, DZ=26, GA=27, GQ=27, GW=25, IR=26, KM=27, MA=28, MG=27,
    ML=28, MZ=25, NE=28, SN=28, TD=27, TG=28,
)  # fmt: skip
"""Characters of an IBAN, by country."""
_BEGINS: Final = linear(rb"[A-Za-z]{2}[ -]?\d[ ]?\d")
_SIGNS: Final = frozenset(b" .-\xad")
_LEAST_DIGITS: Final = 6


def find_ibans(scanned: Scanned) -> Iterator[Raw]:
    """Give them, written in one or in groups."""
    folded = scanned.view.folded
    place = 0
    while (match := _BEGINS.search(folded, place)) is not None:
        place = match.start() + 1
        length = _LENGTHS.get(folded[match.start() : match.start() + 2].upper().decode())
        if length is not None and scanned.begins(match.start()):
            yield from _of_length(scanned, match.start(), length)


def _of_length(scanned: Scanned, start: int, length: int) -> Iterator[Raw]:
    end = _end(scanned.view.folded, start, length)
    if end is None or not scanned.ends(end):
        return
    iban = re.sub(rb"[^0-9A-Za-z]", b"", scanned.view.folded[start:end]).decode().upper()
    if sum(character.isdigit() for character in iban) < _LEAST_DIGITS:
        return
    if mod97(iban):
        yield Raw(PiiKind.IBAN, start, end, 0.99)
    elif scanned.near((Word.IBAN,), start, end, before=24, after=0) is not None:
        yield Raw(PiiKind.IBAN, start, end, 0.6)


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
