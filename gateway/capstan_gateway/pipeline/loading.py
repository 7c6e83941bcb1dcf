"""From the bytes of a large or compressed body to its document, within bounds of memory and of time."""

from functools import partial
from typing import Any, Final

import orjson

from capstan_gateway.documents import (
    INLINE_BYTES,
    TINY_BYTES,
    WORST_FACTOR,
    TooDeep,
    count_values,
    is_too_much,
    memory_of,
    to_json,
)
from capstan_gateway.errors import InvalidRequest, RequestTooLarge
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.decompress import decompressed
from capstan_gateway.serving.exchange import Exchange

_END: Final = b""
MAX_DEPTH: Final = 248
"""Levels of a document that is written anew: orjson writes 254, and what is made of it may put some more around."""
TOO_DEEP: Final = f"the body is nested too deeply: at most {MAX_DEPTH} levels of objects and lists are allowed"


def load(body: bytes) -> dict[str, Any]:
    """Parse a document. Raises InvalidRequest when it is no JSON object."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object", code="invalid_json")
    return document


def check_depth(body: bytes, document: dict[str, Any]) -> None:
    """Raise InvalidRequest when a document, that of these bytes, has more levels than could be written again.

    JSON is read deeper than it is written. Only what has as many objects and lists at all is looked at.
    """
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return
    try:
        to_json([[[[[[document]]]]]])
    except TooDeep as error:
        raise InvalidRequest(TOO_DEEP, code="invalid_value") from error


def load_small(exchange: Exchange, body: bytes) -> dict[str, Any]:
    """Parse a body of at most INLINE_BYTES, and take from the budget what its document may need.

    While there is plenty of room that is the worst that it could be, which costs nothing to find out.
    """
    if len(body) > TINY_BYTES and not exchange.memory.grow_easily(WORST_FACTOR * len(body)):
        exchange.reserve(memory_of(body, count_values(body)))
    return load(body)


async def load_large(exchange: Exchange, body: bytes, executor: Threads) -> dict[str, Any]:
    """Parse a body beside the loop, once it is known that it is not too much. Raises RequestTooLarge, Overloaded."""
    if len(body) <= INLINE_BYTES:
        return load_small(exchange, body)
    counts = await beside(executor, partial(count_values, body))
    if is_too_much(counts):
        raise RequestTooLarge(f"the body holds too many JSON values (about {counts.values})")
    exchange.reserve(memory_of(body, counts))
    return await beside(executor, partial(load, body))


async def decompress(exchange: Exchange, coding: bytes, body: bytes, limit: int, executor: Threads) -> bytes:
    """Decompress a body beside the loop. Raises RequestTooLarge above `limit` bytes, Overloaded, InvalidRequest."""
    steps = decompressed(coding, body)
    whole = bytearray()
    while piece := await beside(executor, partial(next, steps, _END)):
        if len(whole) + len(piece) > limit:
            raise RequestTooLarge(f"the decompressed body is larger than {limit} bytes")
        exchange.reserve_body(len(body) + len(whole) + len(piece))
        whole += piece
    return bytes(whole)
