"""What is stored of a conversation: with placeholders for what guards find that are in force on the model. Pure.

A guard of personal data redacts here whatever it does with requests: one that only warns, or is in mode Shadow, says
all the same what must not lie around. Guards of other types do so where they redact.
"""

from collections.abc import Iterable, Sequence

from capstan_contract.guards import Action, PiiGuard, Source
from capstan_contract.samples import Turn
from capstan_gateway.guards.placeholders import Naming, redact
from capstan_gateway.guards.placeholders import Piece as Marked
from capstan_gateway.guards.port import Finding
from capstan_gateway.pipeline.guards.compiled import CompiledGuard, CompiledPolicy

_BY_ROLE = {
    "system": Source.SYSTEM, "developer": Source.SYSTEM, "assistant": Source.ASSISTANT, "tool": Source.TOOL_RESULTS,
    "function": Source.TOOL_RESULTS,
}  # fmt: skip


def redactors_of(policies: Iterable[CompiledPolicy]) -> tuple[CompiledGuard, ...]:
    """Give the guards whose findings are not stored."""
    guards = (guard for policy in policies for guard in (*policy.input, *policy.output))
    return tuple(
        guard for guard in guards if guard.redacts or (guard.detector is not None and isinstance(guard.guard, PiiGuard))
    )


def redacted(prompt: Sequence[Turn], answer: str, guards: Sequence[CompiledGuard]) -> tuple[tuple[Turn, ...], str]:
    """Give a conversation and its answer as they may be stored: a value has one placeholder in all of it.

    Whoever a text is of, each guard looks at it.
    """
    if not guards:
        return tuple(prompt), answer
    texts = [(turn.text, _BY_ROLE.get(turn.role, Source.USER)) for turn in prompt]
    texts.append((answer, Source.TEXT))
    marked = [Marked(text, [*_found(text, source, guards)]) for text, source in texts]
    *turns, said = redact(marked, naming=Naming()).texts
    return tuple(Turn(role=turn.role, text=text) for turn, text in zip(prompt, turns, strict=True)), said


def _found(text: str, source: Source, guards: Sequence[CompiledGuard]) -> Iterable[Finding]:
    for guard in guards:
        if guard.detector is None:
            continue
        for finding in guard.detector.scan(text, source).findings:
            if isinstance(guard.guard, PiiGuard) or guard.action_of(finding) is Action.REDACT:
                yield finding
