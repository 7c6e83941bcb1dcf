"""Values that only the words in front of them give away: a passport, a licence, an account, a date of birth."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.raw import Raw
from capstan_gateway.guards.pii.scan import Scanned
from capstan_gateway.guards.pii.words import Word

_MOST_BETWEEN: Final = 28

_MONTH: Final = rb"(?:[A-Za-z\xe9]{3,12}|[\xff]{2,14}\.?)"
_DATE: Final = (
    rb"(?:\d{4}[-/. ]\d{1,2}[-/. ]\d{1,2}(?:T[\d:.]{5,12}Z?)?|\d{1,2} ?[-/. ] ?\d{1,2} ?[-/. ] ?(?:\d{4}|\d{2})"
    rb"|\d{1,2}(?:st|nd|rd|th|er|\.|\xa7)?[ -](?:of |de |d')?" + _MONTH + rb"\.?,?[ -](?:de |del )?(?:\d{4}|\d{2})"
    rb"|" + _MONTH + rb"\.? \d{1,2}(?:st|nd|rd|th)?,? ?\d{4}"
    rb"|\d{4}\xff ?\d{1,2}\xff ?\d{1,2}\xff|(?:19|20)\d{6}|\d{1,2}[A-Za-z]{3}\d{2,4})"
)
_TOKEN: Final = rb"[A-Za-z0-9](?:[ .\-/]?[A-Za-z0-9]){3,21}"


@dataclass(frozen=True, slots=True)
class _Label:
    """What a word makes of what comes behind it."""

    kind: PiiKind
    value: re.Pattern[bytes]
    score: float
    accepts: Callable[[bytes], bool] = bool


def _compiled(value: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"(?:" + value + rb")(?![A-Za-z0-9_\xe9]|\.\d)")


def _digits(value: bytes) -> int:
    return sum(48 <= byte <= 57 for byte in value)


def _is_bic(value: bytes) -> bool:
    return COUNTRIES.fullmatch(value, 4, 6) is not None


def _is_document(value: bytes) -> bool:
    plain = re.sub(rb"[ .\-/]", b"", value)
    return 5 <= len(plain) <= 20 and _digits(plain) >= 5 and not _is_date(value) and not _NAMELIKE.search(value)


_NAMELIKE: Final = re.compile(rb"[a-z]{3}")
"""In no number of a document, but in names of files and pages."""


def _is_passport(value: bytes) -> bool:
    plain = re.sub(rb"[ \-]", b"", value)
    return 6 <= len(plain) <= 10 and _digits(plain) >= 4 and not _is_date(value)


def _is_account(value: bytes) -> bool:
    return _digits(value) >= 6 and (not _is_date(value) or re.fullmatch(rb"\d\d-\d\d-\d\d", value) is not None)


def _is_date(value: bytes) -> bool:
    return re.fullmatch(rb"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}", value) is not None


_DOTTED: Final = ([3, 2, 4], [3, 3, 3])
"""With other dots it is an address of a machine."""


def _is_ssn(value: bytes) -> bool:
    if b"." in value and [len(group) for group in re.findall(rb"\d+", value)] not in _DOTTED:
        return False
    digits = re.sub(rb"[^0-9]", b"", value).decode()
    return is_ssn(digits) or (digits[0] == "9" and digits[3] in "56789")


def is_ssn(digits: str) -> bool:
    """Tell whether a Social Security number can be this: areas 000, 666, 900 and more are none, nor parts of zeros."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _is_birth(value: bytes) -> bool:
    years = re.findall(rb"\d{4}", value)
    return not years or any(1870 <= int(year) <= 2045 or 2400 <= int(year) <= 2600 for year in years) or len(value) == 8


COUNTRIES: Final = re.compile(
    rb"A[DEFGILMOQRSTUWXZ]|B[ABDEFGHIJLMNOQRSTVWYZ]|C[ACDFGHIKLMNORUVWXYZ]|D[EJKMOZ]|E[CEGHRST]|F[IJKMOR]|G[ABDEFGHILMNPQRSTUWY]"
    rb"|H[KMNRTU]|I[DELMNOQRST]|J[EMOP]|K[EGHIMNPRWYZ]|L[ABCIKRSTUVY]|M[ACDEFGHKLMNOPQRSTUVWXYZ]|N[ACEFGILOPRUZ]|OM|P[AEFGHKLMNRSTWY]"
    rb"|QA|R[EOSUW]|S[ABCDEGHIJKLMNORSTVXYZ]|T[CDFGHJKLMNORTVWZ]|U[AGMSYZ]|V[ACEGINU]|W[FS]|XK|Y[ET]|Z[AMW]"
)
"""ISO 3166."""
_PASSPORT: Final = rb"[A-Z]{0,3}[ -]?\d[0-9A-Z ]{4,9}[0-9A-Z]|[A-Z]\d[A-Z0-9]{5,8}|[A-Z0-9]{9}"
_ACCOUNT: Final = rb"\d(?:[ .-]?\d){5,19}|\d\d-\d\d-\d\d|[A-Z]{4}0[A-Z0-9]{6}"
_LABELS: Final = {
    Word.PASSPORT: _Label(PiiKind.PASSPORT, _compiled(_PASSPORT), 0.85, _is_passport),
    Word.LICENSE: _Label(PiiKind.DRIVER_LICENSE, _compiled(_TOKEN), 0.8, _is_document),
    Word.NATIONAL_ID: _Label(PiiKind.NATIONAL_ID, _compiled(_TOKEN), 0.8, _is_document),
    Word.TAX_ID: _Label(PiiKind.TAX_ID, _compiled(_TOKEN), 0.8, _is_document),
    Word.MEDICAL: _Label(PiiKind.MEDICAL_ID, _compiled(_TOKEN), 0.8, _is_document),
    Word.BANK: _Label(PiiKind.BANK_ACCOUNT, _compiled(_ACCOUNT), 0.8, _is_account),
    Word.BIC: _Label(PiiKind.BIC, _compiled(rb"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?"), 0.9, _is_bic),
    Word.SSN: _Label(PiiKind.SSN, _compiled(rb"\d(?:[ .-]{0,3}\d){8}"), 0.95, _is_ssn),
    Word.BIRTH: _Label(PiiKind.DATE_OF_BIRTH, _compiled(_DATE), 0.9, _is_birth),
}


def find_labelled(scanned: Scanned) -> Iterator[Raw]:
    """Give the values behind all such words."""
    for word, label in _LABELS.items():
        for _, end in scanned.hits.spans.get(word, ()):
            go_on()
            yield from _behind(scanned.view.folded, end, label)


def _behind(folded: bytes, end: int, label: _Label) -> Iterator[Raw]:
    """Give the value behind one, past blanks, signs and small words."""
    place = end
    while place <= end + _MOST_BETWEEN:
        value = label.value.match(folded, place) if not _inside(folded, place) else None
        if value is not None:
            stop = _stop(value.group(), place, label)
            if stop > place and label.accepts(folded[place:stop]):
                yield Raw(label.kind, place, stop, label.score)
                return
        step = _STEP.match(folded, place)
        if step is None or _HEAD.match(folded, place) is not None:
            return
        place = step.end()


_HEAD: Final = re.compile(rb"\|[ :]*-{2}")
"""What is below the head of a table: which column a word is of is not known."""
_STEP: Final = re.compile(
    rb"[\s\"'`:=#|>*()\[\]\xa7\xad.,/_-]|\xff|(?:no|nr|num|number|numbers|code|id|is|was|are|of|my|his|her|the|for|value|n[\xe9u]mero|num\xe9ro|nummer|ist|es|est"
    rb"|der|die|lautet|on|am|le|el|em|il|in|date|dated|card|reg|holder|to|as|follows)(?![A-Za-z0-9\xe9])",
    re.IGNORECASE,
)


def _inside(folded: bytes, place: int) -> bool:
    """Tell whether the middle of a word is here."""
    return place > 0 and chr(folded[place - 1]).isalnum() and folded[place - 1] < 128


def _stop(value: bytes, place: int, label: _Label) -> int:
    """Give where a value ends: in front of the first word without a digit, if blanks are in it."""
    if label.kind in (PiiKind.DATE_OF_BIRTH, PiiKind.BIC, PiiKind.SSN) or b" " not in value:
        return place + len(value)
    kept = 0
    for match in re.finditer(rb"[^ ]+", value):
        word = match.group()
        if not _digits(word) and not (word.isupper() and len(word) <= 3):
            break
        kept = match.end() if _digits(word) or kept == 0 or match.end() == len(value) else kept
    return place + kept
