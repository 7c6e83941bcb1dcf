"""What guards of a stream have found, kept until it is told."""

from collections.abc import Sequence
from dataclasses import replace

from capstan_contract.guards import Action
from capstan_gateway.guards.port import Finding
from capstan_gateway.pipeline.guards.pieces import Piece
from capstan_gateway.pipeline.guards.reporting import MOST_FINDINGS, Report
from capstan_gateway.pipeline.guards.stage import Decision
from support.guards import Words, guard, piece


def test_only_the_texts_that_are_told_are_kept() -> None:
    """Of all looks at a stream only the first of each guard and action keeps its text, whose hash is written down."""
    told: list[tuple[Decision, Sequence[Piece]]] = []
    report = Report(lambda decision, pieces: told.append((decision, pieces)))
    one, other = guard("one", Words([])), guard("other", Words([]), action=Action.WARN)
    for number in range(100):
        look = replace(piece(f"look {number}"))
        report.found(one, Finding("a", number, number + 1), look)
        if number >= 50:
            report.found(other, Finding("b", number, number + 1), look)
    report.tell()
    ((decision, pieces),) = told
    assert [text for text in (piece.text for piece in pieces) if text] == ["look 0", "look 50"]
    assert [len(found.findings) for found in decision.found] == [100, 50]
    assert [pieces[found.findings[0][0]].text for found in decision.found] == ["look 0", "look 50"]
    assert {piece.path for piece in pieces} == {piece("x").path}


def test_so_many_findings_are_told_and_no_more() -> None:
    """Of a stream full of them; all of it is acted on elsewhere."""
    told: list[Decision] = []
    report = Report(lambda decision, _: told.append(decision))
    one = guard("one", Words([]), action=Action.WARN)
    for number in range(MOST_FINDINGS + 7):
        report.found(one, Finding("a", number, number + 1), piece("x"))
    report.tell()
    report.tell()
    assert [len(found.findings) for decision in told for found in decision.found] == [MOST_FINDINGS]


def test_a_block_is_told_however_much_was_found_before_it() -> None:
    """What ends a stream is in the record, and is counted, behind any number of warnings."""
    told: list[Decision] = []
    report = Report(lambda decision, pieces: told.append(decision))  # noqa: ARG005
    warns, blocks = guard("warns", Words([]), action=Action.WARN), guard("blocks", Words([]))
    look = piece("look")
    for number in range(MOST_FINDINGS + 1):
        report.found(warns, Finding("a", number, number + 1), look)
    for number in range(2):
        report.found(blocks, Finding("b", number, number + 1), look)
    report.tell()
    assert told[0].blocks is not None
    assert [len(found.findings) for found in told[0].found] == [MOST_FINDINGS, 1]
