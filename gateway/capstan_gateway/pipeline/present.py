"""From the chat completion that everything inside speaks of to the dialect of the client."""

import orjson

from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply


def present(delivery: Delivery, reply: Reply) -> Reply:
    """Give the reply as the client wants it; itself when it is that already."""
    dialect, document = delivery.route.dialect, delivery.client_document
    if dialect is None or document is None or reply.native:
        return reply
    if isinstance(reply, WholeReply):
        try:
            completion = orjson.loads(reply.body)
        except orjson.JSONDecodeError as error:
            raise UpstreamFailed("the model's engine answered with something that is not JSON") from error
        body = orjson.dumps(dialect.write_answer(completion, document))
        return WholeReply(reply.status, b"application/json", body, native=True)
    relay = PresentedRelay(reply.relay, dialect.presenter(document))
    return StreamReply(relay.present(reply.first), reply.source, relay, native=True, broken=reply.broken)
