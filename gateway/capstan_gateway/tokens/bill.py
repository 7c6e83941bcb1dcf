"""The bill of one request: every call that was sent for it, settled once.

A request may make many calls: attempts that failed, the loser of a hedge, the members of a cascade, its judges. All of
them are on the one bill of their request, and whoever wants to know what it has cost reads that: the header, the
metrics, the log, limits and budgets.

    told        the engine counted the whole answer, or all that came of one that was cut off: its numbers count
    estimated   nobody did, or only a part of it: of what was told and what the text has by the rule of
                `tokens.estimate` the larger one counts
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from capstan_gateway.tokens.usage import Usage


class How(StrEnum):
    """Where the numbers of a settled call come from."""

    TOLD = "told"
    ESTIMATED = "estimated"


TOLD: Final[How] = How.TOLD
ESTIMATED: Final[How] = How.ESTIMATED
"""NB: a member of an enumeration is looked up anew each time that its class is asked for it."""


def weigh(
    told: Usage | None, *, whole: bool, prompt: Callable[[], int], output: Callable[[], int]
) -> tuple[Usage, How]:
    """Say what a call has used; `whole` says that the answer came to its end, or was counted as far as it came.

    `prompt` and `output` estimate the input and what came of the answer, and are asked only where that is needed. An
    engine that tells the input of an answer which was cut off has counted all of it, so that only the output is
    compared with its estimate.
    """
    if told is not None and whole and not told.bare:
        if not told.reckoned:
            return told, TOLD
        ins, out = told.prompt_tokens or prompt(), told.completion_tokens or output()
        return told._replace(prompt_tokens=ins, completion_tokens=out), ESTIMATED
    if told is None:
        return Usage(prompt(), output()), ESTIMATED
    if told.bare:
        # Only the sum was told. The text says how much of it is output, and all of it is charged.
        out = min(output(), told.prompt_tokens)
        told = Usage(told.prompt_tokens - out, out)
        if whole:
            return told, TOLD
    if not told.prompt_tokens:
        told = told._replace(prompt_tokens=prompt())
    return told._replace(completion_tokens=max(told.completion_tokens, output())), ESTIMATED


class Spent(NamedTuple):
    """What a part of a bill comes to."""

    calls: int
    input_tokens: int
    output_tokens: int
    nano_dollars: int
    unpriced: int
    """Calls of which nobody knows what they cost."""


class _Once:
    """Does something the first time that it is called."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work

    def __call__(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work()


class Bill:
    """What one request has cost so far. Whole numbers only: nothing is lost by adding them."""

    # NB: most requests make one call, and nobody asks for a sum: what is added up is added up when it is asked for.
    __slots__ = ("_streams", "cached", "nano_dollars", "open", "priced", "settled")

    def __init__(self) -> None:
        self.settled: tuple[tuple[Usage, How, bool, int | None, str], ...] = ()
        """Of each call what it used, how that is known, whether it was not in vain, its price and the model that was
        called. A request makes a bounded number of calls."""
        self.open = 0
        """How many answers are on their way: what they cost is not known yet."""
        self._streams: tuple[_Once, ...] = ()
        self.nano_dollars = 0
        self.priced = False
        """Whether any call had a price: of others nobody knows what they cost."""
        self.cached: tuple[Usage, int] | None = None
        """What an answer out of a cache would have used and cost in nano-dollars, had a model given it; None: it is
        none. Nothing of it is on the bill: limits may count it all the same."""

    def add_cached(self, usage: Usage | None, nano_dollars: int | None) -> None:
        """Note that an answer came out of a cache, and what it would have used and cost, as far as that is known."""
        prompt, output, price = 0, 0, nano_dollars or 0
        if usage is not None:
            prompt, output = usage.prompt_tokens, usage.completion_tokens
        if self.cached is not None:
            # Of a cascade a draft may have been one as well.
            known, dollars = self.cached
            prompt, output, price = prompt + known.prompt_tokens, output + known.completion_tokens, price + dollars
        self.cached = Usage(prompt, output), price

    def soon(self, settle: Callable[[], None]) -> Callable[[], None]:
        """Give what settles a stream once, whoever says so first: the end of its ask or `settle_streams`."""
        once = _Once(settle)
        self._streams = (*self._streams, once)
        return once

    def settle_streams(self) -> None:
        """Settle the streams that can be settled before their asks end: they have come to their ends."""
        for settle in self._streams:
            settle()

    def add(self, usage: Usage, how: How, nano_dollars: int | None, answered: bool = True, model: str = "") -> None:
        """Put a call on the bill; its price is None where nobody has said what the model's tokens cost."""
        self.settled += ((usage, how, answered, nano_dollars, model),)
        if nano_dollars is not None:
            self.priced = True
            self.nano_dollars += nano_dollars

    @property
    def calls(self) -> int:
        """How many calls were settled."""
        return len(self.settled)

    @property
    def estimated(self) -> int:
        """How many of them by an estimate."""
        return sum(how is ESTIMATED for _, how, *_ in self.settled)

    @property
    def input_tokens(self) -> int:
        """All of the input, of all calls."""
        return sum(usage.prompt_tokens for usage, *_ in self.settled)

    @property
    def output_tokens(self) -> int:
        """All of the output, of all calls."""
        return sum(usage.completion_tokens for usage, *_ in self.settled)

    def since(self, calls: int) -> Spent:
        """Add up what was settled behind so many calls."""
        if len(self.settled) == calls + 1:
            (prompt, completion, *_), _, _, price, _ = self.settled[calls]
            return Spent(1, prompt, completion, price or 0, int(price is None))
        part = self.settled[calls:]
        return Spent(
            len(part),
            sum(usage.prompt_tokens for usage, *_ in part),
            sum(usage.completion_tokens for usage, *_ in part),
            sum(price or 0 for _, _, _, price, _ in part),
            sum(price is None for _, _, _, price, _ in part),
        )

    @property
    def answer(self) -> Usage | None:
        """What the newest answer used; attempts in vain are none."""
        return next((usage for usage, _, answered, *_ in reversed(self.settled) if answered), None)

    @property
    def how(self) -> How:
        """Where the numbers come from: estimated as soon as one call is."""
        return ESTIMATED if self.estimated else TOLD
