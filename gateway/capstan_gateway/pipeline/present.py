"""From the chat completion that everything inside speaks of to the dialect of the client."""

from functools import partial
from typing import Any

import orjson

from capstan_gateway.dialects.clients.port import ClientTools, Dialect
from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.documents import TooDeep, to_json
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.headers import JSON
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.recall import PREVIOUS
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.stored import not_kept
from capstan_gateway.streaming.sse import TOO_DEEP


def present(delivery: Delivery, reply: Reply) -> Reply:
    """Give the reply as the client wants it; itself when it is that already."""
    dialect, document = delivery.route.dialect, delivery.client_document
    if dialect is None or document is None:
        return reply
    if reply.native:
        if delivery.slot is not None:
            _keep_native(delivery, reply.body if isinstance(reply, WholeReply) else b"")
        return reply
    _note(delivery)
    keeper = delivery.keeper
    if keeper is not None:
        dialect = keeper.dialect
    if isinstance(reply, WholeReply):
        body = _written(dialect, document, delivery.client_tools, reply.body)
        if keeper is not None and not keeper.keep(body):
            body = not_kept(body)
        return WholeReply(reply.status, JSON, body, native=True)
    relay = PresentedRelay(reply.relay, dialect.presenter(document, delivery.client_tools))
    return StreamReply(relay.present(reply.first), reply.source, relay, native=True, broken=reply.broken)


async def present_large(delivery: Delivery, reply: WholeReply, executor: Threads) -> Reply:
    """Do the same with a large answer in one piece, beside the loop."""
    dialect, document = delivery.route.dialect, delivery.client_document
    if dialect is None or document is None:
        return reply
    if reply.native:
        if delivery.slot is not None:
            await beside(executor, partial(_keep_native, delivery, reply.body))
        return reply
    _note(delivery)
    keeper = delivery.keeper
    writer = dialect if keeper is None else keeper.dialect
    body = await beside(executor, lambda: _written(writer, document, delivery.client_tools, reply.body))
    if keeper is not None and not keeper.keep(body):
        body = await beside(executor, partial(not_kept, body))
    return WholeReply(reply.status, JSON, body, native=True)


def _keep_native(delivery: Delivery, body: bytes) -> None:
    """Keep an answer of a hosted API in the client's own dialect, where that is asked for by an id of ours: with the
    turns before it, which were sent in place of an id that only we know."""
    keeper, document = delivery.keeper, delivery.client_document
    if keeper is None or document is None:
        return
    try:
        response = orjson.loads(body)
        if isinstance(response, dict):
            keeper.keep(to_json({**response, PREVIOUS: document.get(PREVIOUS)}))
    except (orjson.JSONDecodeError, TooDeep):
        return  # It is not kept, and whoever asked says so.


def _note(delivery: Delivery) -> None:
    """Note what the translation of the request left out: the client is told in a header."""
    tools = delivery.client_tools
    delivery.dropped_tools = [] if tools is None else [tool.kind for tool in tools.dropped]


def _written(dialect: Dialect, document: dict[str, Any], tools: ClientTools | None, body: bytes) -> bytes:
    try:
        completion = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamFailed("the model's engine answered with something that is not JSON") from error
    try:
        return to_json(dialect.write_answer(completion, document, tools))
    except TooDeep as error:
        # JSON is read deeper than it is written, and arguments of calls are read out of texts.
        raise UpstreamFailed(TOO_DEEP) from error
