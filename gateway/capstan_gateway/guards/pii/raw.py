"""What recognisers hand over, and which of it stands when several see something in the same place.

Whether one stands depends on those alone that hold it whole, so that what is far away never matters: in a text of which
only a part is there the same ones stand.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.patience import go_on

WIDTH: Final = 80
"""Most characters of a value with blanks in it."""
BEFORE: Final = 64
"""How far in front of a value words are looked for that say what it is."""
AFTER: Final = 24
"""How far behind it."""


class Raw(NamedTuple):
    """Something that may be found."""

    kind: PiiKind | None
    """None: it is certainly no personal data, such as a UUID, and what is inside of it is none either."""
    start: int
    end: int
    score: float
    open: bool = False
    """Whether more text can make it longer, or another thing, however far it goes already."""


_SPECIFIC: Final = {kind: rank for rank, kind in enumerate(reversed([
    PiiKind.URL_CREDENTIALS, PiiKind.IBAN, PiiKind.CARD, PiiKind.SSN, PiiKind.DATE_OF_BIRTH, PiiKind.PASSPORT,
    PiiKind.DRIVER_LICENSE, PiiKind.MEDICAL_ID, PiiKind.BIC, PiiKind.BANK_ACCOUNT, PiiKind.EMAIL, PiiKind.IP_ADDRESS,
    PiiKind.MAC_ADDRESS, PiiKind.CRYPTO_ADDRESS, PiiKind.TAX_ID, PiiKind.NATIONAL_ID, PiiKind.PHONE, PiiKind.SECRET,
]))}  # fmt: skip


def standing(raws: Iterable[Raw]) -> list[Raw]:
    """Give those that no other one of them holds and outweighs, by where they begin.

    One outweighs another that it holds if it is as sure; of two in the same place the surer, then the more specific.
    """
    ordered = sorted(raws, key=lambda raw: (raw.start, -raw.end, -raw.score, -_rank(raw)))
    kept: list[Raw] = []
    wide: list[Raw] = []
    """Those that may hold the next one."""
    for raw in ordered:
        go_on()
        wide = [other for other in wide if other.end > raw.start]
        if not any(other.end >= raw.end and other.score >= raw.score for other in wide):
            kept.append(raw)
            wide.append(raw)
    return kept


def _rank(raw: Raw) -> int:
    return len(_SPECIFIC) if raw.kind is None else _SPECIFIC[raw.kind]


def outside(raws: Sequence[Raw], *, place: int) -> int:
    """Give the last place up to `place` that is inside of none of them."""
    for raw in sorted(raws, key=lambda raw: -raw.start):
        if raw.start < place < raw.end:
            place = raw.start
    return place
