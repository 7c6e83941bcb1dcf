"""The transport of a client's connection: what is sent, when it is read, how long things may take, and how it ends.

There is one timer, which is not moved when a deadline moves later: when it fires it looks at the deadline in force and
is set again if that lies ahead.
"""

import asyncio
import math
from abc import abstractmethod
from typing import Final

LINGER_SECONDS: Final = 10.0
"""How long a connection that is to be closed may go without taking anything of what it is still to get."""
DISCARD_SECONDS: Final = 5.0
"""How long what a client still sends is thrown away behind the last answer. To close at once, with bytes unread, would
reset the connection, and the client might lose the answer that says why."""


class ClientWire(asyncio.Protocol):
    """The part of a connection that knows nothing of HTTP."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._discarding = False
        """Whether the connection only waits for the client to stop sending."""
        self._reading_paused = False
        self.paused = False
        """Whether what was sent waits for the client to read."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._deadline = math.inf

    @abstractmethod
    def on_deadline(self) -> None:
        """Decide what becomes of a connection whose deadline is over."""

    def write(self, data: bytes) -> None:
        """Send, unless the connection is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again: only so is a client noticed that goes away."""
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()

    # --- the end ----------------------------------------------------------------------------------------------------

    def _close_now(self) -> None:
        """Close when what was sent has arrived; a client that does not read it is not waited for."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.close()
        left = transport.get_write_buffer_size()
        if left:
            self._loop.call_later(LINGER_SECONDS, self._linger, left)

    def _close_behind_upload(self) -> None:
        """Say that this was all, and throw away for a moment what still comes."""
        if self._transport is not None:
            self._discarding = True
            self.resume_reading()
            self._transport.write_eof()
            self._set_deadline(DISCARD_SECONDS)

    def _linger(self, before: int) -> None:
        if self._transport is None:
            return
        left = self._transport.get_write_buffer_size()
        if left >= before:
            self._transport.abort()
        elif left:
            self._loop.call_later(LINGER_SECONDS, self._linger, left)

    # --- deadlines --------------------------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = at = self._loop.time() + seconds
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._loop.time() >= self._deadline:
            if self._discarding:
                self._close_now()
            else:
                self.on_deadline()
        elif self._deadline < math.inf:
            self._timer_at = self._deadline
            self._timer = self._loop.call_at(self._deadline, self._look_at_deadline)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = math.inf
