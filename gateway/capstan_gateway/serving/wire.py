"""The transport of a client's connection: what is sent, when it is read, how long things may take, and how it ends.

There is one timer, which is not moved when a deadline moves later: when it fires it looks at the deadline in force and
is set again if that lies ahead. A second one runs only while the client does not read what it was sent.
"""

import asyncio
import fcntl
import math
import sys
import termios
from collections.abc import Callable
from typing import Final

from capstan_gateway.memory import Share

LINGER_SECONDS: Final = 10.0
"""How long a connection that is to be closed may go without taking anything of what it is still to get."""
DISCARD_SECONDS: Final = 5.0
"""How long what a client still sends is thrown away behind the last answer. To close at once, with bytes unread, would
reset the connection, and the client might lose the answer that says why."""
PROGRESS_BYTES: Final = 16 * 1024
"""What a client must take of what waits for it within the time for writing, if it does not take all of it."""
REST_SECONDS: Final = 60.0
"""How long a client may take for the rest of an answer that is there to its end, beside the time for its bytes."""
REST_RATE: Final = 128 * 1024
"""Bytes a second with which it must take those, on the whole."""


class ClientWire:
    """The part of a connection that knows nothing of HTTP. For one transport, which it lets go when it is lost."""

    __slots__ = (
        "_discarding", "_kept", "_loop", "_on_deadline", "_on_stalled", "_rest_until", "_stall_timer",
        "_timer", "_timer_at", "_transport", "_unsent", "_write_seconds", "deadline", "paused",
        "reading_paused",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        write_seconds: float,
        on_deadline: Callable[[], object],
        on_stalled: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._discarding = False
        """Whether the connection only waits for the client to stop sending."""
        self.reading_paused = False
        """Whether nothing is read for now."""
        self.paused = False
        """Whether what was sent waits for the client to read."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self.deadline = math.inf
        """The deadline in force, in the loop's time."""
        self._on_deadline: Callable[[], object] | None = on_deadline
        """Called when a deadline is over; it decides what becomes of the connection."""
        self._write_seconds = write_seconds
        self._on_stalled: Callable[[], object] | None = on_stalled
        """Called before a connection is cut off whose client does not read."""
        self._stall_timer: asyncio.TimerHandle | None = None
        self._unsent = 0
        """What waited for the client when the time for writing began."""
        self._rest_until = math.inf
        """When the client must have taken all of an answer that is there to its end."""
        self._kept: list[Share] = []
        """What is released when the client has read what was sent."""

    # --- the transport ----------------------------------------------------------------------------------------------

    def attach(self, transport: asyncio.Transport) -> None:
        """Begin with a transport."""
        self._transport = transport

    def detach(self) -> None:
        """Let go of a transport that is lost, and of everybody who waits for something of it."""
        self._transport = self._on_deadline = self._on_stalled = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = math.inf
        self._caught_up()

    @property
    def lost(self) -> bool:
        """Whether there is no transport (any more)."""
        return self._transport is None

    @property
    def ending(self) -> bool:
        """Whether nothing more can be sent: it is closed, or only waits for the client to stop sending."""
        return self._transport is None or self._discarding or self._transport.is_closing()

    @property
    def closing(self) -> bool:
        """Whether it is closed, or lost."""
        return self._transport is None or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send, unless the connection is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self.reading_paused and self._transport is not None:
            self.reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again: only so is a client noticed that goes away."""
        if self.reading_paused and self._transport is not None:
            self.reading_paused = False
            self._transport.resume_reading()

    # --- clients that do not read -----------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client reads too slowly: from now on it has so long to catch up, or to take a part of it."""
        self.paused = True
        self._unsent = self._waiting()
        self._watch()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._caught_up()

    def keep(self, share: Share) -> None:
        """Release a share when the client has read what was sent, which is at once if nothing waits for it."""
        if self.paused:
            self._kept.append(share)
        else:
            share.release()

    def bound_rest(self) -> None:
        """All of the answer is there: however steadily its client takes it, from now on there is an end to that."""
        if self.paused:
            self._rest_until = self._loop.time() + _seconds_for(self._waiting())

    def _watch(self) -> None:
        if self._stall_timer is None:
            self._stall_timer = self._loop.call_later(self._write_seconds, self._look_at_stall)

    def _look_at_stall(self) -> None:
        self._stall_timer = None
        if not self.paused or self._transport is None:
            return
        waiting = self._waiting()
        if waiting > self._unsent - PROGRESS_BYTES or self._loop.time() >= self._rest_until:
            if self._on_stalled is not None:
                self._on_stalled()
            self.abort()
            return
        self._unsent = waiting
        self._watch()

    def _caught_up(self) -> None:
        self.paused = False
        self._rest_until = math.inf
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        if self._kept:
            for share in self._kept:
                share.release()
            self._kept.clear()

    def _waiting(self) -> int:
        """How many bytes the client has not taken, those that the kernel holds among them where it tells."""
        if self._transport is None:
            return 0
        return self._transport.get_write_buffer_size() + _unacknowledged(self._transport)

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close when what was sent has arrived; a client that does not read it is not waited for."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.close()
        left = transport.get_write_buffer_size()
        if left:
            self._loop.call_later(LINGER_SECONDS, self._linger, left, self._loop.time() + _seconds_for(left))

    def close_behind_upload(self) -> None:
        """Say that this was all, and throw away for a moment what still comes."""
        if self._transport is not None:
            self._discarding = True
            self.resume_reading()
            self._transport.write_eof()
            self.set_deadline(DISCARD_SECONDS)

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def _linger(self, before: int, until: float) -> None:
        if self._transport is None:
            return
        left = self._transport.get_write_buffer_size()
        if left >= before or (left and self._loop.time() >= until):
            self._transport.abort()
        elif left:
            self._loop.call_later(LINGER_SECONDS, self._linger, left, until)

    # --- deadlines --------------------------------------------------------------------------------------------------

    def set_deadline(self, seconds: float) -> None:
        """Have `on_deadline` called in so many seconds, in place of the deadline that was in force."""
        self.deadline = at = self._loop.time() + seconds
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._look_at_deadline)

    def clear_deadline(self) -> None:
        """Have no deadline."""
        self.deadline = math.inf

    def _look_at_deadline(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._loop.time() >= self.deadline:
            if self._discarding:
                self.close()
            elif self._on_deadline is not None:
                self._on_deadline()
        elif self.deadline < math.inf:
            self._timer_at = self.deadline
            self._timer = self._loop.call_at(self.deadline, self._look_at_deadline)


def _seconds_for(size: int) -> float:
    """How long a client may take for so many bytes."""
    return REST_SECONDS + size / REST_RATE


def _unacknowledged(transport: asyncio.Transport) -> int:
    """What the kernel has taken and the client has not: without it a slow reader of a large buffer looks like none."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"), sys.byteorder)
    except OSError:
        return 0  # Not every system tells.
