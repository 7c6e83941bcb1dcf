"""Work on large documents beside the loop, in the thread that parses large requests, while others are served.

Small ones are worked on where they are: a thread would cost more than they do.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from capstan_gateway.errors import Overloaded
from capstan_gateway.life.threads import Busy, Threads

LARGE_BYTES: Final = 256 * 1024
"""What is larger is read, translated and written beside the loop."""
T = TypeVar("T")


async def beside(executor: Threads, work: Callable[[], T]) -> T:
    """Give what this gives, or raise what it raises; Overloaded when too much waits for the thread.

    The caller has bounded how much work that may be.
    """
    try:
        return await executor.run(work)
    except Busy as error:
        raise Overloaded from error
