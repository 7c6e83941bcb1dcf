"""The split between a model's stable revision and the one that is tried: exact by weight, and sticky.

    limits ─► guards ─► split ─┬─► the stable revision's cache ─► the model
                               └─► the canary's cache ─► the canary ── no answer ──► the stable revision

Caches are inside of it, so that an answer of one revision is never given for one of the other. No request fails by the
canary as long as its client has been sent nothing: the stable revision answers then. No budget for retries is asked,
since that one gets no more than all of the requests that there are. What must not be sent twice is not.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from capstan_contract.config import Canary, GatewayConfig, ModelEntry, Task
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import GatewayError, RequestPoisoned, UpstreamRejected
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.reply import Reply
from capstan_gateway.pipeline.route import is_ready, sticky_of
from capstan_gateway.pipeline.tracks import FAILURES, Counted, Tries, Try, is_fault
from capstan_gateway.routing.verdicts import CONTENT_FILTER, CONTEXT_LENGTH, Elsewhere, another_model
from capstan_gateway.selection.shares import is_canarys, place_of, places_of


class Tried(NamedTuple):
    """A model of which a revision is tried, as it is in one config."""

    model_id: str
    revision: str
    canary: Canary


class Split:
    """What chooses, for one name of a model: `layers.Layer` and `layers.PerModel`."""

    order = Order.SPLIT
    reads = Reads.NOTHING

    def __init__(self, spec: Tried, of: Try, deps: Deps, model: ServedModel | None = None) -> None:
        self.spec: Final = spec
        self.tried: Final = of
        self._deps: Final = deps
        self._canary: Final = None if model is None else model.canary
        self._places: Final = places_of(spec.canary.weight)
        self._counted: Final = None if self._canary is None else Counted(deps, self._canary, of)

    def around(self, model: ServedModel) -> "Split":
        """Give what acts around this name."""
        return Split(self.spec, self.tried, self._deps, model)

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Give the reply of one of the two; `inner` is the stable one."""
        canary, counted = self._canary, self._counted
        if canary is None or counted is None or not self._is_drawn(ask, canary):
            return await inner(ask)
        if not is_ready(canary, self._deps):
            counted.failed_for(ask)
            return await self._instead(ask, inner, "unready")
        mark, request, inside, governed = ask.opened(), ask.request, ask.inside, ask.governed
        may_wait, ask.may_wait = ask.may_wait, False
        try:
            return await canary.answer(ask)  # type: ignore[no-any-return]
        except FAILURES as error:
            if not may_stand_in(error, spent=ask.stats.spent):
                raise
            failure = error
        finally:
            ask.may_wait = may_wait
        ask.request, ask.inside, ask.governed = request, inside, governed
        ask.close_since(mark)
        if is_fault(failure):
            return await self._instead(ask, inner, "failed")
        reply = await self._instead(ask, inner, "refused")
        # What the stable revision answers was no fault of the request, unless it has only more room for it.
        if getattr(failure, "code", None) != CONTEXT_LENGTH or canary.context_window == canary.main.context_window:
            counted.failed_for(ask)
        return reply

    def _is_drawn(self, ask: Ask, canary: ServedModel) -> bool:
        """Whether the canary is to answer. What only counts is told by the stable revision, and so are vectors for the
        gateway itself: those of two revisions are not comparable."""
        if not self._places or ask.request.route.counts or (ask.own and canary.task is Task.EMBED):
            return False
        key = sticky_of(ask, self.spec.canary.stickyBy)
        place = self.tried.turns.next() if key is None else place_of(key, epoch=self.tried.epoch)
        return is_canarys(place, self._places)

    async def _instead(self, ask: Ask, inner: AnswerFunction, reason: str) -> Reply:
        model = ask.model if self._canary is None else self._canary
        self._deps.metrics.canary_replaced.at(model.name, reason).value += 1
        return await inner(ask)


def may_stand_in(error: Exception, *, spent: bool) -> bool:
    """Whether the stable revision is asked after this error of the canary.

    Also after a refusal of the engine's, which may be a fault of the revision: of a request that is wrong the stable
    one says the same.
    """
    if isinstance(error, UpstreamRejected) and error.code != CONTENT_FILTER:
        return not spent
    if isinstance(error, RequestPoisoned) or (isinstance(error, GatewayError) and error.code == CONTEXT_LENGTH):
        return not spent  # Workers of the stable revision would have had it, too, were there no canary.
    return another_model(error, spent=spent) is Elsewhere.ANYWHERE


class Splits:
    """The kind; `policies.PolicyKind`. It is in force where a revision is tried, and nowhere else."""

    def __init__(self, deps: Callable[[], Deps], tries: Tries) -> None:
        self._deps = deps
        self._tries = tries

    def in_force(self, config: GatewayConfig, entry: ModelEntry) -> tuple[tuple[str, Tried], ...]:  # noqa: ARG002
        """Give the try of a model, if there is one."""
        canary = entry.canary
        return () if canary is None else ((entry.id, Tried(entry.id, entry.revision, canary)),)

    def build(self, id: str, spec: Tried) -> Split:  # noqa: ARG002 - `spec` says it
        """Give the layer."""
        return Split(spec, self._tries.of(spec.model_id, spec.canary, spec.revision), self._deps())
