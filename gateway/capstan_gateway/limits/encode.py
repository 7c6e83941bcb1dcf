"""What the scripts are asked, and what they answer, in words of Redis. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from struct import pack
from typing import Final

from capstan_gateway.limits.charges import amounts_of, checked_lease, wishes_of
from capstan_gateway.limits.port import Charge, Standing, Verdict
from capstan_gateway.limits.reservations import Kind
from capstan_gateway.limits.script import HOLD, OUTCOMES, PREFIX, RENEW, SETTLE

_KNOWN_PREFIXES: Final = 4_096
_HEAD: Final = 3


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script."""

    script: str
    keys: tuple[str, ...]
    arguments: tuple[bytes, ...]
    """One: numbers, as doubles in a row, the most significant byte first."""


@lru_cache(_KNOWN_PREFIXES)
def prefix_of(group: str) -> str:
    """Give what all keys of a group begin with: its hash (BLAKE2b, 80 bits), the tag that keeps them together."""
    return f"{PREFIX}{{{blake2b(group.encode('utf-8', 'surrogatepass'), digest_size=10).hexdigest()}}}:"


def reserve_call(id: str, charges: Sequence[Charge], *, lease_ms: int, keeps: bool, force: bool) -> Call:
    """Ask for a reservation. Raises ValueError for what can never be right."""
    return _hold(id, charges, (0,) * len(charges), (0, checked_lease(lease_ms), int(keeps), int(force)))


def extend_call(id: str, charges: Sequence[Charge], used: Sequence[int]) -> Call:
    """Ask for more. Raises ValueError for what can never be right."""
    amounts = (*amounts_of(used), *(0,) * len(charges))[: len(charges)]
    return _hold(id, charges, amounts, (1, 0, 0, 0))


def settle_call(group: str, id: str, used: Sequence[int]) -> Call:
    """Say what was used. Raises ValueError for what can never be right."""
    prefix = prefix_of(group)
    return Call(SETTLE, (f"{prefix}l", f"{prefix}i:{id}"), _packed(amounts_of(used)))


def renew_call(group: str, used: Sequence[tuple[str, Sequence[int]]], lease_ms: int) -> Call:
    """Begin leases anew. Raises ValueError for what can never be right."""
    prefix = prefix_of(group)
    checked = {id: amounts_of(amounts) for id, amounts in used}
    keys = (f"{prefix}l", *(f"{prefix}i:{id}" for id in checked))
    numbers = [checked_lease(lease_ms)]
    for amounts in checked.values():
        numbers += (len(amounts), *amounts)
    return Call(RENEW, keys, _packed(numbers))


def verdict_of(reply: Sequence[int]) -> Verdict:
    """Read the answer to a reservation, or to one that is to be extended."""
    outcome, denied, wait_ms = reply[:_HEAD]
    numbers = iter(reply[_HEAD:])
    standings = tuple(Standing(remaining, reset_ms) for remaining, reset_ms in zip(numbers, numbers, strict=True))
    return Verdict(OUTCOMES[outcome], standings, denied, wait_ms)


def _hold(id: str, charges: Sequence[Charge], used: Sequence[int], options: tuple[int, ...]) -> Call:
    group, wishes = wishes_of(charges)
    prefix = prefix_of(group)
    keys = (f"{prefix}l", f"{prefix}i:{id}", *(f"{prefix}{wish.name}" for wish in wishes))
    numbers = [*options]
    for wish, amount in zip(wishes, used, strict=True):
        terms = wish.terms.numbers if wish.terms.kind is Kind.RATE else (wish.terms.limit, *wish.terms.numbers)
        numbers += (wish.terms.kind, wish.amount, amount, len(terms), *terms)
    return Call(HOLD, keys, _packed(numbers))


def _packed(numbers: Sequence[int]) -> tuple[bytes]:
    return (pack(f">{len(numbers)}d", *numbers),)
