"""Numbers of people and of taxpayers, by their forms and check digits; python-stdnum has the rules of the countries.

One check digit lets through every tenth number of the right length, and there are a hundred countries: what has no more
than that counts only where a word says so. What holds a date of birth as well, a place, letters, or two check digits,
or is written with signs in fixed places, counts by itself.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Final

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.pii.labelled import is_ssn
from capstan_gateway.guards.pii.numbers import Number
from capstan_gateway.guards.pii.raw import Raw
from capstan_gateway.guards.pii.scan import COLUMNS, Scanned, linear, overlapping
from capstan_gateway.guards.pii.words import Word

Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class _Form:
    kind: PiiKind
    check: Check
    score: float
    """Without any word."""


@lru_cache(256)
def _check(name: str) -> Check:
    """Give the check of a module of python-stdnum; loaded when first needed."""
    check: Check = import_module(f"stdnum.{name}").is_valid
    return check


def _later(name: str) -> Check:
    return lambda number: _holds(name, number)


def _holds(name: str, number: str) -> bool:
    """Tell whether a number is valid by a module of python-stdnum. Their tables have holes: what fails is not."""
    try:
        return _check(name)(number)
    except (LookupError, ValueError, TypeError, AttributeError):
        return False


def _nir(number: str) -> bool:
    """Tell whether its check digits are right, and somebody can be born in its month (France)."""
    return number[0] in "12" and "01" <= number[3:5] <= "12" and _holds("fr.nir", number)


def _snils(number: str) -> bool:
    """Tell whether the last two digits are the sum of the others, each by its place from behind, modulo 101."""
    digits = re.sub(r"\D", "", number)
    total = sum((9 - place) * int(digit) for place, digit in enumerate(digits[:9])) % 101 % 100
    return total == int(digits[9:])


def _nino(number: str) -> bool:
    plain = re.sub(r"[ -]", "", number.upper())
    return plain[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


def _nric(number: str) -> bool:
    """Tell whether the last letter is the check of the digits (Singapore)."""
    number = number.upper()
    weighed = sum(weight * int(digit) for weight, digit in zip((2, 7, 6, 5, 4, 3, 2), number[1:8], strict=True))
    first = number[0]
    weighed += {"T": 4, "G": 4, "M": 3}.get(first, 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "KLJNPQRTUWX"}[
        first
    ]
    place = weighed % 11 if first != "M" else 10 - weighed % 11
    return letters[place] == number[8]


def _hkid(number: str) -> bool:
    """Tell whether the digit in brackets is the check of the others (Hong Kong)."""
    plain = re.sub(r"[()]", "", number.upper()).rjust(9)
    values = [36 if character == " " else int(character, 36) for character in plain]
    return sum(weight * value for weight, value in zip(range(9, 0, -1), values, strict=True)) % 11 == 0


def _taiwan(number: str) -> bool:
    """Tell whether the last digit is the check of the rest (Taiwan); the letter is a place."""
    area = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(number[0].upper()) + 10
    digits = (area // 10, area % 10, *(int(digit) for digit in number[1:]))
    return (
        sum(weight * digit for weight, digit in zip((1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), digits, strict=True)) % 10 == 0
    )


def _american(number: str) -> bool:
    return is_ssn(re.sub(r"\D", "", number))


def _any(*names: str) -> Check:
    return lambda number: any(_holds(name, number) for name in names)


_PERSON, _TAX = PiiKind.NATIONAL_ID, PiiKind.TAX_ID
# fmt: off
_NUMERIC: Final[Mapping[bytes, tuple[_Form, ...]]] = {
    b"999-99-9999": (_Form(PiiKind.SSN, _american, 0.85), _Form(_TAX, _later("us.itin"), 0.85)),
    b"999 99 9999": (_Form(PiiKind.SSN, _american, 0.55), _Form(_TAX, _later("us.itin"), 0.5)),
    b"999.99.9999": (_Form(PiiKind.SSN, _american, 0.55),),
    b"999.999.999-99": (_Form(_PERSON, _later("br.cpf"), 0.95),),
    b"99.999.999/9999-99": (_Form(_TAX, _later("br.cnpj"), 0.97),),
    b"99.999.999-9": (_Form(_PERSON, _later("cl.rut"), 0.9),),
    b"9.999.999-9": (_Form(_PERSON, _later("cl.rut"), 0.85),),
    b"99999999-9": (_Form(_PERSON, _later("cl.rut"), 0.45),),
    b"99-99999999-9": (_Form(_TAX, _later("ar.cuit"), 0.9),),
    b"99.99.99-999.99": (_Form(_PERSON, _later("be.nn"), 0.97),),
    b"999.9999.9999.99": (_Form(_PERSON, _later("ch.ssn"), 0.97),),
    b"9-9999-99999-99-9": (_Form(_PERSON, _later("th.pin"), 0.97),),
    b"9 9999 99999 99 9": (_Form(_PERSON, _later("th.pin"), 0.9),),
    b"999999-9999999": (_Form(_PERSON, _later("kr.rrn"), 0.9),),
    b"999-99-99999": (_Form(_TAX, _later("kr.brn"), 0.7),),
    b"999999-9999": (
        _Form(_PERSON, _any("se.personnummer", "is_.kennitala"), 0.75),
        _Form(_PERSON, _later("dk.cpr"), 0.5),
    ),
    b"99999999-9999": (_Form(_PERSON, _later("se.personnummer"), 0.85),),
    b"999999/9999": (_Form(_PERSON, _later("cz.rc"), 0.9),),
    b"999999/999": (_Form(_PERSON, _later("cz.rc"), 0.6),),
    b"999999 99999": (_Form(_PERSON, _later("no.fodselsnummer"), 0.85),),
    b"999999-99-9999": (_Form(_PERSON, _later("my.nric"), 0.8),),
    b"99999-9999999-9": (_Form(_PERSON, _later("pk.cnic"), 0.85),),
    b"999-9999999-9": (_Form(_PERSON, _later("do.cedula"), 0.8),),
    b"999-999-999 99": (_Form(_PERSON, _snils, 0.95),),
    b"999.999.999.9-999.999": (_Form(_TAX, _later("id.npwp"), 0.9),),
    b"99.999.999.9-999.999": (_Form(_TAX, _later("id.npwp"), 0.95),),
    b"9999 9999 9999": (_Form(_PERSON, _later("in_.aadhaar"), 0.7),),
    b"9999-9999-9999": (_Form(_PERSON, _later("in_.aadhaar"), 0.6),),
    b"999-999-999": (_Form(_PERSON, _later("ca.sin"), 0.55), _Form(_TAX, _any("us.tin", "nz.ird"), 0.2)),
    b"999 999 999": (_Form(_PERSON, _later("ca.sin"), 0.4), _Form(_TAX, _any("au.tfn", "pt.nif"), 0.3)),
    b"999 999 9999": (_Form(_PERSON, _later("gb.nhs"), 0.45),),
    b"99 999 999 999": (_Form(_TAX, _any("au.abn", "de.idnr"), 0.6),),
    b"99-9999999": (_Form(_TAX, _later("us.ein"), 0.3),),
    b"9 99 99 99 999 999 99": (_Form(_PERSON, _later("fr.nir"), 0.97),),
    b"9 99 99 99 999 999": (_Form(_PERSON, _later("fr.nir"), 0.6),),
    b"9" * 18: (_Form(_PERSON, _later("cn.ric"), 0.95),),
    b"9" * 16: (_Form(_PERSON, _later("id.nik"), 0.3),),
    b"9" * 15: (_Form(_PERSON, _nir, 0.85), _Form(_TAX, _later("id.npwp"), 0.2)),
    b"9" * 14: (_Form(_TAX, _any("br.cnpj", "fr.siret"), 0.3), _Form(_PERSON, _later("eg.tn"), 0.3)),
    b"9" * 13: (
        _Form(_PERSON, _any("za.idnr", "ro.cnp", "si.emso"), 0.45),
        _Form(_PERSON, _any("th.pin", "kr.rrn", "pk.cnic"), 0.3),
    ),
    b"9" * 12: (_Form(_PERSON, _any("in_.aadhaar", "se.personnummer"), 0.35),),
    b"9" * 11: (
        _Form(_PERSON, _any("no.fodselsnummer", "ee.ik", "be.nn"), 0.6),
        _Form(_PERSON, _any("gr.amka", "pl.pesel", "tr.tckimlik", "br.cpf", "do.cedula"), 0.42),
        _Form(_TAX, _any("de.idnr", "hr.oib", "it.iva", "au.abn"), 0.2),
    ),
    b"9" * 10: (
        _Form(_PERSON, _any("bg.egn", "cz.rc", "se.personnummer", "gb.nhs"), 0.3),
        _Form(_TAX, _any("pl.nip", "ru.inn", "ua.rntrc"), 0.2),
    ),
    b"9" * 9: (
        _Form(PiiKind.SSN, _american, 0.2),
        _Form(_PERSON, _any("nl.bsn", "ca.sin", "il.idnr"), 0.25),
        _Form(_TAX, _any("pt.nif", "fr.siren", "gr.vat"), 0.25),
    ),
}
"""By how they are written: which there are, and how sure one alone is."""

_LETTERED: Final[tuple[tuple[bytes, tuple[_Form, ...]], ...]] = (
    (rb"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]", (_Form(_PERSON, _later("it.codicefiscale"), 0.97),)),
    (rb"\d{8}-?[A-Za-z]", (_Form(_PERSON, _later("es.dni"), 0.65),)),
    (rb"[XYZxyz]-?\d{7}-?[A-Za-z]", (_Form(_PERSON, _later("es.nie"), 0.85),)),
    (rb"\d{7}[A-Wa-w][A-IWa-iw]?", (_Form(_PERSON, _later("ie.pps"), 0.6),)),
    (rb"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]", (_Form(_TAX, _later("in_.pan"), 0.75),)),
    (rb"\d{2}[A-Z]{5}\d{4}[A-Z]\dZ[A-Z\d]", (_Form(_TAX, _later("in_.gstin"), 0.95),)),
    (rb"[A-Za-z]{4}\d{6}[HMhm][A-Za-z]{5}[A-Za-z\d]\d", (_Form(_PERSON, _later("mx.curp"), 0.97),)),
    (rb"[A-Z&]{3,4}\d{6}[A-Z\d]{3}", (_Form(_TAX, _later("mx.rfc"), 0.75),)),
    (rb"\d{6}[-+A-FU-Ya-fu-y]\d{3}[A-Za-z\d]", (_Form(_PERSON, _later("fi.hetu"), 0.9),)),
    (rb"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ -]?\d{2}[ -]?\d{2}[ -]?\d{2}[ -]?[A-D]", (_Form(_PERSON, _nino, 0.8),)),
    (rb"[STFGMstfgm]\d{7}[A-Za-z]", (_Form(_PERSON, _nric, 0.9),)),
    (rb"[A-Z]{1,2}\d{6}\([\dA]\)", (_Form(_PERSON, _hkid, 0.9),)),
    (rb"[A-Z][1289]\d{8}", (_Form(_PERSON, _taiwan, 0.65),)),
    (rb"\d{1,2}\.\d{3}\.\d{3}-[Kk]", (_Form(_PERSON, _later("cl.rut"), 0.9),)),
    (rb"\d{7,8}-[Kk]", (_Form(_PERSON, _later("cl.rut"), 0.6),)),
    (rb"\d{8} \d [A-Z]{2}\d|\d{9}[A-Z]{2}\d", (_Form(_PERSON, _later("pt.cc"), 0.85),)),
    (rb"\d{17}[Xx]", (_Form(_PERSON, _later("cn.ric"), 0.95),)),
    (rb"CHE-?\d{3}\.?\d{3}\.?\d{3}(?: (?:MWST|TVA|IVA))?", (_Form(_TAX, _any("ch.uid", "ch.vat"), 0.9),)),
    (
        rb"(?:AT ?U|BE ?[01]|BG|CY|CZ|DE|DK|EE|EL|ES ?[A-Z0-9]|FI"
        rb"|FR ?[A-Z0-9]{2}|HR|HU|IE|IT|LT|LU|LV|MT|NL|PL|PT|RO|SE|SI|SK)"
        rb" ?\d{6,12}(?:B\d{2}|[A-Z]{1,2})?",
        (_Form(_TAX, _later("eu.vat"), 0.7),),
    ),
    (rb"[VEJPGvejpg]-?\d{8}-?\d", (_Form(_TAX, _later("ve.rif"), 0.55),)),
    (rb"[ABCDEFGHJKLMNPQRSUVW]\d{7}[0-9A-J]", (_Form(_TAX, _later("es.cif"), 0.4),)),
)
# fmt: on
LETTERED_GATE: Final = rb"\b(?:" + b"|".join(form for form, _ in _LETTERED) + rb")"
_ANY_LETTERED: Final = linear(LETTERED_GATE)
_EACH_LETTERED: Final = tuple((re.compile(form), forms) for form, forms in _LETTERED)
_BESIDE_A_WORD: Final = 0.92
_WORDS: Final = {PiiKind.SSN: Word.SSN, _PERSON: Word.NATIONAL_ID, _TAX: Word.TAX_ID}


def is_written_so(mask: bytes) -> bool:
    """Tell whether some country writes numbers of people so."""
    return mask in _NUMERIC


def find_numeric(scanned: Scanned, number: Number) -> Iterator[Raw]:
    """Give what a number is: first the surest."""
    forms = _NUMERIC.get(number.mask)
    if forms is None or not scanned.alone(number.start, number.end):
        return
    amid = b" " in number.mask and not (number.first and number.last)
    """In a row of numbers any few of them are written so."""
    for form in forms:
        if amid and form.score < _BESIDE_A_WORD and _WORDS[form.kind] not in scanned.hits.spans:
            continue
        score = _score(scanned, number.start, number.end, form)
        if amid and score < _BESIDE_A_WORD:
            continue
        written = scanned.view.folded[number.start : number.end].replace(b"\xad", b" ").decode()
        if score >= scanned.least and form.check(written):
            yield Raw(form.kind, number.start, number.end, score)


def find_lettered(scanned: Scanned) -> Iterator[Raw]:
    """Give those with letters in them."""
    folded = scanned.view.folded
    for begin in overlapping(_ANY_LETTERED, folded):
        start = begin.start()
        if not scanned.begins(start) or folded[start - 1 : start] in (b"-", b"."):
            continue
        for pattern, forms in _EACH_LETTERED:
            match = pattern.match(folded, start)
            if match is not None and scanned.ends(match.end()):
                for form in forms:
                    score = _score(scanned, start, match.end(), form)
                    if score >= scanned.least and form.check(match.group().decode()):
                        yield Raw(form.kind, start, match.end(), score)


def _score(scanned: Scanned, start: int, end: int, form: _Form) -> float:
    word = scanned.near((_WORDS[form.kind],), start, end)
    if word is not None and COLUMNS.search(scanned.view.folded, max(0, start - word), start) is not None:
        word = None
    others = (Word.THING, Word.VERSION, Word.PHONE)
    thing = scanned.told(others, start)
    if word is not None and (thing is None or word <= thing):
        return max(_BESIDE_A_WORD, form.score)
    return form.score if thing is None or thing > 24 else form.score - 0.4
