"""When a server with a certificate of our authority looks again at what it is made of, and what it says of that."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

LOOK_AGAIN_SECONDS: Final = 60.0
"""How often it is looked whether authorities have changed, or a certificate is to be renewed."""
WAIT_SECONDS: Final = 15.0
"""The same while nothing is served: the leader makes an authority when a model needs it."""


class Looks:
    """Those of one server."""

    def __init__(self, log: logging.Logger) -> None:
        self.said = ""
        """The last complaint."""
        self._log = log
        self._roused = asyncio.Event()

    def rouse(self) -> None:
        """There may be something new now."""
        self._roused.set()

    async def rest(self, *, serves: bool) -> None:
        """Return when it is time to look again."""
        with suppress(TimeoutError):  # it is time
            async with asyncio.timeout(LOOK_AGAIN_SECONDS if serves else WAIT_SECONDS):
                await self._roused.wait()
        self._roused.clear()

    def complain(self, text: str) -> None:
        """Log it, unless that was said last."""
        if text != self.said:
            self._log.warning(text)
        self.said = text
