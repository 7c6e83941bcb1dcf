"""How fast bodies come that hold memory, and which of them gives its room back when others need it."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from capstan_gateway.errors import GatewayError, RequestTimeout
from capstan_gateway.memory import Loan, Share

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
COUNT_SECONDS: Final = 0.1
"""How long it is remembered how much slow bodies hold: however many find no room, all bodies are looked at seldom."""
_PRESSED: Final = "the request's body comes too slowly while others wait for the memory that it holds"


class Awaited(Protocol):
    """A body that is on its way; `exchange.Exchange` has one."""

    received: int
    """How many bytes of it have arrived."""

    held: Share | None
    """What its request holds of the process' budget."""

    @property
    def upload_bytes(self) -> int:
        """How much of the budget it would give back; 0 when it is not on its way any more, or of use to nobody."""
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
        return early or not self.body.upload_bytes or self.body.received >= max(due, 1.0)

    def pace(self, now: float) -> float:
        """Give the bytes a second that came lately, over one or two looks; infinite as long as it is too early."""
        if now - self._began < PRESSED_SECONDS:
            return float("inf")
        at, received = self._before
        return (self.body.received - received) / (now - at)


class Uploads:
    """Those of one port. Who finds no room in the budget has the slowest of them given up: a `memory.Lender`."""

    def __init__(self, now: Callable[[], float], on_given_up: Callable[[], object]) -> None:
        self._now = now
        self._on_given_up = on_given_up
        self._uploads: set[Upload] = set()
        self._lendable = 0
        self._counted_at = -math.inf

    def begin(self, body: Awaited) -> Upload:
        """A body is awaited from now on."""
        upload = Upload(body, self._now())
        self._uploads.add(upload)
        return upload

    def end(self, upload: Upload) -> None:
        """It is awaited no more."""
        self._uploads.discard(upload)

    def lendable(self) -> int:
        """Give how much those hold together that come too slowly, as it was a moment ago."""
        now = self._now()
        if now - self._counted_at >= COUNT_SECONDS:
            self._lendable = sum(upload.body.upload_bytes for upload, _ in self._slow(now))
            self._counted_at = now
        return self._lendable

    def loans(self) -> Iterator[Loan]:
        """Give each that comes too slowly."""
        for upload, pace in self._slow(self._now()):
            yield Loan(
                owner=upload.body.held, size=upload.body.upload_bytes, rank=pace,
                give_back=partial(self._give_way, upload),
            )  # fmt: skip

    def give_up(self, upload: Upload, why: str) -> None:
        """Give up this one."""
        self.end(upload)
        self._on_given_up()
        upload.body.give_up(RequestTimeout(why))

    def _give_way(self, upload: Upload) -> None:
        self._counted_at = -math.inf
        self.give_up(upload, _PRESSED)

    def _slow(self, now: float) -> Iterator[tuple[Upload, float]]:
        for upload in self._uploads:
            pace = upload.pace(now)
            if pace < PRESSED_RATE and upload.body.upload_bytes:
                yield upload, pace
