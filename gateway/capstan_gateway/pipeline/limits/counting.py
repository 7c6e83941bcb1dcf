"""What is counted of the decisions of one policy: by its rules, never by who asked."""

from collections.abc import Sequence
from typing import Final

from capstan_gateway.limits.port import Charge, Outcome
from capstan_gateway.pipeline.limits.rules import Counts, Plan, Policy, Rule
from capstan_gateway.telemetry.cells import Number
from capstan_gateway.telemetry.metrics import Metrics

ALL_RULES: Final = "all"
"""The rule of requests that every rule has let through."""
DOWNGRADED: Final = "downgraded"
CUT: Final = "cut"
"""Of a stream that had begun."""
UNAVAILABLE: Final = "unavailable"
UNPRICED: Final = "unpriced"
RESERVED: Final = "reserved"
SETTLED: Final = "settled"


class PolicyCells:
    """The cells of one policy, looked up once."""

    __slots__ = ("_amounts", "_decisions", "_mode", "_name", "_soft", "_unpriced", "admitted")

    def __init__(self, metrics: Metrics, policy: Policy) -> None:
        self._name = policy.name
        self._mode = policy.body.mode.value.lower()
        self._decisions = metrics.limit_decisions
        self.admitted: Number = self._decision(ALL_RULES, Outcome.ADMITTED)
        self._unpriced = metrics.limit_unpriced.at(policy.name)
        self._soft = metrics.budget_soft_limit
        self._amounts: dict[Rule, tuple[Number, Number]] = {}
        for rule in policy.rules:
            if rule.counts in (Counts.TOKENS, Counts.INPUT, Counts.OUTPUT):
                family = metrics.limit_tokens
            elif rule.counts is Counts.MONEY:
                family = metrics.limit_dollars
            else:
                continue
            cells = family.at(policy.name, rule.name, RESERVED), family.at(policy.name, rule.name, SETTLED)
            self._amounts[rule] = cells

    def _decision(self, rule: str, outcome: str) -> Number:
        return self._decisions.at(self._name, self._mode, rule, outcome)

    def denied(self, rule: Rule, outcome: str) -> None:
        """Count a request that this rule has not let through as it was."""
        self._decision(rule.name, outcome).value += 1

    def unavailable(self) -> None:
        """Count a request for which nobody could tell what is left."""
        self._decision(ALL_RULES, UNAVAILABLE).value += 1

    def unpriced(self) -> None:
        """Count a request that is refused because nobody knows what the model costs."""
        self._decision(ALL_RULES, UNPRICED).value += 1

    def reserved(self, plan: Plan, charges: Sequence[Charge]) -> None:
        """Count what was taken for a request."""
        for place, reserved, _ in plan.cells or self._cells_of(plan):
            reserved.value += charges[place][1]

    def settled(self, plan: Plan, used: Sequence[int], unpriced: int) -> None:
        """Count what it has used in the end."""
        for place, _, settled in plan.cells or self._cells_of(plan):
            settled.value += used[place]
        if unpriced and plan.has_money:
            self._unpriced.value += unpriced

    def _cells_of(self, plan: Plan) -> tuple[tuple[int, Number, Number], ...]:
        plan.cells = tuple((place, *self._amounts[plan.counters[place].rule]) for place in plan.spending)
        return plan.cells

    def soft_limited(self, rule: Rule) -> None:
        """Count a request that was let through above a budget's soft limit."""
        self._soft.at(self._name, rule.name).value += 1
