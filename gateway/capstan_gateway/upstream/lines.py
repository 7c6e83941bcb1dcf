"""A long-lived response, line by line: the watches of the Kubernetes API."""

from collections.abc import AsyncIterator

from capstan_gateway.upstream.errors import BodyTooLarge
from capstan_gateway.upstream.port import UpstreamResponse


async def iterate_lines(response: UpstreamResponse, *, endpoint_id: str, max_bytes: int) -> AsyncIterator[bytes]:
    """Give each line without its end, as soon as it is complete; what follows the last line end is given at the end.

    A line longer than `max_bytes` raises BodyTooLarge. The response is aborted when the iteration is left early.
    """
    rest: list[bytes] = []
    size = 0
    try:
        while piece := await response.receive():
            first, *lines = piece.split(b"\n")
            rest.append(first)
            size += len(first)
            if lines:
                yield b"".join(rest)
                for line in lines[:-1]:
                    yield line
                rest = [lines[-1]]
                size = len(lines[-1])
            if size > max_bytes:
                raise BodyTooLarge(endpoint_id, f"a line is longer than {max_bytes} bytes")
        if size:
            yield b"".join(rest)
    finally:
        response.abort()
