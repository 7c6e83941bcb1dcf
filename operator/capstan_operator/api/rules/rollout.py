"""Rollouts in steps: weights that rise, and what is only said together with them."""

from collections.abc import Callable
from typing import Any

from capstan_operator.api.rules.cel import absent, empty
from capstan_operator.api.schema import Rule

_OF_STEPS = ("gate", "onFail", "onInconclusive", "whenNoRoom")


def _needs_steps(field: str) -> Callable[[Any], bool]:
    return lambda self: getattr(self, field) is None or bool(self.steps)


def _names_once(field: str) -> Callable[[Any], bool]:
    def holds(self: Any) -> bool:
        named = [(one.configMap, one.file) for one in getattr(self, field)]
        return len(set(named)) == len(named)

    return holds


ROLLOUT = (
    Rule(
        cel="!has(self.steps) || self.steps.map(one, one.weight).isSorted()",
        message="must have weights that rise from step to step",
        holds=lambda self: [one.weight for one in self.steps] == sorted(one.weight for one in self.steps),
        field_path=".steps",
    ),
    *(
        Rule(
            cel=f"!has(self.{field}) || !({empty('steps')})",
            message="must not be set without `steps`",
            holds=_needs_steps(field),
            field_path=f".{field}",
        )
        for field in _OF_STEPS
    ),
)

GATE = (
    Rule(
        cel=f"({absent('judge', 'deadlineSeconds')}) || !({empty('suites', 'safety')})",
        message="must not have `judge` or `deadlineSeconds` without `suites` or `safety`",
        holds=lambda self: (self.judge is None and self.deadlineSeconds is None) or bool(self.suites or self.safety),
    ),
    Rule(
        cel="(has(self.suites) ? size(self.suites) : 0) + (has(self.safety) ? size(self.safety) : 0) <= 8",
        message="must have at most 8 `suites` and `safety` together",
        holds=lambda self: len(self.suites) + len(self.safety) <= 8,
    ),
    *(
        Rule(
            cel=f"!has(self.{field}) || self.{field}.all(one, self.{field}.exists_one(other,"
            " one.configMap == other.configMap"
            " && (has(one.key) ? one.key : 'suite.yaml') == (has(other.key) ? other.key : 'suite.yaml')))",
            message="must not name a suite twice",
            holds=_names_once(field),
            field_path=f".{field}",
        )
        for field in ("suites", "safety")
    ),
)

SPEC = (
    Rule(
        cel="!has(self.rollout) || !has(self.rollout.gate) || !has(self.rollout.gate.score) || has(self.evaluation)",
        message="needs `evaluation`: it is the scores of sampled answers that are compared",
        holds=lambda self: self.rollout is None or self.rollout.gates.score is None or self.evaluation is not None,
        field_path=".rollout.gate.score",
    ),
    Rule(
        cel="!has(self.rollout) || !has(self.rollout.whenNoRoom) || self.rollout.whenNoRoom != 'ReplaceOne'"
        " || !has(self.scaling)",
        message="must not be ReplaceOne together with `scaling`, which says how many replicas there are",
        holds=lambda self: self.rollout is None or not self.rollout.gives_one or self.scaling is None,
        field_path=".rollout.whenNoRoom",
    ),
)
