"""How fast bodies come that hold memory, and which of them gives its room back when others need it."""

from collections.abc import Callable
from typing import Final, Protocol

from capstan_gateway.errors import GatewayError, RequestTimeout

LOOK_SECONDS: Final = 2.5
"""How often it is looked how much has come."""
UPLOAD_SECONDS: Final = 5.0
"""Within the first such time a large body need not come at all."""
UPLOAD_RATE: Final = 16 * 1024
"""Bytes a second that a body must come with, on the whole, while it holds memory that others could use."""
PRESSED_SECONDS: Final = 1.0
"""How long a body is left in peace when others find no room."""
PRESSED_RATE: Final = 256 * 1024
"""Bytes a second with which it must have come lately, not to be given up then."""


class Awaited(Protocol):
    """A body that is on its way; `exchange.Exchange` has one."""

    received: int
    """How many bytes of it have arrived."""

    @property
    def holds_upload(self) -> bool:
        """Whether it is still on its way, of use to somebody, and takes of the process' budget."""
        ...

    def give_up(self, error: GatewayError) -> None:
        """Let go of it and of what it holds, at once; `error` is what its reader gets."""
        ...


class Upload:
    """One body that is awaited, and how much of it had come when it was looked at last."""

    __slots__ = ("_before", "_began", "_last", "body")

    def __init__(self, body: Awaited, now: float) -> None:
        self.body = body
        self._began = now
        self._before = self._last = (now, 0)

    def look(self, now: float) -> bool:
        """Take note of how much has come; False when that is so little that nobody waits for more of it."""
        self._before, self._last = self._last, (now, self.body.received)
        due = (now - self._began - UPLOAD_SECONDS + 0.1) * UPLOAD_RATE
        early = now - self._began < UPLOAD_SECONDS - 0.1
        return early or not self.body.holds_upload or self.body.received >= max(due, 1.0)

    def pace(self, now: float) -> float:
        """Give the bytes a second that came lately, over one or two looks; infinite as long as it is too early."""
        if now - self._began < PRESSED_SECONDS:
            return float("inf")
        at, received = self._before
        return (self.body.received - received) / (now - at)


class Uploads:
    """Those of one port. Who finds no room in the budget has the slowest of them given up."""

    def __init__(self, now: Callable[[], float], on_given_up: Callable[[], object]) -> None:
        self._now = now
        self._on_given_up = on_given_up
        self._uploads: set[Upload] = set()

    def begin(self, body: Awaited) -> Upload:
        """A body is awaited from now on."""
        upload = Upload(body, self._now())
        self._uploads.add(upload)
        return upload

    def end(self, upload: Upload) -> None:
        """It is awaited no more."""
        self._uploads.discard(upload)

    def give_up_slowest(self) -> bool:
        """Give up the one that comes most slowly, so that its memory is free; False when all come fast enough."""
        now = self._now()
        slow = [(upload.pace(now), upload) for upload in self._uploads if upload.body.holds_upload]
        pace, slowest = min(slow, key=lambda found: found[0], default=(PRESSED_RATE, None))
        if slowest is None or pace >= PRESSED_RATE:
            return False
        self.give_up(slowest, "the request's body comes too slowly while others wait for the memory that it holds")
        return True

    def give_up(self, upload: Upload, why: str) -> None:
        """Give up this one."""
        self.end(upload)
        self._on_given_up()
        upload.body.give_up(RequestTimeout(why))
