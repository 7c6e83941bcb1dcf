"""A GuardPolicy as it acts: its guards, with what does the work of each, made once and aside from requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from capstan_contract.guards import (
    ASKED,
    Action,
    AnyGuard,
    AttackGuard,
    ConfidenceGuard,
    GuardBody,
    PiiGuard,
    Source,
    Stage,
    TopicsGuard,
    check_guard_body,
)
from capstan_contract.limits import Mode
from capstan_gateway.guards.build import build_detector
from capstan_gateway.guards.port import Cost, Detector, Finding
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asking import ASKING
from capstan_gateway.pipeline.guards.port import AskingGuard

_MOST_KNOWN: Final = 2048
"""Policies that are kept between two configs."""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledGuard:
    """One guard, and what does its work."""

    guard: AnyGuard
    stage: Stage
    detector: Detector | None
    """What looks at each text in the process; None when nothing does."""
    asking: AskingGuard | None
    """What is asked: about what the detector is in doubt of, or, without one, about everything."""
    sources: frozenset[Source]
    actions: Mapping[str, Action]
    """Of kinds of findings whose action is not the guard's."""
    is_cheap: bool = field(init=False)
    """Whether what it does in the process may be done on the loop."""

    def __post_init__(self) -> None:
        """Ask its detector once what it costs."""
        cheap = self.detector is not None and self.detector.cost is Cost.CHEAP
        object.__setattr__(self, "is_cheap", cheap)

    @property
    def name(self) -> str:
        """What the policy calls it."""
        return self.guard.name

    @property
    def redacts(self) -> bool:
        """Whether it replaces what it finds, and finds that in the process."""
        if self.detector is None or self.asking is not None:
            return False
        return self.guard.action is Action.REDACT or Action.REDACT in self.actions.values()

    @property
    def of_all(self) -> "CompiledGuard":
        """Give the same that looks at all texts of requests, for those of which nobody can say whose they are."""
        return replace(self, sources=frozenset(ASKED))

    @property
    def seconds(self) -> float:
        """How long it may take."""
        return self.guard.timeoutMillis / 1000

    def action_of(self, finding: Finding) -> Action:
        """Say what becomes of a text with this in it."""
        return finding.action or self.actions.get(finding.kind, self.guard.action)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPolicy:
    """A policy whose guards can all do their work."""

    body: GuardBody
    input: tuple[CompiledGuard, ...]
    output: tuple[CompiledGuard, ...]

    @property
    def enforces(self) -> bool:
        """Whether it changes anything."""
        return self.body.mode is Mode.ENFORCE

    @property
    def restores(self) -> bool:
        """Whether placeholders of answers become again what they stand for."""
        return any(isinstance(one.guard, PiiGuard) and one.guard.restore for one in self.input)

    @property
    def wants_logprobs(self) -> bool:
        """Whether engines must be asked for the probabilities of their tokens."""
        return any(isinstance(one.guard, ConfidenceGuard) for one in self.output)

    @property
    def reads_everything(self) -> bool:
        """Whether some guard looks at whatever is asked, so that prompts which nobody can read are a way around it."""
        return any(Source.USER in one.sources for one in self.input)


def compile_policy(body: GuardBody, deps: Deps) -> CompiledPolicy:
    """Make what a policy needs; ValueError, naming the guard, when one of its guards cannot be enforced."""
    return CompiledPolicy(
        body,
        tuple(_compiled(guard, Stage.INPUT, deps) for guard in body.input),
        tuple(_compiled(guard, Stage.OUTPUT, deps) for guard in body.output),
    )


def _compiled(guard: AnyGuard, stage: Stage, deps: Deps) -> CompiledGuard:
    build = ASKING.get(type(guard))
    try:
        detector = build_detector(guard)
        asking = None if build is None else build(guard, deps)
    except ValueError as error:
        raise ValueError(f"the guard `{guard.name}` cannot be enforced: {error}") from error
    if lacking := _lacking(guard, detector, asking):
        raise ValueError(f"the guard `{guard.name}` cannot be enforced: this release has no {lacking}")
    actions = {}
    if isinstance(guard, PiiGuard):
        actions = {entity.type: entity.action for entity in guard.entities if entity.action is not None}
    return CompiledGuard(guard, stage, detector, asking, frozenset(guard.appliesTo), actions)


def _lacking(guard: AnyGuard, detector: Detector | None, asking: AskingGuard | None) -> str | None:
    """Name what a guard needs and has not."""
    if detector is None and asking is None:
        return f"guards of type {guard.type}"
    if asking is None:
        if isinstance(guard, AttackGuard) and guard.classifier is not None:
            return "classifier that is a model"
        if isinstance(guard, TopicsGuard) and guard.model is not None:
            return "similarity by a model"
    return None


class Compiler:
    """Compiles policies, each once for as long as configs hold it.

    `check` is called where configs are read, in a thread of its own: what is large is made there.
    """

    def __init__(self, deps: Callable[[], Deps]) -> None:
        self._deps = deps
        self._known: dict[bytes, CompiledPolicy] = {}

    def check(self, body: Mapping[str, Any]) -> CompiledPolicy:
        """Give the policy of this body. ValueError when it cannot be read, or not be enforced."""
        key = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        known = self._known.get(key)
        if known is None:
            known = compile_policy(check_guard_body(body), self._deps())
            if len(self._known) < _MOST_KNOWN:
                self._known[key] = known
        return known

    def retain(self, policies: frozenset[CompiledPolicy]) -> None:
        """Forget all others."""
        # NB: what another thread puts in meanwhile may be forgotten: it is compiled again then.
        self._known = {key: policy for key, policy in tuple(self._known.items()) if policy in policies}
