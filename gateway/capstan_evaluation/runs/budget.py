"""The upper bound on what a run spends, which is never passed: what an ask may take is reserved before it is asked.

The bound is of the run and not of the process: a run that is gone on with begins with what its file says was spent.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from capstan_evaluation.records import Spent, Usage

_NANO: Final = 1_000_000_000


class BudgetSpent(Exception):
    """What is left is too little for the next ask."""


@dataclass
class _Left:
    """Of one kind; None: there is no bound."""

    most: int | None
    taken: int = 0
    reserved: int = 0

    def has_room(self, wanted: int) -> bool:
        return self.most is None or self.taken + self.reserved + wanted <= self.most

    def could_have(self, wanted: int) -> bool:
        """Whether there is room when everything that is reserved comes back."""
        return self.most is None or self.taken + wanted <= self.most


@dataclass(frozen=True)
class Reservation:
    """What one ask may take at most."""

    tokens: int
    nano: int


class Budget:
    """Tokens and dollars that are left. Money is whole nano-dollars, rounded up."""

    def __init__(self, *, tokens: int | None = None, dollars: float | None = None, spent: Spent | None = None) -> None:
        spent = spent or Spent()
        self._tokens = _Left(tokens, spent.inputTokens + spent.outputTokens + spent.doubtTokens)
        self._nano = _Left(None if dollars is None else int(dollars * _NANO), to_nano(spent.cost + spent.doubtCost))
        self._changed = asyncio.Event()
        self._open = 0

    @property
    def bounded(self) -> bool:
        """Whether there is a bound of either kind."""
        return self._tokens.most is not None or self.knows_money

    @property
    def knows_money(self) -> bool:
        """Whether dollars are bounded."""
        return self._nano.most is not None

    async def reserve(self, tokens: int, dollars: float) -> Reservation:
        """Set aside what an ask may take; wait while asks under way may give enough back.

        Raises BudgetSpent when what is left is too little even then.
        """
        wanted = Reservation(tokens, to_nano(dollars))
        while not (self._tokens.has_room(wanted.tokens) and self._nano.has_room(wanted.nano)):
            if not (self._open and self._tokens.could_have(wanted.tokens) and self._nano.could_have(wanted.nano)):
                raise BudgetSpent
            self._changed.clear()
            await self._changed.wait()
        self._open += 1
        self._tokens.reserved += wanted.tokens
        self._nano.reserved += wanted.nano
        return wanted

    def settle(self, reservation: Reservation, usage: Usage) -> None:
        """Put what an ask took in the place of what was set aside for it. Once for each reservation."""
        self._open -= 1
        self._tokens.reserved -= reservation.tokens
        self._nano.reserved -= reservation.nano
        self._tokens.taken += usage.inputTokens + usage.outputTokens + usage.doubtTokens
        self._nano.taken += to_nano((usage.cost or 0.0) + usage.doubtCost)
        self._changed.set()


def to_nano(dollars: float) -> int:
    """Give nano-dollars, rounded up, but for the noise of floats."""
    return -int(-(dollars * _NANO - 1e-6) // 1)
