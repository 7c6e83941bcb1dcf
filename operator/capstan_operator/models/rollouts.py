"""The rollout in steps of one model, from what a reconcile has listed: what is wanted beside the stable pods, and what
is to be remembered. The decisions are made in `desired/rollouts`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from capstan_contract.evaluation import TrackScores
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.rollout import RolloutStatus
from capstan_operator.desired.adoption import RolloutState, node_selector_of
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.rollouts.machine import (
    REST_SECONDS,
    Decision,
    Seen,
    Split,
    decide,
    is_trying_profile,
    try_of,
    waits_for_turn,
    wants_of,
)
from capstan_operator.desired.rollouts.memory import State, read_memory
from capstan_operator.desired.rollouts.objects import Beside, wanted_beside
from capstan_operator.desired.rollouts.revisions import asked_of, has_steps, held_by, keeps_spec
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.types import Action, DesiredModel, Pending, Wanted
from capstan_operator.gateway_config.ledger import HUNDREDTHS, UNKNOWN, Recorded
from capstan_operator.gateway_config.tracks import Counts
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import GRADUALLY, BuildSettings
from capstan_operator.status.rollouts import Pods, Tracks, see, sort_pods


class TrackCounts(Protocol):
    """What gateways have counted."""

    def want(self, key: ObjectKey, tried: str | None) -> None:
        """Say which try of a model is to be followed; None: none."""
        ...

    def of(self, key: ObjectKey, tried: str) -> Counts | None:
        """Give what was counted of it."""
        ...


class NoCounts:
    """Nobody counts."""

    def want(self, key: ObjectKey, tried: str | None) -> None:
        """Nothing follows."""

    def of(self, key: ObjectKey, tried: str) -> Counts | None:  # noqa: ARG002
        """Nothing is known."""
        return None


@dataclass(frozen=True)
class Turn:
    """One look at a model: what it was told at its beginning."""

    model: Model
    """With the spec that its stable pods follow from."""
    newest: LLMModelSpec | None
    """What the LLMModel says; None where that cannot be used."""
    memory: RolloutStatus | None
    pods: Pods


class Rollouts:
    """Looks at one model after the other; remembers nothing itself."""

    def __init__(
        self,
        settings: BuildSettings,
        *,
        split: Callable[[ObjectKey], Recorded | None],
        counts: TrackCounts,
        scores: Callable[[ObjectKey], tuple[TrackScores, ...] | None] = lambda _: None,
        is_its_turn: Callable[[ObjectKey], bool] = lambda _: True,
    ) -> None:
        """`is_its_turn` says whether a model may begin with what a change of its profile makes of it."""
        self._is_its_turn = is_its_turn
        self._settings = settings
        self._split = split
        self._counts = counts
        self._scores = scores

    def begin(self, model: Model, own: Snapshot) -> tuple[Turn, Snapshot]:
        """Begin a look; give the Snapshot without the pods that are not stable ones."""
        pods = sort_pods(own.pods.get(model.key, ()))
        newest = None if find_faults(model) else model.tried or model.spec
        turn = Turn(model, newest, read_memory(model.status), pods)
        return turn, replace(own, pods={**own.pods, model.key: pods.stable})

    def beside(self, turn: Turn, own: Snapshot, desired: DesiredModel | None, now: datetime) -> tuple[Wanted, ...]:
        """Give what is wanted beside the stable pods: of a model without steps only what is left of some."""
        model, revisions = turn.model, (own.revisions or {}).get(turn.model.key, ())
        if turn.newest is None:
            return ()
        if has_steps(model) and own.revisions is None and turn.memory is not None:
            return tuple(Wanted(item, Action.HOLD) for item in own.children.get(model.key, ()))
        if not has_steps(model) or own.revisions is None:
            return tuple(Wanted(item, Action.PRUNE) for item in revisions if keeps_spec(item))
        seen = self._see(turn, own, desired, now)
        beside = Beside(model, turn.newest, turn.memory, wants_of(turn.memory, seen), keeps=seen.rolled_out)
        return tuple(
            wanted_beside(beside, self._settings, children=own.children.get(model.key, ()), revisions=revisions)
        )

    def stable(self, turn: Turn, own: Snapshot, now: datetime) -> Model:
        """Give the model as its stable pods are to be built: with a replica less where one makes room."""
        model = turn.model
        if turn.newest is None or model.spec is None or turn.memory is None or not turn.memory.replacesOne:
            return model
        if not wants_of(turn.memory, self._see(turn, own, None, now)).replaces_one:
            return model
        spec = model.spec.model_copy(update={"replicas": max(model.spec.replicas - 1, 1)})
        return replace(model, spec=spec)

    def decide(self, turn: Turn, own: Snapshot, desired: DesiredModel, now: datetime) -> Decision:
        """Decide what is to be remembered, and follow what gateways count of it."""
        key = turn.model.key
        if turn.newest is None or (has_steps(turn.model) and own.revisions is None and turn.memory is not None):
            # NB: who forgets what is stable replaces its pods at once, by whatever the spec says.
            return Decision(turn.memory, after=REST_SECONDS)
        if not has_steps(turn.model) or own.revisions is None:
            self._counts.want(key, None)
            return Decision(None)
        decision = decide(turn.memory, self._see(turn, own, desired, now))
        memory = decision.memory
        serves = memory is not None and bool(memory.weight) and memory.state != State.COMPLETE
        self._counts.want(key, try_of(memory) if memory is not None and serves else None)
        return decision

    def waiting(self, turn: Turn, desired: DesiredModel) -> DesiredModel:
        """Give what is desired with the word that something newer waits for its turn, where a change of the profile is
        to be tried."""
        if not self._waits(turn):
            return desired
        gradually = self._settings.adopt_template_changes == GRADUALLY
        return replace(desired, pending=Pending.ADOPTION if gradually else Pending.NEXT_CHANGE)

    def place(self, turn: Turn, state: RolloutState | None) -> RolloutState | None:
        """Give how a model is as far as turns are concerned: one on which a changed profile is being tried has a place,
        from the first pod of its canary to the last one of its promotion."""
        memory, newest = turn.memory, turn.newest
        if state is None or memory is None or newest is None or not has_steps(turn.model):
            return state
        if self._waits(turn):
            needs = newest.resources
            selector = tuple(sorted(node_selector_of(newest).items()))
            # NB: at zero replicas there is no canary, and whoever waits for GPUs would wait for none.
            gpus = 0 if state.idle else needs.gpus
            return replace(state, gpus=gpus, gpu_resource=needs.gpuResource, node_selector=selector)
        if not is_trying_profile(memory):
            return state
        return replace(state, rolls=True, adopts=True, stuck=state.stuck or memory.state == State.PAUSED)

    def _waits(self, turn: Turn) -> bool:
        memory, newest = turn.memory, turn.newest
        if memory is None or newest is None or not has_steps(turn.model):
            return False
        asked = asked_of(turn.model, newest)
        return held_by(memory, asked) is not None and waits_for_turn(memory, asked)

    def forget(self, key: ObjectKey) -> None:
        """A model has gone."""
        self._counts.want(key, None)

    def _see(self, turn: Turn, own: Snapshot, desired: DesiredModel | None, now: datetime) -> Seen:
        assert turn.newest is not None  # noqa: S101
        counts = self._counts.of(turn.model.key, try_of(turn.memory)) if turn.memory else None
        key = turn.model.key
        stable, canary = counts or (None, None)
        tracks = Tracks(self._split_of(key), stable, canary, self._scores(key) or ())
        return see(
            turn.model,
            turn.newest,
            own,
            turn.pods,
            memory=turn.memory,
            desired=desired,
            tracks=tracks,
            settings=self._settings,
            now=now,
            is_its_turn=self._is_its_turn(key),
        )

    def _split_of(self, key: ObjectKey) -> Split | None:
        found = self._split(key)
        if found is None:
            return None
        return Split() if found == UNKNOWN else Split(found.uid, found.generation / HUNDREDTHS)


def is_other_split(before: RolloutStatus | None, memory: RolloutStatus | None) -> bool:
    """Whether the gateway's config says something else of a canary by one memory than by the other."""

    def told(one: RolloutStatus | None) -> Iterable[object]:
        return (one.state, one.stable, try_of(one), one.weight) if one else ()

    return told(before) != told(memory)
