"""Ends a process that holds the lease and cannot prove it, even when its event loop hangs.

Whoever waits for the lease begins when it has not been renewed for its duration. A holder whose loop is blocked (a call
that does not return, a lock, a library that holds the interpreter) would notice nothing, and write on when it comes to
itself, beside the new one. So a watchdog that needs neither the loop nor the interpreter counts down: each renewal
winds it up again, and when none came in time it prints where every thread is and ends the process with exit code 1.
"""

import faulthandler
import logging
from typing import Final, Protocol

log = logging.getLogger(__name__)


class Fence(Protocol):
    """What a leader winds up with each renewal."""

    def extend(self, seconds: float) -> None:
        """Let the process live for so long from now, unless this is called again."""
        ...

    def disarm(self) -> None:
        """Let the process live: it does nothing any more that needs the lease."""
        ...


class NoFence:
    """Ends nothing: for leaders that do not own their process."""

    def extend(self, seconds: float) -> None:
        """See Fence."""

    def disarm(self) -> None:
        """See Fence."""


NO_FENCE: Final[Fence] = NoFence()


class ProcessFence:
    """Ends this process. There is one per process: the watchdog is faulthandler's."""

    def extend(self, seconds: float) -> None:
        """See Fence."""
        # NB: a thread in C, by a monotonic clock; a Python thread would wait for the interpreter like everybody else.
        faulthandler.dump_traceback_later(max(seconds, 0.001), exit=True)

    def disarm(self) -> None:
        """See Fence."""
        faulthandler.cancel_dump_traceback_later()
