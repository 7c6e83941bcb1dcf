"""What all policies of guards share."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from capstan_contract.guards import Action
from capstan_contract.guards import Stage as GuardStage
from capstan_gateway.guards.port import Scan
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.audit import Audit
from capstan_gateway.pipeline.guards.compiled import CompiledGuard, CompiledPolicy
from capstan_gateway.pipeline.guards.counting import BLOCKED, FAILED, WORDS, PolicyCounts
from capstan_gateway.pipeline.guards.lanes import INLINE_CHARS, Lane, Lanes
from capstan_gateway.pipeline.guards.pieces import Piece, TooManyTexts
from capstan_gateway.pipeline.guards.port import Case, Document
from capstan_gateway.pipeline.guards.reading import INLINE_BYTES
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.shadow import Shadows
from capstan_gateway.pipeline.guards.stage import Decision, Stage, are_few


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all policies have in common."""

    deps: Deps
    lanes: Lanes
    """Where detectors work that would hold the loop."""
    audit: Audit
    shadows: Shadows
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
    everywhere: bool = False
    """Whether the policy is the installation's, in force everywhere."""
    adds_logprobs: bool = False
    """Whether the engine is asked for probabilities of tokens that the client did not ask for: they are taken out."""

    @property
    def lane(self) -> Lane:
        """Where detectors work for who asks."""
        return self.shared.lanes.of(self.ask.principal.tenant)

    async def decide(
        self, guards: Sequence[CompiledGuard], pieces: Sequence[Piece], *, redactor: Redactor,
        answer: Document | None = None,
    ) -> Decision:  # fmt: skip
        """Have these guards look at these pieces; raises nothing but CancelledError."""
        loop_time, expires_at = self.shared.deps.loop_time, self.ask.expires_at
        stage = Stage(
            guards, self.lane, partial(self._asked, answer), redactor.redacted,
            lambda: expires_at - loop_time(),
        )  # fmt: skip
        return await stage.decide(pieces)

    async def _asked(self, answer: Document | None, one: CompiledGuard, pieces: Sequence[Piece]) -> Sequence[Scan]:
        if one.asking is None:
            return ()
        case = Case(
            stage=one.stage, ask=self.ask, pieces=pieces, policy=self.counts.policy, everywhere=self.everywhere,
            answer=answer,
        )  # fmt: skip
        return await one.asking.judge(case)

    async def rewritten(self, redactor: Redactor, pieces: Sequence[Piece], decision: Decision) -> Sequence[Piece]:
        """Give the pieces with what is to be redacted replaced, these very ones where nothing was found; beside the
        loop where they are long, or many."""
        if not decision.found:
            return pieces
        rewrite = partial(redactor.rewritten, pieces, tuple(decision.found))
        if are_few(pieces) and sum(len(piece.text) for piece in pieces) <= INLINE_CHARS:
            return rewrite()
        return await beside(self.shared.deps.executor, rewrite)

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
            if not self.policy.enforces:
                continue
            if one.action is not Action.BLOCK:
                self.ask.note_guard(one.guard.name, word)
            elif one.guard.stage is GuardStage.OUTPUT:
                self.ask.note_withheld()
        for failed in decision.failed:
            self.counts.count(failed.guard, FAILED, mode=mode)
            audit.decided(self.ask, name, failed.guard, FAILED, mode=mode, reason=failed.reason)
            if self.policy.enforces and not failed.closes:
                self.ask.note_guard(failed.guard.name, FAILED)

    def blocked_instead(self, guard: CompiledGuard) -> None:
        """Count that a guard blocks what it would redact, if another text could stand there."""
        self.counts.count(guard, BLOCKED, mode=self.policy.body.mode.value)
        if guard.stage is GuardStage.OUTPUT:
            self.ask.note_withheld()
        self.shared.audit.decided(
            self.ask, self.counts.policy, guard, BLOCKED, mode=self.policy.body.mode.value, reason="not writable"
        )

    def look(
        self, guards: Sequence[CompiledGuard], read: Callable[[], tuple[Sequence[Piece], Document | None]], *, size: int
    ) -> None:
        """Have these guards look, beside the request, at what `read` makes of `size` bytes: texts, and the answer when
        they are of one. It is for policies that change nothing, and counted when there is no room for that.

        Those that ask somebody look on no more for the rest of an hour in which they have spent what they may.
        """
        if not self.counts.may_spend(self.shared.shadows.nano_dollars):
            free = [one for one in guards if one.asking is None]
            if len(free) < len(guards):
                self.counts.dropped()
            if not free:
                return
            guards = free
        # NB: what it asks is on no client's bill, and takes nothing of anybody's limits: it is counted for the policy.
        child = self.ask.fork(settles=True)
        child.governed = None
        child.hold()
        judging = replace(self, ask=child)

        async def work() -> None:
            try:
                pieces, answer = read() if size <= INLINE_BYTES else await beside(self.shared.deps.executor, read)
                decision = await judging.decide(guards, pieces, redactor=Redactor(), answer=answer)
                judging.record(decision, pieces)
            except TooManyTexts:
                self.counts.dropped()
            finally:
                self.counts.spent(child.bill.nano_dollars)
                child.leave()

        if not self.shared.shadows.look(work, size=size):
            child.leave()
            self.counts.dropped()
