"""The audit record: one line for each decision of a guard. It holds no text, only where something was, and a hash."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from capstan_gateway.dialects.targets.private import Pseudonyms
from capstan_gateway.guards.port import Finding
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.pieces import Piece

MOST_FINDINGS: Final = 32
"""Findings that a record lists; it counts all of them."""


class Audit:
    """Writes records; `write` takes the fields of one."""

    def __init__(self, write: Callable[[dict[str, Any]], None], pseudonyms: Pseudonyms, *, enabled: bool) -> None:
        self.enabled: Final = enabled
        self._write = write
        self._pseudonyms = pseudonyms

    def decided(
        self, ask: Ask, policy: str, guard: CompiledGuard, decision: str, *, mode: str,
        findings: Sequence[tuple[int, Finding]] = (), pieces: Sequence[Piece] = (), reason: str = "",
    ) -> None:  # fmt: skip
        """Write that a guard has decided, because of these findings in these pieces, or has failed for that reason."""
        if not self.enabled:
            return
        record: dict[str, Any] = {
            "request_id": ask.request_id.decode(), "tenant": self._pseudonyms.of(ask.principal.tenant, at="tenant"),
            "model": ask.model.name, "policy": policy, "guard": guard.name, "type": guard.guard.type,
            "stage": guard.stage.value, "mode": mode, "decision": decision,
        }  # fmt: skip
        if reason:
            record["reason"] = reason
        if findings:
            shown = [_shown(finding, pieces[n]) for n, finding in findings[:MOST_FINDINGS]]
            record |= {"findings": shown, "found": len(findings)}
            record["text"] = self._pseudonyms.of(pieces[findings[0][0]].text, at="audit")
        self._write(record)


def _shown(finding: Finding, piece: Piece) -> dict[str, Any]:
    return {
        "kind": finding.kind, "start": finding.start, "end": finding.end, "score": round(finding.score, 3),
        "source": piece.source.value, "at": piece.path,
    }  # fmt: skip
