"""Payment cards: by the ranges of their issuers, their lengths and the check digit (ISO/IEC 7812)."""

from collections.abc import Iterator
from typing import Final

from capstan_contract.guards import PiiKind
from capstan_gateway.guards.pii.numbers import Number
from capstan_gateway.guards.pii.raw import Raw
from capstan_gateway.guards.pii.scan import Scanned
from capstan_gateway.guards.pii.words import Word

_IRAN: Final = (
    "502229", "502806", "502908", "502938", "504172", "505416", "505785", "505801", "507677", "585983", "589210",
    "589463", "603769", "603770", "603799", "606256", "606373", "610433", "621986", "622106", "627353", "627381",
    "627412", "627488", "627648", "627760", "627961", "628023", "628157", "636214", "636949", "639217", "639346",
    "639347", "639370", "639599", "639607", "991975",
)  # fmt: skip
"""With which the cards of Iran's banks begin (Shetab)."""
_RANGES: Final = (
    # first and last number with which its cards begin, lengths, and whether most cards of the world are like that
    ("4", "4", (16,), True),  # Visa
    ("4", "4", (13,), True),  # no article: see _is_article
    ("4", "4", (19,), True),
    ("51", "55", (16,), True),  # Mastercard
    ("2221", "2720", (16,), True),
    ("34", "34", (15,), True),  # American Express
    ("37", "37", (15,), True),
    ("6011", "6011", (16,), True),  # Discover
    ("644", "659", (16,), True),
    ("300", "305", (14,), True),  # Diners Club
    ("3095", "3095", (14,), True),
    ("36", "36", (14,), True),
    ("38", "39", (14,), True),
    ("30", "30", (16, 17, 18, 19), False),
    ("36", "39", (16, 17, 18, 19), False),
    ("3500", "3599", (16,), True),  # JCB has 3528 to 3589, and the test numbers of many generators the rest
    ("3528", "3589", (17, 18, 19), False),
    ("2131", "2131", (15,), True),
    ("1800", "1800", (15,), True),
    ("62", "62", (16,), True),  # UnionPay
    ("62", "62", (17, 18, 19), False),
    ("2200", "2205", (16, 17, 18, 19), True),  # Mir, GPN
    ("60", "60", (16,), True),  # RuPay
    ("81", "82", (16,), False),
    ("508", "508", (16,), True),
    ("9792", "9792", (16,), True),  # Troy
    ("5018", "5018", (16, 17, 18, 19), True),  # Maestro
    ("5020", "5020", (16, 17, 18, 19), True),
    ("5038", "5038", (16, 17, 18, 19), True),
    ("6304", "6304", (16, 17, 18, 19), True),
    ("6759", "6763", (16, 17, 18, 19), True),
    ("5018", "5018", (12,), True),
    ("5020", "5020", (12,), True),
    ("5038", "5038", (12,), True),
    ("56", "58", (12,), True),
    ("0604", "0604", (12,), True),
    ("6304", "6304", (12,), True),
    ("6390", "6390", (12,), True),
    ("67", "67", (12, 16), True),
    *((begin, begin, (16,), True) for begin in _IRAN),
    ("50", "50", (12, 13, 14, 15, 16, 17, 18, 19), False),  # Maestro of other lengths, Elo, Verve
    ("56", "58", (12, 13, 14, 15, 16, 17, 18, 19), False),
    ("6", "6", (12, 13, 14, 15, 16, 17, 18, 19), False),
)
_GROUPS: Final = (
    (4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4, 2), (4, 4, 4, 4, 1), (4, 4, 4), (4, 4, 5),
    (4, 5, 4), (4, 4, 4, 3), (4, 4, 4, 2), (4, 4, 4, 1), (6, 13), (8, 8),
)  # fmt: skip
_GROUPED: Final = frozenset(
    separator.join(b"9" * length for length in lengths) for separator in (b" ", b"-", b".") for lengths in _GROUPS
)
_VALUES: Final = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED: Final = bytes.maketrans(bytes(range(10)), bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))


def luhn(digits: str) -> bool:
    """Tell whether the last digit is the check digit of the others, by Luhn's rule."""
    values = digits.encode("ascii").translate(_VALUES)
    return (sum(values[-1::-2]) + sum(values[-2::-2].translate(_DOUBLED))) % 10 == 0


def is_written_so(mask: bytes, digits: int) -> bool:
    """Tell whether cards are written as a number is."""
    return digits >= 12 and (mask.isdigit() or mask in _GROUPED)


def find_card(scanned: Scanned, number: Number) -> Iterator[Raw]:
    """Give the card that a number is."""
    if not is_written_so(number.mask, len(number.digits)):
        return
    if luhn(number.digits) and scanned.alone(number.start, number.end):
        if scanned.view.folded[number.start - 1 : number.start] == b"+":
            return
        usual = _usual(number.digits)
        usual = False if usual and _is_article(number) else usual
        yield Raw(PiiKind.CARD, number.start, number.end, _score(scanned, number, usual=usual))


def _is_article(number: Number) -> bool:
    """Tell whether thirteen digits in one have the check digit of articles (EAN): those of many countries begin with 4.

    A card whose number has both needs a word.
    """
    if len(number.digits) != 13 or not number.mask.isdigit():
        return False
    return sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(number.digits)) % 10 == 0


def _usual(digits: str) -> bool | None:
    """Tell whether a card so begins and is as long as most; None: there are no such cards."""
    found: bool | None = None
    for low, high, lengths, usual in _RANGES:
        if len(digits) in lengths and low <= digits[: len(low)] <= high:
            found = found or usual
    return found


def _score(scanned: Scanned, number: Number, *, usual: bool | None) -> float:
    card = scanned.near((Word.CARD,), number.start, number.end)
    thing = scanned.told((Word.THING,), number.start)
    if card is not None and (thing is None or card <= thing):
        return 0.6 if usual is None else 0.99
    payment = scanned.near((Word.PAYMENT,), number.start, number.end)
    if usual is False and payment is not None and (thing is None or payment <= thing):
        return 0.6
    base = 0.9 if usual else 0.2 if usual is None else 0.4
    if not number.mask.isdigit():
        base = max(base + 0.07, 0.55 if usual is False and len(number.digits) == 16 else 0)
    return base if thing is None or thing > 24 else base - 0.45
