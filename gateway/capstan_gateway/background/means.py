"""What all work on background responses needs."""

from collections.abc import Callable
from dataclasses import dataclass

from capstan_gateway.background.port import Asks
from capstan_gateway.background.state import OpenResponses
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Made once for a gateway."""

    responses: OpenResponses
    asks: Asks
    threads: Threads
    budget: MemoryBudget
    concurrency: int
    count: Callable[[str], None]
    """Counts a response that is over, by its status."""
