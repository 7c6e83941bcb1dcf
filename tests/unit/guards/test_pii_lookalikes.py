"""Numbers of things, as shops, parcels, books and programs have them: few in a hundred may be taken for a person's."""

from collections.abc import Callable
from random import Random

import pytest

from capstan_contract.guards import NAMED_KINDS, PiiKind, Source
from capstan_gateway.guards.pii.detector import pii_detector

DETECTOR = pii_detector(dict.fromkeys(set(PiiKind) - NAMED_KINDS))
AROUND = (
    "{}",
    "The value is {} as of today.",
    "id={}",
    '"id": "{}"',
    "order {}",
    "Tracking: {}",
    "[{}]",
    "row {} | ok",
)


def digits(random: Random, count: int) -> str:
    """Give some digits."""
    return "".join(random.choices("0123456789", k=count))


def letters(random: Random, count: int, of: str = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789") -> str:
    """Give some letters and digits."""
    return "".join(random.choices(of, k=count))


def article(random: Random, begins: str, count: int) -> str:
    """Give the number of an article (EAN, UPC, ISBN) with its check digit."""
    body = begins + digits(random, count - 1 - len(begins))
    return body + str(-sum(int(digit) * (1, 3)[place % 2 == 0] for place, digit in enumerate(reversed(body))) % 10)


MADE: dict[str, Callable[[Random], str]] = {
    "order": lambda random: digits(random, random.randint(6, 12)),
    "order with hyphens": lambda random: f"{digits(random, 3)}-{digits(random, 7)}-{digits(random, 7)}",
    "order with letters": lambda random: f"ORD-{digits(random, 4)}-{digits(random, 6)}",
    "invoice": lambda random: f"INV-{random.randint(2015, 2030)}-{digits(random, 5)}",
    "parcel": lambda random: "1Z" + letters(random, 16),
    "long parcel": lambda random: "9400" + digits(random, 18),
    "ISBN": lambda random: article(random, "978", 13),
    "EAN": lambda random: article(random, random.choice(("40", "50", "87", "30", "69")), 13),
    "UPC": lambda random: article(random, "0", 12),
    "SKU": lambda random: f"{digits(random, 5)}-{digits(random, 5)}",
    "part": lambda random: f"{digits(random, 3)}-{digits(random, 4)}-{digits(random, 2)}",
    "ZIP+4": lambda random: f"{digits(random, 5)}-{digits(random, 4)}",
    "seconds": lambda random: str(random.randint(1_400_000_000, 1_800_000_000)),
    "milliseconds": lambda random: str(random.randint(1_400_000_000_000, 1_800_000_000_000)),
    "snowflake": lambda random: str(random.randint(10**17, 2 * 10**18)),
    "day and time": lambda random: f"2024-{random.randint(1, 12):02}-{random.randint(1, 28):02} 12:{digits(random, 2)}",
    "version": lambda random: (
        f"version {random.randint(0, 30)}.{random.randint(0, 30)}.{digits(random, 4)}.{digits(random, 2)}"
    ),
    "hash": lambda random: letters(random, 40, "0123456789abcdef"),
    "price": lambda random: f"${random.randint(1, 999)},{digits(random, 3)}.{digits(random, 2)}",
    "place": lambda random: f"{random.uniform(-90, 90):.6f}, {random.uniform(-180, 180):.6f}",
    "list": lambda random: " ".join(digits(random, random.randint(2, 4)) for _ in range(12)),
    "IBAN without check": lambda random: f"DE{digits(random, 2)}{letters(random, 4)}{digits(random, 14)}",
    "IMEI": lambda random: digits(random, 15),
}


@pytest.mark.parametrize("name", MADE)
def test_numbers_of_things_are_left_alone(name: str) -> None:
    """Of three hundred of each at most three are taken for something."""
    random = Random(f"look-alikes: {name}")  # noqa: S311
    texts = [random.choice(AROUND).format(MADE[name](random)) for _ in range(300)]
    taken = [text for text in texts if DETECTOR.scan(text, Source.USER).findings]
    assert len(taken) <= 3, taken
