"""The few ASGI types and answers that the worker's small applications share."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"


async def reply(
    send: Send, status: int, body: bytes, *, content_type: bytes = JSON, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Send a whole answer."""
    length = (b"content-length", str(len(body)).encode())
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", content_type), length, *headers],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def reply_json(send: Send, status: int, document: object) -> None:
    """Send a document as JSON."""
    await reply(send, status, json.dumps(document).encode())


async def read_body(receive: Receive, *, limit: int) -> bytes | None:
    """Read the whole body; None when the client has gone. Raises ValueError when it is longer than `limit` bytes."""
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    if not message.get("more_body"):
        return bytes(message.get("body", b""))
    parts = [message.get("body", b"")]
    size = len(parts[0])
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise ValueError(f"the body is longer than {limit} bytes")
    return b"".join(parts)
