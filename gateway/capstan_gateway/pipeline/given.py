"""Which answers were given to whom: noted at the end of a delivery, so that clients can say how good they were."""

from capstan_gateway.feedback.given import Given, id_of_stream, id_of_whole
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.engine_answer import FINISHING
from capstan_gateway.pipeline.reply import WholeReply


def note_given(given: Given, delivery: Delivery, ask: Ask) -> None:
    """Note the answer of a delivery that ended well, by the id that its client was given; nothing of one without."""
    reply = delivery.reply
    if reply is None or delivery.route.upstream_path not in FINISHING:
        return
    id = id_of_whole(reply.body) if isinstance(reply, WholeReply) else id_of_stream(reply.first)
    if id:
        arms = tuple((arm.key, arm.epoch, arm.member, arm.bucket) for arm in ask.arms if arm.answered)
        model = ask.answered_by or ask.model
        given.note(ask.principal.tenant, id, model.name, ask.model.name, ask.request_id.decode("latin-1"), arms)
