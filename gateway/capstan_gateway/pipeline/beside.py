"""Work on large documents beside the loop, in the thread that parses large requests, while others are served.

Small ones are worked on where they are: a thread would cost more than they do.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

LARGE_BYTES: Final = 256 * 1024
"""What is larger is read, translated and written beside the loop."""
T = TypeVar("T")


async def beside(executor: Executor, work: Callable[[], T]) -> T:
    """Give what this gives, or raise what it raises. The caller has bounded how much that may be."""
    return await asyncio.get_running_loop().run_in_executor(executor, work)
