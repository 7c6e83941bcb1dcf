"""How urgent a request is, and what share of the engines its tenant has beside others. Pure.

A credential's tier decides; what the client says may only lower that:

    service_tier   priority        the tier's class, HIGH at most
                   auto, nothing   the tier's class
                   default         DEFAULT, or the tier's class where that is less urgent
                   flex            LOW, or the tier's class where that is less urgent
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from capstan_contract.queue.names import PriorityClass

MOST_WEIGHT: Final = 1000.0
LEAST_WEIGHT: Final = 0.001
_SAID: Final[Mapping[str, PriorityClass]] = MappingProxyType(
    {"default": PriorityClass.DEFAULT, "standard": PriorityClass.DEFAULT, "standard_only": PriorityClass.DEFAULT,
     "flex": PriorityClass.LOW, "batch": PriorityClass.BATCH}
)  # fmt: skip
"""What a client may lower its class to. Of other words nothing is known, and they change nothing."""
FORM: Final = "must be TIER=CLASS or TIER=CLASS:WEIGHT, with a class of high, default, low and batch"


@dataclass(frozen=True, slots=True)
class Urgency:
    """What a tier gets."""

    priority: PriorityClass = PriorityClass.DEFAULT
    weight: float = 1.0
    """Above 0: of tenants that all have work waiting, each gets tokens in proportion to it."""


USUAL: Final = Urgency()


def read_tiers(entries: Iterable[str]) -> Mapping[str, Urgency]:
    """Read tiers as they are set: `premium=high:4`. Raises ValueError that says what is wrong."""
    tiers: dict[str, Urgency] = {}
    for entry in entries:
        tier, equals, said = entry.partition("=")
        name, colon, weight = said.partition(":")
        if not tier or not equals or name.upper() not in PriorityClass.__members__:
            raise ValueError(f"{entry!r} {FORM}")
        if tier in tiers:
            raise ValueError(f"{entry!r}: the tier is there twice")
        tiers[tier] = Urgency(PriorityClass[name.upper()], _weight(entry, weight) if colon else 1.0)
    return tiers


def _weight(entry: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
        raise ValueError(f"{entry!r}: the weight must be a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}")
    return weight


def urgency_of(tiers: Mapping[str, Urgency], tier: str, service_tier: Any) -> Urgency:
    """Give what a request gets whose credential is of this tier ("" for none), and which says this `service_tier`."""
    own = tiers.get(tier, USUAL)
    lowered = _SAID.get(service_tier) if isinstance(service_tier, str) else None
    if lowered is None or lowered <= own.priority:
        return own
    return Urgency(lowered, own.weight)
