"""From the chat completion that everything inside speaks of to the dialect of the client."""

import orjson

from capstan_gateway.dialects.clients.presented import PresentedRelay
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.pipeline.context import Reply, RequestContext, WholeReply


def present(context: RequestContext, reply: Reply) -> Reply:
    """Give the reply as the client wants it; itself when it is that already."""
    dialect, native = context.route.dialect, context.native
    if dialect is None or native is None or reply.native:
        return reply
    if isinstance(reply, WholeReply):
        try:
            completion = orjson.loads(reply.body)
        except orjson.JSONDecodeError as error:
            raise UpstreamFailed("the model's engine answered with something that is not JSON") from error
        reply.body = orjson.dumps(dialect.write_answer(completion, native.document))
        reply.content_type = b"application/json"
    else:
        relay = PresentedRelay(reply.relay, dialect.presenter(native.document))
        reply.first = relay.present(reply.first)
        reply.relay = relay
    reply.native = True
    return reply
