"""Whole answers that are read here, and not only passed on: within the same bounds as requests."""

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from capstan_gateway.documents import INLINE_BYTES, count_values, is_too_much, memory_of
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import Share
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.reply import WholeReply
from capstan_gateway.serving.exchange import FREE_BYTES
from capstan_gateway.upstream.errors import NoMemory


async def admit(body: bytes, memory: Callable[[], Share], executor: Threads, *, whose: str) -> None:
    """Take from the budget what the document of an answer needs, before it is parsed; `whose` is an id for the log.

    Raises UpstreamFailed when to parse it would keep everybody waiting, NoMemory when there is no room for it.
    """
    if len(body) <= INLINE_BYTES:
        return
    counts = await beside(executor, partial(count_values, body))
    if is_too_much(counts):
        raise UpstreamFailed("the model's answer holds too many JSON values")
    if not memory().grow(memory_of(body, counts)):
        raise NoMemory(whose, "the gateway has no room for the answer's document")


async def keep(body: bytes, memory: Callable[[], Share], executor: Threads, *, whose: str) -> int:
    """Take what an answer and its document need for as long as they are kept; give how much that is.

    Raises as `admit`; then nothing was taken.
    """
    if len(body) <= FREE_BYTES:
        return 0
    share = memory()
    before = share.held
    try:
        # The bytes, and the texts in the document.
        if not share.grow(2 * len(body)):
            raise NoMemory(whose, "the gateway has no room for the answer")
        await admit(body, memory, executor, whose=whose)
    except BaseException:
        share.shrink_to(before)
        raise
    return share.held - before


def read_object(reply: WholeReply) -> dict[str, Any]:
    """Read an answer in one piece; UpstreamFailed when it is none."""
    try:
        found = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise UpstreamFailed("the model's engine answered with something that is not a JSON object")
    return found
