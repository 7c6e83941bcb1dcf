"""What tokens cost, in whole nano-dollars: money is never a float that is added up.

A price in the config is dollars per million tokens; a dollar is 10^9 nano-dollars, so that a million tokens of the
cheapest models still cost millions of them. One call is rounded once, up.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Self

from capstan_contract.config import Price
from capstan_gateway.tokens.usage import Usage

NANO: Final = 1_000_000_000
"""Nano-dollars of a dollar."""
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-dollars for a million tokens of each kind."""

    input: int
    cached: int
    written: int
    output: int

    @classmethod
    def of(cls, price: Price) -> Self:
        """Read a price: what it does not say of cached tokens, or of those written to a cache, costs like any input."""
        plain = to_nano(price.inputPerMillion)
        cached, written = price.cachedInputPerMillion, price.cacheWritePerMillion
        return cls(
            input=plain,
            cached=plain if cached is None else to_nano(cached),
            written=plain if written is None else to_nano(written),
            output=to_nano(price.outputPerMillion),
        )

    def cost(self, usage: Usage) -> int:
        """Give the price of one call in nano-dollars; never negative, whatever an engine tells."""
        prompt = max(0, usage.prompt_tokens)
        cached = min(max(0, usage.cached_tokens), prompt)
        written = min(max(0, usage.written_tokens), prompt - cached)
        total = (
            (prompt - cached - written) * self.input
            + cached * self.cached
            + written * self.written
            + max(0, usage.completion_tokens) * self.output
        )
        return -(-total // MILLION)


def to_nano(dollars: float) -> int:
    """Give dollars, as a config says them, in nano-dollars."""
    # NB: by its decimal digits: 0.15 is not exactly that as a float.
    return int((Decimal(repr(float(dollars))) * NANO).to_integral_value())


def to_dollars(nano: int) -> float:
    """Give nano-dollars as dollars, to be shown."""
    return nano / NANO


def dollars_text(nano: int) -> bytes:
    """Write nano-dollars as dollars with eight digits behind the point, rounded up; what costs something is not 0."""
    units = -(-nano // 10)
    return b"%d.%08d" % divmod(units, 100_000_000)
