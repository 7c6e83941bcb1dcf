"""How far a run is: a bar for a terminal, a line now and then for a log. Pure, but for who writes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TextIO

BAR_SECONDS: Final = 0.1
LINE_SECONDS: Final = 15.0
_WIDEST_BAR: Final = 30


@dataclass(frozen=True)
class Tally:
    """What there is to tell."""

    done: int
    of: int
    resumed: int = 0
    """Of `done`: what was there before this process began."""
    errors: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Results a second, of this process."""
        return (self.done - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that it takes at this rate; None: nobody can tell yet."""
        return (self.of - self.done) / self.rate if self.rate > 0 else None


def as_line(tally: Tally) -> str:
    """Say it in words."""
    left = "" if tally.left is None or tally.done >= tally.of else f", {as_duration(tally.left)} left"
    errors = f", {tally.errors} errors" if tally.errors else ""
    return f"{tally.done}/{tally.of}{errors}, {tally.rate:.1f}/s{left}"


def as_bar(tally: Tally, width: int) -> str:
    """Give a bar and the words beside it, in `width` columns; the words alone where there is no room for both."""
    words = as_line(tally)
    room = min(_WIDEST_BAR, width - len(words) - 4)
    if room < 5:
        return words[: max(0, width - 1)]
    full = room * tally.done // tally.of if tally.of else room
    return f"[{'#' * full}{'.' * (room - full)}] {words}"


def as_duration(seconds: float) -> str:
    """Give a time as people say it: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Progress:
    """Tells of results as they come: at most ten times a second on a terminal, every 15 s elsewhere."""

    def __init__(
        self, out: TextIO, of: int, resumed: int, *, now: Callable[[], float], width: Callable[[], int]
    ) -> None:
        self._out = out
        self._of = of
        self._done = self._resumed = resumed
        self._errors = 0
        self._now = now
        self._began = now()
        self._width = width
        self._terminal = out.isatty()
        self._told: float | None = None

    def result(self, *, failed: bool) -> None:
        """There is one more."""
        self._done += 1
        self._errors += failed
        every = BAR_SECONDS if self._terminal else LINE_SECONDS
        if self._now() - (self._told if self._told is not None else self._began) >= every:
            self._tell()

    def close(self) -> None:
        """Tell how far it came."""
        self._tell()
        if self._terminal:
            self._out.write("\n")
            self._out.flush()

    def _tell(self) -> None:
        self._told = self._now()
        tally = Tally(self._done, self._of, self._resumed, self._errors, self._told - self._began)
        text = f"\r\x1b[K{as_bar(tally, self._width())}" if self._terminal else f"{as_line(tally)}\n"
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):
            """Who looked has gone; the run goes on."""
