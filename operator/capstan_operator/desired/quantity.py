"""Kubernetes quantities ("500m", "32Gi") by value."""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

_QUANTITY: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d{1,3})?")
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def parse_quantity(value: object) -> Decimal | None:
    """Give the value of a quantity; None for what is none."""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        return None
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix in _BINARY:
        return number * Decimal(1024 ** _BINARY[suffix])
    exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    return number.scaleb(exponent)


def multiply_cpu(*amounts: tuple[str | None, int]) -> str | None:
    """Give the sum of CPU quantities, each so many times, as cores or millicores; None where there is nothing."""
    total = _sum(amounts)
    if total is None:
        return None
    count = int((total * 1000).to_integral_value(ROUND_CEILING))
    return f"{count}m" if count % 1000 else str(count // 1000)


def multiply_bytes(*amounts: tuple[str | None, int]) -> str | None:
    """Give the sum of quantities of bytes, each so many times, exactly, in as few characters as there can be; None
    where there is nothing. What is less than a byte is one."""
    total = _sum(amounts)
    if total is None:
        return None
    count = int(total.to_integral_value(ROUND_CEILING))
    units = {suffix: 1024**power for suffix, power in _BINARY.items()}
    units |= {suffix: 10**power for suffix, power in _DECIMAL.items() if power >= 0}
    found = [f"{count // size}{suffix}" for suffix, size in units.items() if count % size == 0]
    return min(found, key=lambda text: (len(text), text))


def _sum(amounts: tuple[tuple[str | None, int], ...]) -> Decimal | None:
    total = sum((times * (parse_quantity(text) or Decimal(0)) for text, times in amounts if text), Decimal(0))
    return total if total > 0 else None
