"""What is counted of the guards of one policy: by its guards, never by who asked."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from capstan_contract.guards import Action, GuardCounts, Stage
from capstan_gateway.pipeline.guards.compiled import CompiledGuard, CompiledPolicy
from capstan_gateway.pipeline.guards.spending import LastHour
from capstan_gateway.telemetry.metrics import Metrics

BLOCKED: Final = "blocked"
REDACTED: Final = "redacted"
WARNED: Final = "warned"
FAILED: Final = "failed"
WORDS: Final = {Action.BLOCK: BLOCKED, Action.REDACT: REDACTED, Action.WARN: WARNED}


@dataclass(slots=True)
class _Counts:
    blocked: int = 0
    redacted: int = 0
    warned: int = 0
    failed: int = 0


class PolicyCounts:
    """The counts of one policy. They stay as long as there is a policy of its id, however that is changed."""

    def __init__(self, metrics: Metrics, id: str, now: Callable[[], float] = time.monotonic) -> None:
        self.policy: Final = id.partition("/")[2]
        """What metrics and the audit record call it: NAMESPACE/NAME."""
        self._metrics = metrics
        self._now = now
        self._counts: dict[tuple[Stage, str, str, str], _Counts] = {}
        self._hour = LastHour()

    def count(self, guard: CompiledGuard, decision: str, *, mode: str) -> None:
        """Count one decision of a guard; `mode` is the policy's."""
        counts = self._counts.setdefault((guard.stage, guard.name, guard.guard.type, mode), _Counts())
        setattr(counts, decision, getattr(counts, decision) + 1)
        stage = guard.stage.value
        self._metrics.guard_decisions.at(self.policy, guard.name, stage, mode.lower(), decision).value += 1
        if decision == BLOCKED and mode == "Enforce":
            self._metrics.guard_blocks.at(guard.guard.type, stage).value += 1

    def took(self, guard: CompiledGuard, seconds: float) -> None:
        """Note how long a guard was at work."""
        self._metrics.guard_seconds.at(guard.guard.type, guard.stage.value).observe(seconds)

    def dropped(self) -> None:
        """Count a request or an answer that nobody looked at in mode Shadow, or not everybody."""
        self._metrics.guard_shadows_dropped.at(self.policy).value += 1

    def may_spend(self, nano_dollars: int) -> bool:
        """Whether looks in mode Shadow have spent less than that in the last hour."""
        return self._hour.sum(self._now()) < nano_dollars

    def spent(self, nano_dollars: int) -> None:
        """Count what a look in mode Shadow cost: that is on nobody's bill."""
        if nano_dollars:
            self._hour.add(nano_dollars, self._now())
            self._metrics.guard_shadows_cost.at(self.policy).value += nano_dollars

    def of(self, policy: CompiledPolicy) -> Iterable[GuardCounts]:
        """Give the counts of the guards that a policy has now, in its mode."""
        mode = policy.body.mode.value
        for guard in (*policy.input, *policy.output):
            known = self._counts.get((guard.stage, guard.name, guard.guard.type, mode), _Counts())
            yield GuardCounts(
                stage=guard.stage, name=guard.name, type=guard.guard.type,
                blocked=known.blocked, redacted=known.redacted, warned=known.warned, failed=known.failed,
            )  # fmt: skip

    def retain(self, policy: CompiledPolicy) -> None:
        """Forget guards that the policy has no more."""
        kept = {(guard.stage, guard.name, guard.guard.type) for guard in (*policy.input, *policy.output)}
        self._counts = {key: counts for key, counts in self._counts.items() if key[:3] in kept}
