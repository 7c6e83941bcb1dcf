"""The beginning of an answer, up to its first token: what may come until then, and what that holds."""

from typing import Final

from capstan_gateway.memory import Share
from capstan_gateway.routing.attempt import Attempt
from capstan_gateway.routing.port import Call, Opening
from capstan_gateway.routing.verdicts import CLIENT_ERROR
from capstan_gateway.upstream.errors import NoMemory, ProtocolError
from capstan_gateway.upstream.port import UpstreamResponse

MAX_OPENING_BYTES: Final = 16 * 1024 * 1024
FREE_OPENING_BYTES: Final = 64 * 1024
"""What a stream may hold without a token without taking it from the process' budget."""
OPENING_FACTOR: Final = 3
"""How many times its size it takes: in a frame that grows, as what is read in it, and as what is to be sent."""


async def open_answer(call: Call, response: UpstreamResponse, attempt: Attempt) -> Opening | None:
    """Wait for the first token; of an answer without one for the first piece of its body."""
    if response.status >= CLIENT_ERROR:
        response.awaits_token = False  # A refusal is not computed: it comes at once, or is cut off.
        return None
    opening = None
    if call.opening is not None and not call.whole_bytes:
        attempt.opening = opening = call.opening(response.status, response.headers)
    if opening is None:
        if not response.body_began:
            await response.wait_body()
        # A plain answer may pause as it likes: its deadline is the total one, to its end.
        response.awaits_token = bool(call.whole_bytes)
        return None
    response.awaits_token = True
    share: Share | None = None
    size = 0
    try:
        while True:
            data = await response.receive()
            if opening.feed(data) or not data:
                break
            size += len(data)
            if size > FREE_OPENING_BYTES:
                share = share or (call.memory() if call.memory is not None else None)
                take_opening(size, share, attempt.endpoint.id)
    except BaseException:
        if share is not None:
            share.release()
        raise
    response.awaits_token = False
    return opening


def take_opening(size: int, share: Share | None, whose: str) -> None:
    """Take note that so many bytes without a token have come. Raises ProtocolError for too many, and NoMemory."""
    if size > MAX_OPENING_BYTES:
        raise ProtocolError(whose, f"more than {MAX_OPENING_BYTES} bytes without a token")
    if share is not None and not share.grow_to(OPENING_FACTOR * size):
        raise NoMemory(whose, "the gateway has no room for the beginning of the stream")
