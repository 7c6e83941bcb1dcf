"""What all policies of guards share."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from capstan_contract.guards import Action
from capstan_gateway.guards.port import Scan
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.audit import Audit
from capstan_gateway.pipeline.guards.compiled import CompiledGuard, CompiledPolicy
from capstan_gateway.pipeline.guards.counting import FAILED, WORDS, PolicyCounts
from capstan_gateway.pipeline.guards.pieces import Piece
from capstan_gateway.pipeline.guards.port import Case
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.stage import Decision, Stage

MOST_SHADOWS: Final = 64
"""Requests and answers that policies in mode Shadow look at at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all policies have in common."""

    deps: Deps
    threads: Threads
    """Where detectors work that would hold the loop."""
    audit: Audit
    now: Callable[[], float] = time.time
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """One policy as it judges what belongs to one ask: what is said in a request, and what is said in its answer."""

    policy: CompiledPolicy
    shared: Shared
    counts: PolicyCounts
    ask: Ask
    redactor: Redactor = field(default_factory=Redactor)
    """Has redacted the request."""

    async def decide(
        self, guards: Sequence[CompiledGuard], pieces: Sequence[Piece], *, redactor: Redactor,
        answer: dict[str, Any] | None = None,
    ) -> Decision:  # fmt: skip
        """Have these guards look at these pieces; raises nothing but CancelledError."""
        loop_time, expires_at = self.shared.deps.loop_time, self.ask.expires_at
        stage = Stage(
            guards, self.shared.threads, partial(self._asked, answer), redactor.redacted,
            lambda: expires_at - loop_time(),
        )  # fmt: skip
        return await stage.decide(pieces)

    async def _asked(
        self, answer: dict[str, Any] | None, one: CompiledGuard, pieces: Sequence[Piece]
    ) -> Sequence[Scan]:
        return (
            ()
            if one.asking is None
            else await one.asking.judge(Case(stage=one.stage, ask=self.ask, pieces=pieces, answer=answer))
        )

    def record(self, decision: Decision, pieces: Sequence[Piece]) -> None:
        """Count and write down what was decided, and tell the client what it may know."""
        mode = self.policy.body.mode.value
        name, audit = self.counts.policy, self.shared.audit
        for guard, seconds in decision.seconds:
            self.counts.took(guard, seconds)
        for one in decision.found:
            word = WORDS[one.action]
            self.counts.count(one.guard, word, mode=mode)
            audit.decided(self.ask, name, one.guard, word, mode=mode, findings=one.findings, pieces=pieces)
            if self.policy.enforces and one.action is not Action.BLOCK:
                self.ask.note_guard(one.guard.name, word)
        for failed in decision.failed:
            self.counts.count(failed.guard, FAILED, mode=mode)
            audit.decided(self.ask, name, failed.guard, FAILED, mode=mode, reason=failed.reason)
            if self.policy.enforces and not failed.closes:
                self.ask.note_guard(failed.guard.name, FAILED)
