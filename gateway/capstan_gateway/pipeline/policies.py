"""From the policies of a config to the answer function of each model."""

from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.pipeline.call import call_model
from capstan_gateway.pipeline.cascade import cascade_answer
from capstan_gateway.pipeline.counted import Comparison
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.fallbacks import first_answer
from capstan_gateway.pipeline.images import answer_with_images
from capstan_gateway.pipeline.layers import AnswerFunction, Layer, around_model, compose
from capstan_gateway.pipeline.split import Split
from capstan_gateway.pipeline.tracks import counted
from capstan_gateway.selection.plan import CascadePlan

Spec = TypeVar("Spec")


class PolicyKind(Protocol[Spec]):
    """One kind of policy: how the config says what is in force, and what acts on it."""

    def in_force(self, config: GatewayConfig, entry: ModelEntry) -> Iterable[tuple[str, Spec]]:
        """Give the policies on this model, each with the id of its resource; the outermost first. Pure."""
        ...

    def build(self, id: str, spec: Spec) -> Layer:
        """Give what acts on requests. Its state, if it has any that survives a Runtime, lives elsewhere, by its id."""
        ...


@runtime_checkable
class PerRevision(Protocol):
    """A kind that acts by itself around each revision of a model, as what keeps answers does: it is inside of the
    choice between them."""

    per_revision: bool
    """True."""


class Policies:
    """The policies of one config, each built once: `config.runtime.Answering`.

    One that is as it was in the config before is the same object, so that a model whose entry and policies are what
    they were keeps its answer function too.
    """

    def __init__(
        self,
        kinds: Sequence[PolicyKind[Any]],
        config: GatewayConfig,
        deps: Deps,
        previous: "Policies | None" = None,
        comparison: Comparison | None = None,
    ) -> None:
        self._kinds = kinds
        self._config = config
        self._deps = deps
        self._comparison = comparison
        self._previous = previous._built if previous is not None else {}
        self._built: dict[Hashable, tuple[Any, Layer]] = {}

    def layers_of(self, entry: ModelEntry) -> tuple[Layer, ...]:
        """Give the layers in force on a model."""
        if not self._kinds:
            return ()
        return self._layers_of(entry, self._kinds)

    def layers_of_canary(self, entry: ModelEntry) -> tuple[Layer, ...]:
        """Give those on a revision that is tried, by the entry of the canary, which are not the model's."""
        return self._layers_of(entry, [kind for kind in self._kinds if isinstance(kind, PerRevision)])

    def _layers_of(self, entry: ModelEntry, kinds: Iterable[PolicyKind[Any]]) -> tuple[Layer, ...]:
        return tuple(self._layer(kind, id, spec) for kind in kinds for id, spec in kind.in_force(self._config, entry))

    def _layer(self, kind: PolicyKind[Any], id: str, spec: Any) -> Layer:
        known = self._built.get((kind, id))
        if known is None:
            known = self._previous.get((kind, id))
            if known is None or known[0] != spec:
                known = spec, kind.build(id, spec)
            self._built[kind, id] = known
        return known[1]

    def compose(self, model: ServedModel, layers: tuple[Layer, ...]) -> None:
        """Give a model its answer functions: as it is asked for, and as one of several that may answer."""
        deps = self._deps
        split = next((layer for layer in layers if isinstance(layer, Split)), None)
        if isinstance(model.plan, CascadePlan):
            alone: AnswerFunction = partial(cascade_answer, deps, model, model.plan)
        else:
            alone = self._call_of(model, split)
        if model.canary is not None:
            canary = model.canary
            own = compose(around_model(canary.layers, canary), self._call_of(canary, split))
            canary.answer = canary.answer_alone = own
        whole = partial(first_answer, deps, model) if model.plan is not None or model.fallbacks else alone
        model.layers = layers
        layers = around_model(layers, model)
        model.answer_alone = compose(layers, alone)
        model.answer = model.answer_alone if whole is alone else compose(layers, whole)

    def _call_of(self, model: ServedModel, split: Split | None) -> AnswerFunction:
        """Give what asks a model that answers itself, or a revision of it that is tried: then both are counted."""
        deps = self._deps
        alone: AnswerFunction = partial(call_model, deps, model)
        if split is not None:
            alone = counted(deps, model, split.tried, alone)
        if self._comparison is not None:
            alone = partial(self._comparison.answer, model, alone)
        if deps.images is not None and not model.external:
            alone = partial(answer_with_images, deps, deps.images, model, alone)
        return alone
