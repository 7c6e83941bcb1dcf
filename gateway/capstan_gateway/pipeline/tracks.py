"""What the two revisions of a model do while one is tried: counted for each call, and told at `TRACKS_PATH`.

What is counted is a call of the model, not an answer that a cache gave; its times begin when the model is asked, so
that they are comparable whatever limits and guards are around. Nothing is counted of a model of which no revision is
tried.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from capstan_contract.config import Canary, ModelEntry
from capstan_contract.names import CANARY, STABLE
from capstan_contract.tracks import Quantity, Track, TracksReport
from capstan_gateway.arms.tally import Tally
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import GatewayError, UpstreamRejected
from capstan_gateway.pipeline.arms import BOOT, bucket_of
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.effects import is_repeatable
from capstan_gateway.pipeline.layers import AnswerFunction
from capstan_gateway.pipeline.reply import Reply, StreamReply
from capstan_gateway.pipeline.source_around import SourceAround
from capstan_gateway.routing.port import DispatchedResponse
from capstan_gateway.routing.unroutable import RoutingError
from capstan_gateway.routing.verdicts import FULL, REQUEST_TIMEOUT, SERVER_ERROR
from capstan_gateway.selection.shares import PLACES, Turns
from capstan_gateway.streaming.port import Relay
from capstan_gateway.upstream.errors import DeadlineExceeded, DeadlineKind, UpstreamError

FAILURES: Final = (RoutingError, UpstreamError, GatewayError)
MICROS: Final = 1_000_000
SILENT_SECONDS: Final = 30.0
"""After so long without a word whoever goes away has been given none: a revision that hangs fails nobody else in time.
It is the same for both revisions, so that clients that are only impatient make no difference between them."""


class Try:
    """One revision that is tried on one model, and what was counted since."""

    __slots__ = ("canary", "epoch", "model_id", "revisions", "stable", "turns")

    def __init__(self, model_id: str, epoch: str, *, start: int) -> None:
        self.model_id: Final = model_id
        self.epoch: Final = epoch
        self.turns: Final = Turns(start)
        self.revisions: dict[str, str] = {}
        self.stable: Final = Tally()
        self.canary: Final = Tally()

    def tracks(self) -> Iterator[Track]:
        """Say what was counted so far."""
        for track, tally in ((STABLE, self.stable), (CANARY, self.canary)):
            yield Track(
                track=track, revision=self.revisions.get(track, ""), epoch=self.epoch, counters=tally.counters()
            )


class Tries:
    """All of them. They outlive configs, by the model and the id of the try, and end with that. Only the loop's thread
    touches them."""

    def __init__(self) -> None:
        self._tries: dict[tuple[str, str], Try] = {}

    def of(self, model_id: str, canary: Canary, revision: str) -> Try:
        """Give the try of a model, whose stable revision this is."""
        key = model_id, canary.id
        found = self._tries.get(key)
        if found is None:
            found = self._tries[key] = Try(*key, start=secrets.randbelow(PLACES))
        found.revisions = {STABLE: revision, CANARY: canary.revision}
        return found

    def retain(self, entries: Iterable[ModelEntry]) -> None:
        """Forget every try that is none of these models any more."""
        kept = {(entry.id, entry.canary.id) for entry in entries if entry.canary is not None}
        self._tries = {key: one for key, one in self._tries.items() if key in kept}

    def report(self) -> TracksReport:
        """Say what was counted of each."""
        models = {one.model_id: tuple(one.tracks()) for _, one in sorted(self._tries.items())}
        return TracksReport(boot=BOOT, models=models)


class Counted:
    """Counts the calls of one track of one name of a model."""

    __slots__ = ("_answered", "_deps", "_failed", "_model", "_tally")

    def __init__(self, deps: Deps, model: ServedModel, of: Try) -> None:
        self._deps = deps
        self._model = model
        self._tally = of.canary if model.track == CANARY else of.stable
        requests = deps.metrics.track_requests
        self._answered = requests.at(model.name, model.track, "answered")
        self._failed = requests.at(model.name, model.track, "failed")

    async def answer(self, inner: AnswerFunction, ask: Ask) -> Reply:
        """Give the reply of `inner`, and count it."""
        if ask.request.route.counts:
            return await inner(ask)
        clock = self._deps.clock
        began, main = clock(), self._model.main
        call = _Call(self, self._bucket(ask), began, ask, clock)
        ask.on_end(call.end)
        try:
            reply = await (inner(ask) if main is self._model else self._in_half(inner, ask))
        except FAILURES as error:
            if is_fault(error):
                self.failed(call.bucket)
            raise
        except asyncio.CancelledError:
            if clock() - began >= SILENT_SECONDS:
                self.failed(call.bucket)
            raise
        if main is not self._model:
            main.endpoints.arrived += 1  # How much is asked of a model is asked of both.
        if isinstance(reply, StreamReply):
            call.stream(reply)
        else:
            call.whole()
        return reply

    async def _in_half(self, inner: AnswerFunction, ask: Ask) -> Reply:
        """Give the reply of a revision that is tried, which has half of the time that is left: in the other half the
        stable one can still answer. All of it for what must not be sent twice, which nobody else would answer."""
        if not is_repeatable(ask.request, native=False):
            return await inner(ask)
        now = self._deps.loop_time()
        deadline = asyncio.timeout_at(now + (ask.expires_at - now) / 2)
        try:
            async with deadline:
                return await inner(ask)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineExceeded(self._model.id, DeadlineKind.FIRST_TOKEN) from None

    def failed_for(self, ask: Ask) -> None:
        """Count a request that it should have answered and could not."""
        self.failed(self._bucket(ask))

    def failed(self, bucket: int) -> None:
        """Count a request that failed by its fault."""
        self._failed.value += 1
        self._tally.add(Quantity.ERROR, bucket, 1)

    def answered(self, bucket: int) -> None:
        """Count one that did not."""
        self._answered.value += 1
        self._tally.add(Quantity.ERROR, bucket, 0)

    def took(self, quantity: Quantity, bucket: int, seconds: float) -> None:
        """Count how long something took."""
        self._tally.add(quantity, bucket, int(seconds * MICROS))

    def cost(self, bucket: int, ask: Ask, calls: int) -> None:
        """Count what was settled behind so many calls of the bill."""
        prices = [
            price
            for _, _, _, price, model in ask.bill.settled[calls:]
            if price is not None and model == self._model.name
        ]
        if prices:
            self._tally.add(Quantity.COST, bucket, sum(prices))

    def _bucket(self, ask: Ask) -> int:
        return bucket_of(ask, self._deps.pseudonyms)


class _Call:
    """One call, until its ask ends."""

    __slots__ = ("_ask", "_began", "_calls", "_clock", "_counted", "_first", "_relay", "_source", "_whole", "bucket")

    def __init__(self, counted: Counted, bucket: int, began: float, ask: Ask, clock: Callable[[], float]) -> None:
        self._counted = counted
        self.bucket = bucket
        self._began = began
        self._clock = clock
        self._ask = ask
        self._calls = ask.bill.calls
        self._whole = False
        self._first = 0.0
        self._relay: Relay | None = None
        self._source: Timed | None = None

    def whole(self) -> None:
        """The answer is there."""
        self._whole = True
        self._counted.answered(self.bucket)
        self._counted.took(Quantity.LATENCY, self.bucket, self._clock() - self._began)

    def stream(self, reply: StreamReply) -> None:
        """Its first token is there."""
        self._first = self._clock()
        self._counted.took(Quantity.FIRST_TOKEN, self.bucket, self._first - self._began)
        self._relay = reply.relay
        reply.source = self._source = Timed(reply.source, self._clock, self._first)

    def end(self) -> None:
        """Its ask is over. A client that has gone meanwhile is no fault of the model's."""
        relay, source, counted = self._relay, self._source, self._counted
        if relay is not None and source is not None:
            if source.failed or (relay.error is not None and relay.error.status >= SERVER_ERROR):
                counted.failed(self.bucket)
            else:
                counted.answered(self.bucket)
                if relay.finished:
                    counted.took(Quantity.LATENCY, self.bucket, source.at - self._began)
            if relay.events > 1:
                counted.took(Quantity.INTER_TOKEN, self.bucket, (source.at - self._first) / (relay.events - 1))
        if self._whole or relay is not None:
            counted.cost(self.bucket, self._ask, self._calls)


class Timed(SourceAround):
    """Implements `routing.port.DispatchedResponse` around another one: sees when its pieces come, and what fails."""

    def __init__(self, inner: DispatchedResponse, clock: Callable[[], float], at: float) -> None:
        super().__init__(inner)
        self._clock = clock
        self.at = at
        """When something came last."""
        self.failed = False

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end."""
        return self.inner.complete

    async def receive(self) -> bytes:
        """Give all that has arrived since the last call; b"" when the body is over."""
        try:
            data = await self.inner.receive()
        except UpstreamError:
            self.failed = True
            raise
        if data:
            self.at = self._clock()
        return data

    def blame(self, word: str) -> None:
        """Count the answer as the endpoint's failure."""
        self.failed = True
        super().blame(word)


def is_fault(error: Exception) -> bool:
    """Whether a failure is the model's, and not the request's."""
    if isinstance(error, UpstreamRejected):
        return error.status >= SERVER_ERROR or error.status in (FULL, REQUEST_TIMEOUT)
    if isinstance(error, GatewayError):
        return error.status >= SERVER_ERROR
    return True


def counted(deps: Deps, model: ServedModel, of: Try, answer: AnswerFunction) -> AnswerFunction:
    """Give an answer function whose calls are counted."""
    return partial(Counted(deps, model, of).answer, answer)
