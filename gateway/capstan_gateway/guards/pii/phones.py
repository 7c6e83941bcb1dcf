"""Phone numbers: which a country has (libphonenumber's tables), how they are written, and what is said around them.

International ones tell their country. National ones are known in some countries only, and look like many other numbers:
they are taken where they are written as phones are, or where a word says so.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberDesc

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.pii.numbers import Number
from capstan_gateway.guards.pii.raw import Raw
from capstan_gateway.guards.pii.scan import Scanned
from capstan_gateway.guards.pii.words import Word

USUAL_REGIONS: Final = (
    "US", "CA", "GB", "IE", "AU", "NZ", "ZA", "IN", "DE", "AT", "CH", "FR", "BE", "NL", "LU", "ES", "PT", "IT", "PL",
    "CZ", "SK", "HU", "RO", "BG", "GR", "SE", "NO", "DK", "FI", "TR", "IL", "UA", "BR", "MX", "AR", "CL", "CO", "JP",
    "KR", "TW", "TH", "VN", "ID", "MY", "PH", "PK", "BD", "NG", "KE", "EG", "SA", "AE", "CN", "SG", "HK", "RU",
)  # fmt: skip
"""Countries whose national numbers are known where a policy names none."""

_AMERICAN: Final = re.compile(
    rb"(?:9[ .-])?(?:999[-.]999[-.]9999|999\) ?999[- .]?9999|999\)-999-9999|999 999[ -]9999|999/999-9999|999-9999999)"
)
_EXTENSION: Final = re.compile(rb"(?:,? ?(?:x|ext\.?|extn\.?|#|extension) ?)(\d{1,6})(?![0-9A-Za-z_])", re.IGNORECASE)
_DATE: Final = re.compile(
    rb"(?:9999[-./]99?[-./]99?|99?[-./]99?[-./](?:9999|99))(?: 99?(?:\.99){0,2})?"
    rb"|9+\.9{1,2}|9999[-./]99[-./]99[ -]99.*|9{1,3}(?:\.9{1,3}){3}"
)
_NATIONAL_SIGNS: Final = re.compile(rb"9{2,5}[)]?[ /.-]{1,3}9[9 .-]*9")
_HYPHENS: Final = re.compile(rb"9{2,5}(?:[-/ ]|\) ?)9{2,4}(?:[- ]9{2,4})*[- ]9{3,4}|9{3,5}[-/]9{6,8}")
"""How national numbers are grouped by hyphens: five and four digits are a postal code of the United States."""
_LETTER_HYPHEN: Final = re.compile(rb"[A-Za-z][-_.#]")
_HYPHEN_LETTER: Final = re.compile(rb"[-_][A-Za-z]")
_FRACTION: Final = re.compile(rb"9+\.9+")
_EXTENDS: Final = (b" ", b",", b"x", b"X", b"e", b"E", b"#")
_OTHERS: Final = (
    Word.THING, Word.BANK, Word.NATIONAL_ID, Word.TAX_ID, Word.MEDICAL, Word.PASSPORT, Word.LICENSE, Word.CARD,
    Word.SSN, Word.VERSION,
)  # fmt: skip
_TRUNK: Final = re.compile(rb"9{1,3} ?\(9\) ?9")
"""`+49 (0)30`: nothing else is written so."""
_RUSSIAN: Final = re.compile(rb"9 ?\(999\) ?999-99-?99|9 999 999 99 ?99")
_BRAZILIAN: Final = re.compile(rb"99 9{4,5}-9999")
_SPENT: Final = re.compile(
    rb"(?:\d[ .()/-]{0,2}){6}[^A-Za-z\xe9\xff]*"
    rb"(?!(?:or|and|und|oder|et|ou|y|o|e|x|ext)\b[^A-Za-z\xe9\xff]*\Z)[A-Za-z\xe9\xff]"
)
"""A number, and behind it another word than those between numbers of one kind."""
LEAST, MOST = 7, 15
_BESIDE: Final = 4


@dataclass(frozen=True, slots=True)
class _Country:
    """What numbers a country has, without its code and its trunk prefix."""

    lengths: frozenset[int]
    any: re.Pattern[str]
    kinds: tuple[re.Pattern[str], ...]
    trunk: re.Pattern[str] | None


@lru_cache(512)
def _country(region: str, code: int) -> _Country | None:
    metadata = (
        PhoneMetadata.metadata_for_nongeo_region(code) if region == "001" else PhoneMetadata.metadata_for_region(region)
    )
    if metadata is None or metadata.general_desc is None or metadata.general_desc.national_number_pattern is None:
        return None
    described: Sequence[PhoneNumberDesc | None] = (
        metadata.fixed_line, metadata.mobile, metadata.toll_free, metadata.premium_rate, metadata.shared_cost,
        metadata.voip, metadata.personal_number, metadata.uan, metadata.pager, metadata.voicemail,
    )  # fmt: skip
    prefix = metadata.national_prefix_for_parsing or metadata.national_prefix
    return _Country(
        lengths=frozenset(metadata.general_desc.possible_length),
        any=re.compile(metadata.general_desc.national_number_pattern),
        kinds=tuple(
            re.compile(kind.national_number_pattern) for kind in described if kind and kind.national_number_pattern
        ),
        trunk=re.compile(metadata.national_prefix) if metadata.national_prefix and prefix else None,
    )


def _has(country: _Country | None, digits: str) -> bool:
    """Tell whether a country has a number."""
    if country is None or len(digits) not in country.lengths or country.any.fullmatch(digits) is None:
        return False
    return any(kind.fullmatch(digits) for kind in country.kinds)


@dataclass(frozen=True, slots=True)
class PhoneBook:
    """The numbers of the world, and of some countries those without a prefix."""

    regions: tuple[tuple[str, int], ...]
    """Each with its country code."""

    def international(self, digits: str) -> float:
        """Give how sure it is that digits behind a plus are a phone number: 0 is none."""
        for length in (1, 2, 3):
            code = int(digits[:length])
            regions = COUNTRY_CODE_TO_REGION_CODE.get(code)
            if regions is None or digits[0] == "0":
                continue
            rest = digits[length:]
            # NB: many write the trunk prefix as well, in brackets: +44 (0)20 ...
            for national in (rest, rest[1:]) if rest[:1] == "0" else (rest,):
                if any(_has(_country(region, code), national) for region in regions):
                    return 0.95
            main = _country(regions[0], code)
            lengths = range(min(main.lengths), max(main.lengths) + 1) if main is not None else range(0)
            possible = len(rest) in lengths or len(rest.lstrip("0")) in lengths
            return 0.7 if possible else 0.3
        return 0.0

    def national(self, digits: str) -> bool:
        """Tell whether one of the countries has a number so dialled."""
        for region, code in self.regions:
            country = _country(region, code)
            if country is None:
                continue
            if _has(country, digits):
                return True
            trunk = country.trunk.match(digits) if country.trunk is not None else None
            if trunk is not None and _has(country, digits[trunk.end() :]):
                return True
        return False


def phone_book(regions: Sequence[str]) -> PhoneBook:
    """Make the one for the countries of a policy, or for the usual ones. Raises ValueError for one that is unknown."""
    codes = {
        region: code for code, listed in COUNTRY_CODE_TO_REGION_CODE.items() for region in listed if region != "001"
    }
    unknown = [region for region in regions if region.upper() not in codes]
    if unknown:
        raise ValueError(
            f"`regions` has {unknown[0]!r}, which is no country with phone numbers of its own (ISO 3166, such as US)"
        )
    book = PhoneBook(tuple((region.upper(), codes[region.upper()]) for region in regions or USUAL_REGIONS))
    for region, code in book.regions:
        _country(region, code)
    return book


def most_by_form(mask: bytes, digits: int, *, whole: bool, zero: bool) -> float:
    """Give how sure a number can be at most, by how it is written, without a plus or a word near it."""
    if not LEAST <= digits <= MOST or _DATE.fullmatch(mask):
        return 0.0
    american = _AMERICAN.fullmatch(mask) is not None
    if not whole:
        return 0.55 if american and b" " not in mask else 0.3
    if zero:
        return 0.85
    return 0.75 if american else 0.6 if _BRAZILIAN.fullmatch(mask) or _RUSSIAN.fullmatch(mask) else 0.42


def find_phone(scanned: Scanned, number: Number, book: PhoneBook) -> Iterator[Raw]:
    """Give the phone number that a number is."""
    if not LEAST <= len(number.digits) <= MOST:
        return
    start, international = _beginning(scanned.view.folded, number)
    end = _end(scanned.view.folded, number.end)
    if not scanned.alone(start, end):
        return
    score = _score(scanned, number, book, start=start, international=international)
    if score >= scanned.least and (international or not (_DATE.fullmatch(number.mask) or _is_day(number))):
        yield Raw(PiiKind.PHONE, start, end, score)


def _is_day(number: Number) -> bool:
    """Tell whether eight digits in one are a day of these two centuries, or in two a span of years."""
    digits = number.digits
    if number.mask == b"99999999":
        return digits[:2] in ("19", "20") and "01" <= digits[4:6] <= "12" and "01" <= digits[6:] <= "31"
    return number.mask in (b"9999-9999", b"9999/9999") and all(
        year[:2] in ("18", "19", "20") for year in (digits[:4], digits[4:])
    )


def _beginning(folded: bytes, number: Number) -> tuple[int, bool]:
    """Give where it begins, with its plus and bracket, and whether it is an international one."""
    start = number.start
    closed = b")" in number.mask.partition(b"(")[0]
    if start and folded[start - 1] == 0x28 and closed:
        start -= 1
    for back in (1, 2):
        if start >= back and folded[start - back] == 0x2B and folded[start - back + 1 : start].strip(b" (\xad") == b"":
            bracket = start > back and folded[start - back - 1] == 0x28 and closed
            return start - back - bracket, True
    return start, False


def _end(folded: bytes, end: int) -> int:
    """Give where it ends, with its extension."""
    if folded[end : end + 1] not in _EXTENDS:
        return end
    extension = _EXTENSION.match(folded, end, end + 20)
    return extension.end() if extension is not None else end


def _score(scanned: Scanned, number: Number, book: PhoneBook, *, start: int, international: bool) -> float:
    """Give how sure it is, by what is said around it and how it is written."""
    phone = _labelled(scanned, start, number.end)
    if number.mask == b"999-99-9999" and (phone is None or phone > _BESIDE):
        # NB: no country writes phones so; the head of a table may be near.
        return 0.2
    if not international and number.mask.isdigit() and len(number.digits) >= 13 and number.digits[:2] != "00":
        # NB: longer than any that is dialled; a time or an article, whose neighbour a phone number is.
        return 0.2
    if phone is None and (_in_path(scanned.view.folded, start, number.end) or _FRACTION.fullmatch(number.mask)):
        return 0.2
    reach = scanned.near((Word.REACH,), start, number.end, before=32, after=12)
    if international:
        grouped = len(number.digits) >= 10 and b" " in number.mask and number.digits[0] != "0"
        written = 0.6 if _TRUNK.match(number.mask) is not None or grouped else 0.0
        return max(book.international(number.digits), written if phone is None else 0.85)
    thing = scanned.told(_OTHERS, start)
    if thing is not None and (phone is None or thing < phone) and (reach is None or thing < reach):
        return 0.2
    if phone is not None:
        return 0.85
    if reach is None and _tied_to_letters(scanned.view.folded, start, number.end):
        return 0.2
    if not (number.first and number.last) and reach is None:
        return 0.55 if b" " not in number.mask and _AMERICAN.fullmatch(number.mask) is not None else 0.3
    written = _written(number, book, scanned.least if reach is None else 0.4)
    return max(0.6, written) if reach is not None and (written >= 0.4 or not number.mask.isdigit()) else written


def _labelled(scanned: Scanned, start: int, end: int) -> int | None:
    """Give how near a word for phones is. One in front that has had its number says nothing of what comes later."""
    front = scanned.near((Word.PHONE,), start, start, before=40, after=0)
    if front is not None and _SPENT.search(scanned.view.folded, start - front, start) is not None:
        front = None
    behind = scanned.near((Word.PHONE,), end, end, before=-1)
    return behind if front is None else front if behind is None else min(front, behind)


def _tied_to_letters(folded: bytes, start: int, end: int) -> bool:
    """Tell whether a hyphen joins it to a word: `ORD-0420-146721`."""
    before, behind = folded[max(0, start - 2) : start], folded[end : end + 2]
    return _LETTER_HYPHEN.fullmatch(before) is not None or _HYPHEN_LETTER.fullmatch(behind) is not None


def _in_path(folded: bytes, start: int, end: int) -> bool:
    """Tell whether it is a part of the path of a URL or a file, or the digits of a fraction."""
    return b"/" in (folded[start - 1 : start], folded[end : end + 1]) or folded[start : start + 2] == b"0."


def _written(number: Number, book: PhoneBook, least: float) -> float:
    """Give how sure its form alone makes it; nothing, where that would be less than what is wanted."""
    digits, mask = number.digits, number.mask
    if digits.startswith("00") and mask.startswith(b"99") and len(digits) >= 10:
        known = book.international(digits[2:])
        return known - 0.1 if not mask.isdigit() and known > 0.5 else 0.4 if known > 0.9 else 0.1
    if _AMERICAN.fullmatch(mask):
        return _american(digits, mask, book)
    if digits[0] == "0" and len(digits) >= 9 and _NATIONAL_SIGNS.fullmatch(mask):
        usual = b"-" not in mask or _HYPHENS.fullmatch(mask) is not None
        return (0.6 if usual else 0.45) if book.national(digits) else 0.2
    if digits[0] in "78" and _RUSSIAN.fullmatch(mask):
        return 0.6
    if _BRAZILIAN.fullmatch(mask):
        return 0.6 if book.national(digits) else 0.2
    return 0.42 if least <= 0.42 and book.national(digits) else 0.0


def _american(digits: str, mask: bytes, book: PhoneBook) -> float:
    if len(digits) == 11 and digits[0] != "1":
        return 0.2
    strong = b")" in mask or b"-" in mask
    return (0.75 if strong else 0.6) if book.national(digits[-10:]) else 0.6 if strong else 0.4
