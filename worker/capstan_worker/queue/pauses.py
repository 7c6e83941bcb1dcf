"""How long to wait before something is tried again."""

from random import Random


class Pause:
    """Doubles from `least` to `most` seconds, give or take a fifth, until it is reset."""

    def __init__(self, least: float, most: float, rng: Random | None = None) -> None:
        self._least = least
        self._most = most
        self._next = least
        self._rng = rng or Random()  # noqa: S311  # no secret

    def next(self) -> float:
        """Give the next pause."""
        pause, self._next = self._next, min(self._next * 2, self._most)
        return pause * self._rng.uniform(0.8, 1.2)

    def reset(self) -> None:
        """What was tried has worked."""
        self._next = self._least
