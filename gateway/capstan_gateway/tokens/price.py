"""What tokens cost, in whole nano-dollars: money is never a float that is added up.

A price in the config is dollars per million tokens; a dollar is 10^9 nano-dollars, so that a million tokens of the
cheapest models still cost millions of them. One call is rounded once, up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, Self

from capstan_contract.config import Price
from capstan_gateway.tokens.usage import Usage

NANO: Final = 1_000_000_000
"""Nano-dollars of a dollar."""
MILLION: Final = 1_000_000
MINUTE: Final = 60
"""Seconds of one."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-dollars for a million tokens of each kind, and for a minute of sound.

    Every token is of one kind. Input is what was written into a cache (for an hour, or for less), sound, what was read
    from a cache, or any other. Engines do not tell how much of the sound came from a cache: all of it costs what sound
    costs, and what did not come from a cache is sound first. Output is thoughts, sound, or any other. A tier holds for
    all tokens of a request whose whole input is above its bound, as the providers that have tiers charge it.
    """

    input: int
    cached: int
    written: int
    output: int
    hour: int
    audio: int
    thought: int
    spoken: int
    tiers: "tuple[tuple[int, Rates], ...]" = ()
    """Bounds of the input and the rates above them, the highest first."""
    minute: int = 0
    """Of sound that is heard: beside its tokens, and in no tier."""

    @classmethod
    def of(cls, price: Price) -> Self:
        """Read a price: what it does not say of a kind costs like any input, or any output; of a tier, as below it."""
        said = {field: value for field in _FIELDS if (value := getattr(price, field)) is not None}
        base, tiers = cls._of(said), list[tuple[int, Rates]]()
        for tier in price.tiers:
            said |= {field: value for field in _FIELDS if (value := getattr(tier, field)) is not None}
            tiers.append((tier.aboveInputTokens, cls._of(said)))
        minute = to_nano(price.audioInputPerMinute or 0)
        return replace(base, tiers=tuple(reversed(tiers)), minute=minute) if tiers or minute else base

    @classmethod
    def _of(cls, said: Mapping[str, float]) -> Self:
        nano = {field: to_nano(dollars) for field, dollars in said.items()}
        plain, output = nano["inputPerMillion"], nano["outputPerMillion"]
        written = nano.get("cacheWritePerMillion", plain)
        return cls(
            input=plain,
            cached=nano.get("cachedInputPerMillion", plain),
            written=written,
            output=output,
            hour=nano.get("cacheWriteHourPerMillion", written),
            audio=nano.get("audioInputPerMillion", plain),
            thought=nano.get("reasoningPerMillion", output),
            spoken=nano.get("audioOutputPerMillion", output),
        )

    def above(self, prompt_tokens: int) -> "Rates":
        """Give what holds for a request with so much input."""
        for bound, rates in self.tiers:
            if prompt_tokens > bound:
                return rates
        return self

    def of_tokens(self, prompt: int, output: int) -> int:
        """Give the price of so many tokens, at least 0, of which none is of a kind of its own."""
        rates = self.above(prompt) if self.tiers else self
        return -(-(prompt * rates.input + output * rates.output) // MILLION)

    def cost(self, usage: Usage) -> int:
        """Give the price of one call in nano-dollars; never negative, whatever an engine tells."""
        prompt, output, cached, written, _, hour, audio, thought, spoken, _, seconds = usage
        rates = self.above(prompt) if self.tiers else self
        if not (cached or written or audio or thought or spoken or seconds) and prompt >= 0 <= output:
            return -(-(prompt * rates.input + output * rates.output) // MILLION)
        tokens = rates._of_kinds(prompt, output, cached, written, hour, audio, thought, spoken)
        return -(-(tokens * MINUTE + seconds * self.minute * MILLION) // (MINUTE * MILLION))

    def _of_kinds(
        self, prompt: int, output: int, cached: int, written: int, hour: int, audio: int, thought: int, spoken: int
    ) -> int:
        fresh, output = max(0, prompt), max(0, output)
        cached = min(max(0, cached), fresh)
        fresh -= cached
        written = min(max(0, written), fresh)
        fresh -= written
        hour = min(max(0, hour), written)
        audio = min(max(0, audio), fresh + cached)
        fresh, cached = fresh - min(audio, fresh), cached - max(0, audio - fresh)
        thought = min(max(0, thought), output)
        spoken = min(max(0, spoken), output - thought)
        return (
            fresh * self.input
            + cached * self.cached
            + (written - hour) * self.written
            + hour * self.hour
            + audio * self.audio
            + (output - thought - spoken) * self.output
            + thought * self.thought
            + spoken * self.spoken
        )


_FIELDS: Final = (
    "inputPerMillion", "cachedInputPerMillion", "cacheWritePerMillion", "cacheWriteHourPerMillion",
    "audioInputPerMillion", "outputPerMillion", "reasoningPerMillion", "audioOutputPerMillion",
)  # fmt: skip


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
