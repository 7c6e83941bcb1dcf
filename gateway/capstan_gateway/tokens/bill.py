"""The bill of one request: every call that was made for it, settled once.

A request may make many calls: attempts that failed, the loser of a hedge, the members of a cascade, its judges. All of
them are on the one bill of their request, and whoever wants to know what it has cost reads that: the header, the
metrics, the log, limits and budgets.

    told        the engine counted the whole answer: its numbers count
    estimated   nobody did, or only a part of it: of input and output the larger one of what was told and what the
                text has by the rule of `tokens.estimate`
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from capstan_gateway.tokens.price import Rates
from capstan_gateway.tokens.usage import Usage


class How(StrEnum):
    """Where the numbers of a settled call come from."""

    TOLD = "told"
    ESTIMATED = "estimated"


class Settled(NamedTuple):
    """One call, as it was settled."""

    model: str
    """Id of the model that was called."""
    usage: Usage
    how: How
    nano_dollars: int | None
    """None where nobody has said what the model's tokens cost."""


def weigh(told: Usage | None, *, whole: bool, prompt: Callable[[], int], output: int) -> tuple[Usage, How]:
    """Say what a call has used; `whole` says that the answer came to its end.

    `prompt` gives the estimate of the input, and is asked only where that is needed; `output` is the estimate of what
    came of the answer.
    """
    if told is not None and whole and not told.bare:
        return told, How.TOLD
    if told is None:
        return Usage(prompt(), output), How.ESTIMATED
    if told.bare:
        # Only the sum was told. The text says how much of it is output, and all of it is charged.
        out = min(output, told.prompt_tokens)
        known = Usage(told.prompt_tokens - out, out)
        if whole:
            return known, How.TOLD
        told = known
    if not whole and not told.prompt_tokens:
        told = told._replace(prompt_tokens=prompt())
    return told._replace(completion_tokens=max(told.completion_tokens, output)), How.ESTIMATED


class Bill:
    """What one request has cost so far."""

    __slots__ = ("calls", "estimated", "nano_dollars", "priced", "usage")

    def __init__(self) -> None:
        self.calls = 0
        """How many calls were settled."""
        self.estimated = 0
        """How many of them by an estimate."""
        self.usage = Usage(0, 0)
        """Tokens of all calls."""
        self.nano_dollars = 0
        self.priced = False
        """Whether any call had a price."""

    def add(self, call: Settled) -> None:
        """Put a settled call on the bill."""
        self.calls += 1
        self.estimated += call.how is How.ESTIMATED
        self.usage = self.usage.plus(call.usage)
        if call.nano_dollars is not None:
            self.priced = True
            self.nano_dollars += call.nano_dollars

    @property
    def how(self) -> How:
        """Where the numbers come from: estimated as soon as one call is."""
        return How.ESTIMATED if self.estimated else How.TOLD


class OpenCall:
    """One call that may have been sent, until it is settled: that happens once, whoever asks for it again."""

    __slots__ = ("_bill", "_model", "_rates", "_settled", "_sink")

    def __init__(
        self, bill: Bill, model: str, rates: Rates | None, sink: Callable[[Settled], None] | None = None
    ) -> None:
        self._bill = bill
        self._model = model
        self._rates = rates
        self._sink = sink
        self._settled: Settled | None = None

    @property
    def settled(self) -> Settled | None:
        """What it came to; None while it is open."""
        return self._settled

    def settle(self, usage: Usage, how: How) -> Settled:
        """Settle it, and give what it came to; a second time changes nothing."""
        if self._settled is None:
            price = None if self._rates is None else self._rates.cost(usage)
            self._settled = Settled(self._model, usage, how, price)
            self._bill.add(self._settled)
            if self._sink is not None:
                self._sink(self._settled)
        return self._settled
