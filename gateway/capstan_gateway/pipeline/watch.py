"""One timer for all requests: who is over time. Who has gone away, the connections tell."""

import asyncio
import logging
from typing import Final

from capstan_gateway.errors import OUT_OF_TIME, GatewayError, RequestTimeout, UpstreamTimeout
from capstan_gateway.pipeline.delivery import Delivery

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.1
OVERTIME_SECONDS: Final = 1.0
"""How long after its deadline a request is cut off here. The upstream client keeps the deadlines of its own waits; what
is left are a body that does not arrive and a client that does not read."""


class InFlight(set[Delivery]):
    """All requests being served. To `add` one is to look after it from then on."""

    __slots__ = ("draining", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """With so many of them, no further one may begin."""
        self.draining = False
        """Whether this process is on its way out: the next requests are better sent to another one."""

    def remove(self, request: Delivery) -> None:
        """The request is over."""
        request.ended = True
        self.discard(request)

    async def run(self) -> None:
        """Look after the requests for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.look(loop.time())

    def look(self, now: float) -> None:
        """Look after every request once."""
        for request in tuple(self):
            if now > request.expires_at + OVERTIME_SECONDS:
                try:
                    request.interrupt(_overtime(request))
                except Exception:
                    log.exception("a request could not be interrupted")
                    self.discard(request)


def _overtime(request: Delivery) -> GatewayError:
    if not request.body_at:
        return RequestTimeout("the request's body did not arrive in time")
    return UpstreamTimeout(OUT_OF_TIME)
