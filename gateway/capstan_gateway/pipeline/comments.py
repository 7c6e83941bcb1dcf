"""Comments in a stream that waits for its first token: who hears nothing for long may take its connection for dead.

They are asked for by a setting. With the first of them the head is sent, so that what goes wrong from then on is no
HTTP error any more, but a frame, as behind the first token; and headers that are known with the answer are not there.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final

from capstan_gateway.headers import header_lines
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.reply import Reply

COMMENT: Final = b": keep-alive\n\n"
"""A line that begins with a colon is none of an event: HTML, section 9.2.6."""
STREAM_LINES: Final = header_lines(
    (
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    )
)


def may_comment(delivery: Delivery, ask: Ask) -> bool:
    """Whether its client reads frames of OpenAI's API: those of others have pings, and errors, of their own form."""
    return ask.request.stream and delivery.route.dialect is None


async def with_comments(delivery: Delivery, ask: Ask, answering: Awaitable[Reply], *, seconds: float) -> Reply:
    """Wait for the reply, and write a comment every so many seconds."""
    loop = asyncio.get_running_loop()
    exchange = delivery.exchange
    timer: asyncio.TimerHandle | None = None

    def comment() -> None:
        nonlocal timer
        if exchange.gone or exchange.complete or delivery.interruption is not None:
            return
        if not exchange.started:
            exchange.start(200, STREAM_LINES + b"x-request-id: %b\r\n" % ask.request_id, COMMENT)
        elif not exchange.paused:
            exchange.write(COMMENT)
        timer = loop.call_later(seconds, comment)

    timer = loop.call_later(seconds, comment)
    try:
        return await answering
    finally:
        if timer is not None:
            timer.cancel()
