"""What the guards of one stream have decided, told once for each of them: when it is over, or one of them ends it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from capstan_contract.guards import Action
from capstan_gateway.guards.port import Finding
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.pieces import Piece
from capstan_gateway.pipeline.guards.stage import Decision, Failed, Found
from capstan_gateway.pipeline.guards.told import not_checked

MOST_FINDINGS: Final = 1024
"""Findings of one stream that are told, and the first of each guard and action; the others are only acted on."""


class Report:
    """What was found so far, by whom. It is of all filters of one policy."""

    def __init__(self, record: Callable[[Decision, Sequence[Piece]], None]) -> None:
        self._record = record
        self._seen: Piece | None = None
        """The newest, which is looked at now."""
        self._pieces: list[Piece] = []
        """The text of the first of each guard and action is told, by its hash; of others none is kept."""
        self._found: dict[tuple[CompiledGuard, Action], list[tuple[int, Finding]]] = {}
        self._failed: dict[CompiledGuard, Failed] = {}
        self._seconds: dict[CompiledGuard, float] = {}
        self._count = 0

    def took(self, guard: CompiledGuard, seconds: float) -> None:
        """Note how long a guard was at work."""
        self._seconds[guard] = self._seconds.get(guard, 0.0) + seconds

    def found(self, guard: CompiledGuard, finding: Finding, piece: Piece) -> None:
        """Note that a guard has found something; the finding's offsets are those of the whole text."""
        key = guard, guard.action_of(finding)
        first = key not in self._found
        if self._count >= MOST_FINDINGS and not first:
            return
        self._count += 1
        if self._seen is not piece or (first and not self._pieces[-1].text):
            self._seen = piece
            self._pieces.append(piece if first else replace(piece, text=""))
        findings = self._found.setdefault(key, [])
        findings.append((len(self._pieces) - 1, finding))

    def failed(self, failed: Failed) -> None:
        """Note that a guard could not decide; raises what that means if nothing may go on for it."""
        self._failed.setdefault(failed.guard, failed)
        if failed.closes:
            self.tell()
            raise not_checked(failed.guard)

    def tell(self) -> None:
        """Tell what was not told."""
        self._seen = None
        found = [Found(guard, tuple(findings)) for (guard, _), findings in self._found.items()]
        failed, seconds = list(self._failed.values()), list(self._seconds.items())
        pieces, self._pieces, self._found, self._failed, self._seconds = self._pieces, [], {}, {}, {}
        if found or failed or seconds:
            self._record(Decision(found=found, failed=failed, seconds=seconds), pieces)
