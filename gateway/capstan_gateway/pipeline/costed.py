"""What a stream has cost, told at its end to clients that ask for it: it is not known when its head is sent.

chat completions, completions    a last chunk without choices, whose `usage` has `cost`: where OpenRouter has it, and
                                 LiteLLM. The engine's own usage is not sent beside it: clients add up what they see
other dialects                   a comment behind the last event, which every reader of events passes over
"""

import re
import time
from typing import Final

from capstan_gateway.documents import to_json
from capstan_gateway.errors import GatewayError
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.reply import Reply, StreamReply
from capstan_gateway.pipeline.request import CHAT_PATH
from capstan_gateway.streaming.around import RelayAround
from capstan_gateway.streaming.cut import Cut
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.sse import DONE
from capstan_gateway.tokens.bill import Bill
from capstan_gateway.tokens.price import dollars_text, to_dollars
from capstan_gateway.tokens.usage import Usage

_ID: Final = re.compile(rb'"id": ?"([A-Za-z0-9_.:-]{1,128})"')
_SEARCHED_BYTES: Final = 4096


def costed(ask: Ask, reply: Reply) -> Reply:
    """Give the reply with its cost at its end; itself when it is no stream, whose head tells it."""
    if not isinstance(reply, StreamReply):
        return reply
    relay = CostedRelay(reply.relay, ask, reply.first)
    first = relay.ended(reply.first) if relay.done and reply.broken is None else reply.first
    return StreamReply(first, reply.source, relay, reply.native, reply.broken)


class CostedRelay(RelayAround):
    """Another relay, with one more frame at the end of what it gives."""

    def __init__(self, relay: Relay, ask: Ask, first: bytes) -> None:
        super().__init__(relay)
        self._ask = ask
        self._first = first[:_SEARCHED_BYTES]

    def feed(self, data: bytes) -> bytes:
        """Give the bytes to send; raises StreamBroken when the stream makes no sense."""
        run = self._inner.feed(data)
        return self.ended(run) if self._inner.done else run

    def finish(self) -> bytes:
        """Give what remains to be sent when the body is over; raises StreamBroken if that was too early."""
        run = self._inner.finish()
        return self.ended(run) if self._inner.done else run

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which has begun and cannot go on: what it cost is not known yet."""
        return self._inner.failure(error)

    def cut(self, cut: Cut, last: bytes) -> bytes:
        """Give the frames that end a stream well before its engine does, with its cost."""
        return self.ended(super().cut(cut, last))

    def ended(self, run: bytes) -> bytes:
        """Give the end of the stream with its cost: every call for it is settled now, the stream too."""
        ask = self._ask
        ask.bill.settle_streams()
        if ask.request.route.dialect is not None:
            return run + cost_comment(ask.bill)
        if self._inner.error is not None or not run.endswith(DONE):
            return run
        return run[: -len(DONE)] + self._chunk() + DONE

    def _chunk(self) -> bytes:
        ask = self._ask
        found = _ID.search(self._first)
        chat = ask.request.route.upstream_path == CHAT_PATH
        chunk: dict[str, object] = {
            "id": (ask.request_id if found is None else found[1]).decode(),
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": int(time.time()),
            "model": (ask.answered_by or ask.model).name,
            "choices": [],
            "usage": usage_with_cost(ask.bill),
        }
        return b"data: %b\n\n" % to_json(chunk)


def cost_of(bill: Bill) -> int | None:
    """Give what a request has cost in nano-dollars; None where that is not known of all of it."""
    return bill.nano_dollars if bill.priced and not bill.open else None


def usage_with_cost(bill: Bill) -> dict[str, object]:
    """Write what the answer has used, and what the whole request has cost: null where nobody knows."""
    usage, cost = bill.answer or Usage(0, 0), cost_of(bill)
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.thought_tokens},
        "cost": None if cost is None else to_dollars(cost),
    }


def cost_comment(bill: Bill) -> bytes:
    """Write the same as a comment of an event stream."""
    cost = cost_of(bill)
    return b": x-capstan-cost: %b\n\n" % (b"unknown" if cost is None else dollars_text(cost))
