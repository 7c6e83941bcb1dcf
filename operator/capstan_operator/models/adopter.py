"""Turns for template changes that no change of a spec has caused: who may begin, from what every reconcile has seen.

What it knows follows from the cluster: each model is reported with every reconcile, and nobody gets a turn before every
model has been reported once, or has failed, or could not be looked at for long. An operator that begins anew finds out
by itself who is on the way. No object is listed for it but nodes and the pods on them, and those only while a model
with GPUs waits and a place is free.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from capstan_operator.desired.adoption import RolloutState, decide_turns
from capstan_operator.desired.snapshot import NodeCapacity
from capstan_operator.errors import OperatorError
from capstan_operator.loaders.snapshot import SnapshotLoader
from capstan_operator.metrics import Metrics
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import GRADUALLY, Settings
from capstan_operator.status.types import Problem

log = logging.getLogger(__name__)

GATHER_SECONDS: Final = 0.5
"""After a report: others may follow."""
LOOK_AGAIN_SECONDS: Final = 20.0
"""While somebody waits: GPUs become free without a word to us."""
SAY_AFTER: Final = 60.0
"""Seconds for which models that were not reported yet are waited for in silence, and after which it is said again."""
NOT_LONGER_THAN: Final = 900.0
"""Seconds for which they are waited for at all: one that cannot be looked at must not stop all others for ever."""
NAMED: Final = 10
"""Of those that are waited for, so many are named."""
REFUSED_SECONDS: Final = 600.0
"""Until one whose new template was refused has another turn: its pods serve on, and its status is not to flap."""


class Adopter:
    """Gives turns. It runs where models are reconciled, and nowhere else."""

    def __init__(
        self,
        loader: SnapshotLoader,
        settings: Settings,
        *,
        wake: Callable[[ObjectKey], None],
        metrics: Metrics,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._loader = loader
        self._places = settings.max_concurrent_rollouts
        self._enabled = settings.build.adopt_template_changes == GRADUALLY
        self._wake = wake
        self._metrics = metrics
        self._clock = clock
        self._began = self._said = 0.0
        self._expected: set[ObjectKey] | None = None
        self._states: dict[ObjectKey, RolloutState | None] = {}
        self._granted: frozenset[ObjectKey] = frozenset()
        self._refused: dict[ObjectKey, tuple[float, Problem]] = {}
        self._stuck: frozenset[ObjectKey] = frozenset()
        self._changed = asyncio.Event()

    def expect(self, keys: Iterable[ObjectKey]) -> None:
        """Say which models there are."""
        expected = set(keys)
        if self._expected is None:
            self._began = self._said = self._clock()
        # NB: only those that were there at the beginning: whoever comes later was not on its way before.
        self._expected = expected if self._expected is None else self._expected & expected
        self._states = {key: state for key, state in self._states.items() if key in expected}
        self._refused = {key: found for key, found in self._refused.items() if key in expected}
        self._changed.set()

    def report(self, key: ObjectKey, state: RolloutState | None) -> None:
        """Say how one is; None for one without pods."""
        if state is None or not state.waits:
            self._refused.pop(key, None)
        if key in self._states and self._states[key] == state:
            return
        self._states[key] = state
        if state is None or not state.waits:
            self._granted -= {key}
        self._changed.set()

    def give_up(self, key: ObjectKey) -> None:
        """Say that the reconcile of one failed: whoever has not begun hands its turn on, until it is reported again."""
        self._granted -= {key}
        if (state := self._states.setdefault(key, None)) and not state.rolls:
            self._states[key] = None
        self._changed.set()

    def refuse(self, key: ObjectKey, problem: Problem) -> None:
        """Say that the API server refuses the template that one was to take up: others have their turn."""
        self._granted -= {key}
        self._refused[key] = (self._clock() + REFUSED_SECONDS, problem)
        self._changed.set()

    def refusal(self, key: ObjectKey) -> Problem | None:
        """Give what was refused when it was this one's turn last, as long as it waits for another one."""
        return self._refused[key][1] if key in self._refused else None

    def is_granted(self, key: ObjectKey) -> bool:
        """Whether it is this one's turn."""
        return key in self._granted

    async def run(self) -> None:
        """Give turns until cancelled."""
        while self._enabled:
            waiting = any(state and state.waits for state in self._states.values())
            try:
                async with asyncio.timeout(LOOK_AGAIN_SECONDS if waiting or self._unreported else None):
                    await self._changed.wait()
            except TimeoutError:
                log.debug("looking again")
            await asyncio.sleep(GATHER_SECONDS)
            self._changed.clear()
            try:
                await self.decide()
            except OperatorError as error:
                log.warning("could not give turns", extra={"error": str(error)})
        await asyncio.Event().wait()

    async def decide(self) -> None:
        """Give the turns that can be given now."""
        if self._expected is None or self._must_wait():
            return
        states = [state for state in self._states.values() if state]
        rolling = sum(state.has_place for state in states)
        waiting = [state for state in states if state.waits and not state.has_place]
        self._metrics.adoptions.labels("waiting").set(len(waiting))
        self._metrics.adoptions.labels("rolling").set(rolling)
        self._tell_stuck([state for state in states if state.stuck and state.adopts], waiting=len(waiting))
        nodes = await self._free(waiting) if rolling < self._places else ()
        if nodes is not None:
            # NB: reports may have come in while nodes were listed; nothing is awaited from here on.
            states = [state for state in self._states.values() if state]
        now = self._clock()
        states = [state for state in states if state.key not in self._refused or self._refused[state.key][0] <= now]
        turns = decide_turns(states, nodes=nodes, places=self._places, granted=self._granted)
        begun, self._granted = turns - self._granted, turns
        for key in sorted(begun):
            log.info("took up a change of settings or of shared prompts", extra={"model": str(key)})
            self._wake(key)

    @property
    def _unreported(self) -> set[ObjectKey]:
        return (self._expected or set()) - self._states.keys()

    def _must_wait(self) -> bool:
        """Whether models are not reported yet that may be on their way; say now and then which."""
        unreported, now = self._unreported, self._clock()
        if not unreported:
            return False
        must = now - self._began < NOT_LONGER_THAN
        if now - self._said >= SAY_AFTER:
            self._said = now
            said = "nobody takes up a change of settings yet" if must else "giving turns all the same"
            named = [str(key) for key in sorted(unreported)[:NAMED]]
            log.warning("models were not looked at: %s", said, extra={"models": named, "count": len(unreported)})
        return must

    def _tell_stuck(self, stuck: Iterable[RolloutState], *, waiting: int) -> None:
        """Count them, and say which hold their places, and so everybody else up."""
        found = list(stuck)
        self._metrics.adoptions.labels("stuck").set(len(found))
        holding = frozenset(state.key for state in found if state.has_place) if waiting else frozenset()
        if holding - self._stuck:
            named = [str(key) for key in sorted(holding)]
            log.warning(
                "rollouts for a change of settings or of shared prompts are stuck, and others wait for them",
                extra={"models": named, "waiting": waiting},
            )
        self._stuck = holding

    async def _free(self, waiting: Iterable[RolloutState]) -> tuple[NodeCapacity, ...] | None:
        resources = {state.gpu_resource for state in waiting if state.gpus}
        return await self._loader.capacity(resources) if resources else ()
