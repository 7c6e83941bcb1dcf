"""What the filters of one stream hold back: counted in the process' budget of bytes, bounded in size and in time."""

from collections.abc import Callable
from typing import Final

from capstan_gateway.errors import GatewayError, Overloaded
from capstan_gateway.memory import Share
from capstan_gateway.streaming.filters import HeldTooMuch, HoldLimits

HELD_FACTOR: Final = 6
"""How much memory a chunk takes, by its size on the wire: parsed, and with one token of text in it, at most so many
times as much (measured with CPython 3.11 and orjson 3.11: 4.7, and its texts)."""


class HoldBack:
    """The account of one stream. Its clock runs while something is held and whoever sends the stream waits for more."""

    __slots__ = ("_left_at", "_limits", "_now", "_share", "_since", "held")

    def __init__(self, share: Share, limits: HoldLimits, now: Callable[[], float]) -> None:
        self._share = share
        self._limits = limits
        self._now = now
        self._since = self._left_at = now()
        self.held = 0

    def reckon(self, held: int) -> None:
        """Take note of how many bytes are held now. Raises HeldTooMuch, and Overloaded where the process is full."""
        limits, share = self._limits, self._share
        if held > limits.bytes:
            raise HeldTooMuch("the answer could not be checked: more of it would have to be held back than may be")
        wanted = HELD_FACTOR * held
        if wanted < share.held:
            share.shrink_to(wanted)
        elif not share.grow_to(wanted):
            raise Overloaded()
        self.held = held

    def something_came(self) -> None:
        """Something of the answer has come from the engine: if nothing is held, its time begins."""
        if not self.held:
            self._since = self._now()

    def something_went_on(self) -> None:
        """Something was given to the client, or is about to be: what is still held has its time anew."""
        self._since = self._now()

    def leave(self) -> None:
        """Whoever sends the stream has something to do: a client that reads slowly is not the filters' fault."""
        self._left_at = self._now()

    def come_back(self) -> None:
        """It waits for more again."""
        self._since += self._now() - self._left_at

    @property
    def seconds_left(self) -> float:
        """How long what is held may still be."""
        return max(0.0, self._since + self._limits.seconds - self._now())

    @property
    def patience(self) -> float | None:
        """How long to wait for the engine before the filters are asked again; None, for ever, when they hold nothing.

        The engine has deadlines of its own.
        """
        return min(self._limits.silence_seconds, self.seconds_left) if self.held else None

    def check_time(self) -> None:
        """Raise HeldTooMuch when it was held for too long."""
        if self.held and not self.seconds_left:
            raise self.too_long()

    def too_long(self) -> GatewayError:
        """What is raised then."""
        return HeldTooMuch("the answer could not be checked in time")

    def close(self) -> None:
        """Nothing is held any more."""
        self.held = 0
        self._share.release()
