"""Texts with placeholders in the places of what guards found, and what stands for what."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from capstan_contract.guards import Action, PiiGuard
from capstan_gateway.guards.placeholders import Naming, Placeholders, unescape, united
from capstan_gateway.guards.placeholders import Piece as Marked
from capstan_gateway.guards.placeholders import redact as replaced
from capstan_gateway.guards.port import Finding
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.joined import rejoined, reread, spread
from capstan_gateway.pipeline.guards.pieces import Piece
from capstan_gateway.pipeline.guards.stage import Found
from capstan_gateway.pipeline.replaced import Value


@dataclass(frozen=True, slots=True)
class Unwritable:
    """Something that had to be replaced stands where nothing else can."""

    guard: CompiledGuard
    piece: Piece


class Redactor:
    """Redacts the texts of one request, or of one answer: the same value has the same name in all of them."""

    def __init__(self, taken: set[str] | None = None) -> None:
        """`taken` are names that stand for something already, without brackets; those that it gives are added."""
        self._naming = Naming(taken=set() if taken is None else taken)
        self.unwritable: Unwritable | None = None
        self.values: dict[str, Value] = {}
        """What it has replaced, as it stood in the texts."""

    def redacted(self, pieces: Sequence[Piece], found: Sequence[Found]) -> list[Piece]:
        """Give the pieces with what is to be redacted replaced; the same objects where nothing is."""
        marks: dict[int, list[Finding]] = {}
        restored: dict[int, list[Finding]] = {}
        for one in found:
            restores = isinstance(one.guard.guard, PiiGuard) and one.guard.guard.restore
            for number, finding in one.findings:
                if one.guard.action_of(finding) is not Action.REDACT:
                    continue
                piece = pieces[number]
                if piece.fixed:
                    self.unwritable = self.unwritable or Unwritable(one.guard, piece)
                    continue
                marks.setdefault(number, []).append(finding)
                if restores:
                    restored.setdefault(number, []).append(finding)
        if not marks:
            return list(pieces)
        given = spread(pieces, marks, restored)
        marked = [
            Marked(
                given.get(n, piece.text), marks.get(n, ()), piece.escaped, restored.get(n, ()), document=piece.escaped
            )
            for n, piece in enumerate(pieces)
        ]
        texts = list(replaced(marked, naming=self._naming).texts)
        for each in marked:
            self._note(each)
        return [
            rejoined(piece, pieces, texts)
            if piece.parts
            else reread(piece, texts)
            if piece.apart is not None
            else replace(piece, text=text)
            if text != piece.text
            else piece
            for piece, text in zip(pieces, texts, strict=True)
        ]

    def _note(self, one: Marked) -> None:
        for finding in united(one.findings):
            written = one.text[finding.start : finding.end]
            meant = unescape(written) if one.escaped else written
            placeholder = self._naming.name(finding.kind, meant, restored=False)
            self.values.setdefault(written, Value(written, meant, placeholder))

    def rewritten(self, pieces: Sequence[Piece], found: Sequence[Found]) -> list[Piece]:
        """Give the pieces as they go on: with what was found in the texts themselves replaced, then what was found in
        the result of that."""
        seen = self.redacted(pieces, [one for one in found if not one.later])
        return self.redacted(seen, [one for one in found if one.later])

    @property
    def names(self) -> Sequence[str]:
        """Give the names that it has given."""
        return self._naming.names

    def restorable(self) -> Placeholders:
        """Give those placeholders that are to become again what they stand for."""
        return self._naming.placeholders()
