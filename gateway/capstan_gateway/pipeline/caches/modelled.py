"""Answers to questions that mean the same, by vectors of a model that the policy names.

    a question ─► its vector, of a model ─► the nearest of its partition ─► rules ─► similarity ─► the entry

The model is asked as guards ask theirs, on nobody's bill and inside of nobody's limits; what it does not say in time is
a miss, and is kept when it comes: it is paid for, and the question is to be found when its answer is there. A model
that is late again and again is left alone for a while. Nobody has measured its vectors: so a pair serves by the
similarity that the policy says, and nothing is learnt of one model from another one. Replicas do not share these
questions: each finds those that it has seen answered.
"""

import asyncio
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from capstan_contract.caches import SemanticTier
from capstan_gateway.caches.port import Alike, CacheKey, Entry, Vectored
from capstan_gateway.caches.semantic.index import Asked, Near
from capstan_gateway.caches.semantic.judge import MOST_CHARACTERS, differ
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import Overloaded
from capstan_gateway.guards.prompts.similar import questions, read_vectors
from capstan_gateway.life.threads import Busy
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.caches.alike import FIND_SECONDS, AlikeInProcess, NotCompared, is_compared
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.failures import NotAsked
from capstan_gateway.pipeline.guards.asked.model import ask_model, model_of
from capstan_gateway.telemetry.cells import Number

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

MOST_DIMENSIONS: Final = 4096
MOST_AT_ONCE: Final = 16
"""Calls of one policy; whoever comes beside them is not compared. A tenant has as many as are free beside them, so one
alone has half, and who comes then finds a place."""
SECONDS: Final = 5.0
"""How long one may take; who looks for an answer waits less (`alike.FIND_SECONDS`)."""
LATE_SECONDS: Final = FIND_SECONDS
"""Who takes longer is late."""
MOST_LATE: Final = 3
"""So often in a row the model may be late, or fail."""
PAUSE_SECONDS: Final = 5.0
"""How long it is not asked then."""
_KNOWN: Final = 256
"""Vectors that are kept from when a question is looked for until its answer is kept."""


class ModelVectors:
    """The vectors of one policy's questions. Tenants are apart: the time it takes would tell what others have asked."""

    def __init__(self, model_id: str, deps: Deps, *, cost: Number) -> None:
        self._model_id: Final = model_id
        self._deps: Final = deps
        self._cost: Final = cost
        self._known: OrderedDict[tuple[str, str, str], Vectored] = OrderedDict()
        self._flights: dict[tuple[str, str, str], asyncio.Future[Vectored]] = {}
        self._places: dict[str, int] = {}
        """How many calls there are of each tenant."""
        self._late = 0
        self._paused_until = 0.0

    async def of(self, ask: Ask, text: str, whose: str) -> Vectored:
        """Give that of a text. Whoever stops waiting takes nothing from others, or from who asks for it later.

        Raises Busy, NotCompared, NotAsked, Unreadable, RoutingError, UpstreamError or GatewayError.
        """
        model = model_of(ask, self._model_id)
        print_ = print_of(model)
        if print_ is None:
            raise NotCompared("mixed")
        key = whose, print_, text
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        return await asyncio.shield(self._flights.get(key) or self._begin(ask, model, key))

    def _begin(self, ask: Ask, model: ServedModel, key: tuple[str, str, str]) -> "asyncio.Future[Vectored]":
        tenant = ask.principal.tenant
        mine, running = self._places.get(tenant, 0), len(self._flights)
        if mine >= MOST_AT_ONCE - running:
            raise Busy
        if self._deps.loop_time() < self._paused_until:
            raise NotCompared("paused")
        flight: asyncio.Future[Vectored] = asyncio.get_running_loop().create_future()
        try:
            self._deps.background.start(self._fly(ask, model, key, flight))
        except Overloaded:
            raise Busy from None
        self._flights[key] = flight
        self._places[tenant] = mine + 1

        def land(_: object) -> None:
            del self._flights[key]
            self._places[tenant] -= 1
            if not self._places[tenant]:
                del self._places[tenant]

        flight.add_done_callback(land)
        return flight

    async def _fly(
        self, ask: Ask, model: ServedModel, key: tuple[str, str, str], flight: "asyncio.Future[Vectored]"
    ) -> None:
        _, print_, text = key
        began = self._deps.loop_time()
        try:
            made = Vectored(await self._asked(ask, model, text), print_)
            self._note(is_late=self._deps.loop_time() - began > LATE_SECONDS)
            if print_of(model) != print_:
                raise NotCompared("mixed")
            self._known[key] = made
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
            flight.set_result(made)
        except Exception as error:  # noqa: BLE001 - it is for whoever waits
            if not isinstance(error, NotAsked | NotCompared):
                self._note(is_late=True)
            flight.set_exception(error)
            flight.exception()  # Maybe nobody waits any more.
        finally:
            if not flight.done():
                flight.cancel()  # The process ends.

    def _note(self, *, is_late: bool) -> None:
        self._late = self._late + 1 if is_late else 0
        if self._late >= MOST_LATE:
            self._paused_until = self._deps.loop_time() + PAUSE_SECONDS

    async def _asked(self, ask: Ask, model: ServedModel, text: str) -> "NDArray[numpy.float32]":
        now = self._deps.loop_time()
        own = Ask(
            ask.request, ask.model, ask.runtime, started=now, expires_at=now + SECONDS, budget=self._deps.budget,
            request_id=ask.request_id, principal=ask.principal,
        )  # fmt: skip
        own.hold()
        try:
            async with asyncio.timeout(SECONDS):
                answer = await ask_model(own, model, questions([text])[0], self._deps.executor)
        finally:
            own.leave()
            own.bill.settle_streams()
            self._cost.value += own.bill.nano_dollars
        return _row(read_vectors(answer, 1)[0])


def print_of(model: ServedModel) -> str | None:
    """Digest what makes the vectors: of two, nothing is comparable. None while endpoints run several."""
    contents = model.endpoints.contents
    if contents is None:
        return None
    said = "\0".join((model.identity.hex(), model.upstream_name, contents))
    return blake2b(said.encode(), digest_size=16, person=b"vectors").hexdigest()


def _row(vector: tuple[float, ...]) -> "NDArray[numpy.float32]":
    import numpy

    if len(vector) > MOST_DIMENSIONS:
        raise NotAsked(f"its vectors have {len(vector)} numbers, and {MOST_DIMENSIONS} are compared")
    return numpy.array(vector, numpy.float32)


class AlikeByModel(AlikeInProcess):
    """Implements `port.AlikeEntries`: who asks says how to get its vector (`Alike.vector_of`)."""

    def __init__(self, tier: SemanticTier, **shared: Any) -> None:
        super().__init__(tier, **shared)
        self._least: Final = tier.similarity if tier.similarity is not None else 1.0

    def _compares(self, text: str) -> bool:
        # NB: the rules are of English; without them a question may be in any language.
        return is_compared(text) if self._tier.verify else len(text) <= MOST_CHARACTERS

    async def _near(self, alike: Alike) -> list[Near]:
        if alike.vector_of is None:
            return []
        made = await alike.vector_of(alike.text, alike.partition.partition(".")[0])
        return await self._threads.run(self._similar, alike, made) if len(self._index) else []

    async def _kept(self, alike: Alike, key: CacheKey, entry: Entry) -> None:
        if alike.vector_of is None or not self._compares(alike.text):
            return
        made = await alike.vector_of(alike.text, alike.partition.partition(".")[0])
        asked = Asked(key, alike.text, entry.expires_ms)
        await self._threads.run(self._index.put, _within(alike, made), asked, made.vector)

    def _similar(self, alike: Alike, made: Vectored) -> list[Near]:
        near = self._index.nearest(_within(alike, made), made.vector, count=self._tier.topK, now_ms=self._now_ms())
        serving = [
            one
            for one in near
            if one.similarity >= max(alike.least, self._least)
            and not (self._tier.verify and differ(alike.text, one.asked.text))
        ]
        for one in serving[:1]:
            self._index.used(one.asked.key)
        return serving


def _within(alike: Alike, made: Vectored) -> str:
    """Give what a question is found within: vectors of another model, or of another length, are elsewhere."""
    return f"{alike.partition}|{made.of}|{len(made.vector)}"
