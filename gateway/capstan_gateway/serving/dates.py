"""The `date` header (RFC 9110, 6.6.1), written once a second."""

import time
from collections.abc import Callable
from email.utils import formatdate


class DateLine:
    """Knows what the time is, as a header line."""

    __slots__ = ("_clock", "_line", "_second")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._second = -1
        self._line = b""

    def __call__(self) -> bytes:
        """The header of an answer that is written now, with its line end."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._line = b"date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._line
