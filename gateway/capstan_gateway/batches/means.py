"""What all work on batches needs."""

from collections.abc import Callable
from dataclasses import dataclass

from capstan_gateway.batches.files import Files
from capstan_gateway.batches.port import Asks
from capstan_gateway.batches.state import Batches
from capstan_gateway.batches.turns import Turns
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Made once for a gateway."""

    batches: Batches
    files: Files
    asks: Asks
    turns: Turns
    threads: Threads
    budget: MemoryBudget
    most_lines: int
    most_line_bytes: int
    concurrency: int
    count_line: Callable[[str], None]
    count_batch: Callable[[str], None]
