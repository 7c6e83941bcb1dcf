"""Parts of the process that have a life: they run, may not be ready, and end in an order.

    listeners     nothing new begins
    work          what has no client is cut off
    outboxes      what is left is written
    stores        nobody writes any more
    clients       nobody sends any more

Each part has a deadline, and none stops another.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from capstan_gateway.life.jobs import Job

log = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 2.0
"""How long one part may take to end. What it has not done by then is left undone."""


class Phase(IntEnum):
    """In which order parts end; the listeners end before all of them."""

    WORK = 0
    """What goes on for nobody who waits."""
    OUTBOX = 1
    """Holds what is still to be written, to a store for one."""
    STORE = 2
    """Keeps state outside of the process."""
    CLIENT = 3
    """Connections that all others use."""


class Part(Protocol):
    """Whoever has a life."""

    name: str
    """One word, for reports and metrics."""

    async def run(self) -> None:
        """Work for ever, or return when there is nothing to do; begun anew when it fails."""
        ...

    def not_ready(self) -> str | None:
        """Say why requests should not come here yet; None when they may."""
        ...

    async def aclose(self) -> None:
        """End: finish what can be finished at once, and let go of everything. Called once, also if it never ran."""
        ...


@dataclass(frozen=True, slots=True)
class _Member:
    part: Part
    phase: Phase


class Lifecycle:
    """All parts of a process."""

    def __init__(self, *, close_seconds: float = CLOSE_SECONDS) -> None:
        self._members: list[_Member] = []
        self._close_seconds = close_seconds

    def add(self, part: Part, phase: Phase) -> None:
        """Let this part live with the process."""
        self._members.append(_Member(part, phase))

    @property
    def jobs(self) -> Sequence[Job]:
        """The work of all parts."""
        return [Job(member.part.name, member.part.run) for member in self._members]

    def not_ready(self) -> str | None:
        """Say which part is not ready, and why; None when all are."""
        for member in self._members:
            reason = member.part.not_ready()
            if reason is not None:
                return f"{member.part.name}: {reason}"
        return None

    async def aclose(self) -> None:
        """End all parts, phase by phase, the youngest of a phase first; each has a deadline, and none stops another."""
        youngest_first = self._members[::-1]
        for member in sorted(youngest_first, key=lambda member: member.phase):
            try:
                async with asyncio.timeout(self._close_seconds):
                    await member.part.aclose()
            except Exception as error:
                log.warning("a part did not end well", exc_info=error, extra={"part": member.part.name})


class Closing:
    """A part that has an end and nothing else: connections that others use."""

    def __init__(self, name: str, close: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._close = close

    async def run(self) -> None:
        """Do nothing: others use it."""

    def not_ready(self) -> str | None:
        """Keep no request away."""
        return None

    async def aclose(self) -> None:
        """End."""
        await self._close()
