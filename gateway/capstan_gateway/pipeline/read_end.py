"""The end of an upstream's body behind the last frame of a stream."""

import asyncio
from typing import Final

from capstan_gateway.routing.port import DispatchedResponse
from capstan_gateway.upstream.errors import UpstreamError

END_SECONDS: Final = 0.5
"""How long to wait for it, to be able to use the connection again."""


async def read_end(source: DispatchedResponse) -> None:
    """Read what is behind the last frame of a stream, so that its connection can be used again; not for long."""
    try:
        async with asyncio.timeout(END_SECONDS):
            while await source.receive():
                pass
    except (TimeoutError, UpstreamError):
        # The answer is whole; closing the reply closes the connection.
        return
