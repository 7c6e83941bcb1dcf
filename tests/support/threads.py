"""Threads for work beside the loop, as a test may have them."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from capstan_gateway.life.threads import Threads


class Counted(Threads):
    """A thread of its own that counts what it is given, until the block ends."""

    def __init__(self) -> None:
        super().__init__("documents")
        self.count = 0

    def __enter__(self) -> "Counted":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Count it, and do it."""
        self.count += 1
        return await super().run(function, *arguments)
