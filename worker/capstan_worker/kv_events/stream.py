"""`GET /kv-events` of the worker port: the blocks that are held, then what changes, line by line until one side ends.

Lines are written no more often than every FLUSH_SECONDS, so that a busy engine's thousand changes are a few lines. Who
does not read loses the connection after as long as a reader waits for a line before it gives its worker up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from capstan_contract.kv_events import (
    BEAT,
    KV_EVENTS_BEAT_SECONDS,
    KV_EVENTS_TYPE,
    write_change,
    write_head,
)
from capstan_worker.asgi import TEXT, Receive, Scope, Send, reply
from capstan_worker.kv_events.held import HeldBlocks, Reader, TooManyReaders

FLUSH_SECONDS: Final = 0.05
STALLED_SECONDS: Final = 3 * KV_EVENTS_BEAT_SECONDS
"""After so long without taking a byte nobody reads any more."""
NOT_PUBLISHED: Final = b"this engine tells nobody which blocks it holds\n"


def kv_events_route(held: HeldBlocks | None) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Give the handler of the path: of an engine without events it says so."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if held is None:
            await reply(send, 404, NOT_PUBLISHED, content_type=TEXT)
        elif scope["method"] != "GET":
            await reply(send, 405, b"must be GET\n", content_type=TEXT, headers=((b"allow", b"GET"),))
        else:
            await _serve(held, receive, send)

    return handle


def render_held(held: HeldBlocks | None) -> str:
    """Give the metrics in Prometheus' text format; nothing of an engine without events."""
    if held is None:
        return ""
    return (
        "# HELP capstan_worker_kv_blocks Blocks of prompts that the engine holds, as far as they are told.\n"
        "# TYPE capstan_worker_kv_blocks gauge\n"
        f"capstan_worker_kv_blocks {len(held)}\n"
        "# HELP capstan_worker_kv_event_readers Who listens on /kv-events.\n"
        "# TYPE capstan_worker_kv_event_readers gauge\n"
        f"capstan_worker_kv_event_readers {held.readers}\n"
    )


async def _serve(held: HeldBlocks, receive: Receive, send: Send) -> None:
    try:
        with held.reader() as reader:
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-type", KV_EVENTS_TYPE.encode()), (b"cache-control", b"no-store")],
                }
            )
            telling = asyncio.create_task(_tell(reader, send))
            gone = asyncio.create_task(_disconnected(receive))
            try:
                await asyncio.wait((telling, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                telling.cancel()
                gone.cancel()
                await asyncio.gather(telling, gone, return_exceptions=True)
    except TooManyReaders:
        await reply(send, 503, b"too many listen\n", content_type=TEXT)


async def _tell(reader: Reader, send: Send) -> None:
    # NB: a reader that stands still ends here without the end of the body, which it would not read either.
    with suppress(TimeoutError):
        snapshot, reader.snapshot = reader.snapshot, ()
        await _send(send, write_head(reader.block_tokens, snapshot))
        del snapshot
        while not reader.ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(KV_EVENTS_BEAT_SECONDS):
                    await reader.changed.wait()
            if reader.ended:
                break  # What has come since may be of another size.
            await _send(send, write_change(reader.take()), otherwise=BEAT)
            await asyncio.sleep(FLUSH_SECONDS)
        await _send(send, (), more=False)


async def _send(send: Send, lines: Iterable[bytes], *, otherwise: bytes = b"", more: bool = True) -> None:
    """Send lines one by one: a large change is not written as a whole, and each waits until there is room for it."""
    sent = False
    for line in lines:
        await _send_piece(send, line, more=True)
        sent = True
    if not sent and (otherwise or not more):
        await _send_piece(send, otherwise, more=more)


async def _send_piece(send: Send, piece: bytes, *, more: bool) -> None:
    async with asyncio.timeout(STALLED_SECONDS):
        await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
