"""What takes samples, around one model: inside of its guards, outside of its cache.

So a sample is what was asked of the model after guards have rewritten it, and its answer before placeholders become
again what they stand for. What is sampled of a virtual model is the answer of a member, by that member's evaluation.
"""

from collections.abc import Awaitable
from typing import Final

from capstan_contract.names import CANARY
from capstan_contract.samples import OWN_REQUESTS
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.cache_notes import HITS
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.layer import GuardLayer
from capstan_gateway.pipeline.guards.watching import WatchingRelay
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.reply import Reply, StreamReply
from capstan_gateway.pipeline.sampling.chance import chance_of
from capstan_gateway.pipeline.sampling.redaction import redactors_of
from capstan_gateway.pipeline.sampling.room import Offered, Outcome, SampleRoom, Subject
from capstan_gateway.streaming.port import Relay

_HITS: Final = frozenset(HITS.values())


class SamplingLayer:
    """Takes samples of one model; `layers.Layer`."""

    order = Order.SAMPLES
    reads = Reads.NOTHING

    def __init__(self, subject: Subject, room: SampleRoom) -> None:
        self.subject: Final = subject
        self._room: Final = room
        self._takes: Final = chance_of(subject.evaluation).takes

    def answer(self, ask: Ask, inner: AnswerFunction) -> Awaitable[Reply]:
        """Give the reply of `inner`, and have it sampled if it is this one's turn."""
        # NB: no coroutine of its own for those that are not: most are not.
        if ask.own or ask.request.route.counts or not self._takes(ask.request_id, ask.started):
            return inner(ask)
        return inner(ask) if ask.request_id.startswith(OWN_REQUESTS) else self._sampled(ask, inner)

    async def _sampled(self, ask: Ask, inner: AnswerFunction) -> Reply:
        sampling = Sampling(self.subject, self._room, ask)
        reply = await inner(ask)
        if ask.answered_by is not None and ask.answered_by.main.id != self.subject.model_id:
            return reply  # Another one has answered, in whose layers it is a sample, or is none.
        return sampling.watched(reply)


class Sampling:
    """One answer that is sampled, from its beginning to when the ask ends."""

    __slots__ = ("_ask", "_guards", "_left", "_native", "_relay", "_request", "_room", "_runs", "_size", "_subject",
                 "_why")  # fmt: skip

    def __init__(self, subject: Subject, room: SampleRoom, ask: Ask) -> None:
        self._subject = subject
        self._room = room
        self._ask = ask
        self._request = ask.request
        self._guards: tuple[CompiledGuard, ...] = redactors_of(
            layer.policy for layer in ask.inside if isinstance(layer, GuardLayer)
        )
        self._runs: list[bytes] = []
        self._size = 0
        self._relay: Relay | None = None
        self._native = False
        self._why = ""
        """Why it is not stored; empty: it is."""
        self._left = room.most_bytes - self._request.came

    def watched(self, reply: Reply) -> Reply:
        """Give the reply as it is, and have it offered when the ask ends: behind the answer, and all that guards do."""
        ask = self._ask
        self._native = reply.native
        ask.on_end(self._offer)
        ask.forget_if_withheld(self._withhold)
        if not isinstance(reply, StreamReply):
            if reply.withheld:
                self._withhold()
            else:
                self._take(reply.body)
            return reply
        self._take(reply.first)
        self._relay = reply.relay
        if reply.broken is not None:
            self._why = Outcome.INCOMPLETE
        relay = WatchingRelay(reply.relay, self._take)
        return StreamReply(reply.first, reply.source, relay, native=reply.native, broken=reply.broken)

    def _withhold(self) -> None:
        self._why, self._runs = Outcome.WITHHELD, []

    def _take(self, run: bytes) -> None:
        if self._why or not run:
            return
        self._left -= len(run)
        if self._left < 0:
            self._why, self._runs = Outcome.SIZE, []
            return
        self._size += len(run)
        self._runs.append(run)

    def _offer(self) -> None:
        """Hand it over. The ask has ended."""
        relay, ask, room, model_id = self._relay, self._ask, self._room, self._subject.model_id
        if not self._why and relay is not None and (not relay.done or relay.error is not None):
            self._why = Outcome.INCOMPLETE
        share = None if self._why else room.room_for(self._size + self._request.came)
        if share is None:
            room.count(model_id, self._why or Outcome.MEMORY)
            return
        runs, by = self._runs, ask.answered_by
        tried = by is not None and by.track == CANARY
        room.offer(
            Offered(
                subject=self._subject, request=self._request, body=runs[0] if len(runs) == 1 else b"".join(runs),
                stream=relay is not None, native=self._native, guards=self._guards, request_id=ask.request_id,
                track="" if by is None else by.track,
                revision=by.revision if by is not None and tried else self._subject.plan.revision,
                cached=ask.cached is not None and ask.cached.word in _HITS, at=room.now(),
                seconds=room.elapsed(ask.started), share=share,
            )
        )  # fmt: skip
