"""A run and its comparison for a terminal, as wide as that is. Pure."""

import textwrap
import unicodedata
from collections.abc import Sequence
from typing import Final

from capstan_evaluation.records import Comparison, Run, Spent, Verdict
from capstan_evaluation.reports.summary import RunFigures, ScorerFigures, summarise

MOST_CASES: Final = 10
"""Regressions that are named."""
NARROWEST: Final = 40
_GAP: Final = 2


def render_table(run: Run, baseline: Run | None, verdict: Verdict | None, *, width: int) -> str:
    """Give the report in lines of at most `width` columns, 40 at least."""
    width = max(width, NARROWEST)
    figures = summarise(run)
    blocks = [_head(run, figures, width), _scores(figures.scorers, width)]
    if verdict is not None:
        against = "" if baseline is None else f" against {baseline.header.target} of {baseline.header.began}"
        blocks += [f"Compared{printable(against)}", _comparisons(verdict.comparisons, width)]
        blocks += [_explained(one, width) for one in verdict.comparisons]
        blocks.append(f"Verdict: {verdict.outcome.value}")
    lines = [line for block in blocks if block for line in [*block.split("\n"), ""]]
    return "\n".join(_fit(line, width) for line in lines[:-1]) + "\n"


def _head(run: Run, figures: RunFigures, width: int) -> str:
    header = run.header
    rows = [
        ("suite", f"{header.suite} ({header.suiteHash[:12]})"),
        ("target", f"{header.target}{f' at {header.url}' if header.url else ''}"),
        ("asked", f"{figures.answers + sum(figures.errors.values())} answers to {header.cases} cases"),
    ]
    if figures.errors:
        rows.append(("errors", ", ".join(f"{count} {code}" for code, count in figures.errors.items())))
    if figures.seconds is not None:
        first = figures.firstTokenSeconds
        rows.append(("seconds", f"{figures.seconds.p50:.2f} p50, {figures.seconds.p95:.2f} p95"))
        if first is not None:
            rows.append(("first token", f"{first.p50:.2f} p50, {first.p95:.2f} p95"))
    rows.append(("took", _spent(run.target)))
    if run.judging.asks:
        rows.append(("judging took", _spent(run.judging)))
    names = max(len(name) for name, _ in rows)
    return "\n".join(_fit(f"{name.ljust(names)}  {printable(text)}", width) for name, text in rows)


def _spent(spent: Spent) -> str:
    cost = f", ${spent.cost:.4f}" if spent.asks > spent.unpriced else ""
    unpriced = f", {spent.unpriced} asks without a price" if spent.unpriced and cost else ""
    doubt = f", in doubt {spent.doubtTokens} tokens" if spent.doubtTokens else ""
    return f"{spent.asks} asks, {spent.inputTokens} + {spent.outputTokens} tokens{cost}{unpriced}{doubt}"


def _scores(scorers: Sequence[ScorerFigures], width: int) -> str:
    if not scorers:
        return "No answer was scored."
    rows = [("SCORER", "MEAN", "95 %", "CASES", "NOT SCORED")]
    for one in scorers:
        missing = one.couldNotTell + one.failed
        rows.append(
            (
                one.scorer,
                "-" if one.mean is None else f"{one.mean:.3f}",
                "" if one.low is None or one.high is None else f"{one.low:.3f}-{one.high:.3f}",
                str(one.cases),
                str(missing) if missing else "",
            )
        )
    return columns(rows, width)


def _comparisons(comparisons: Sequence[Comparison], width: int) -> str:
    rows = [("SCORER", "OUTCOME", "BEFORE", "NOW", "DIFFERENCE", "INTERVAL", "P", "CASES")]
    for one in comparisons:
        rows.append(
            (
                one.scorer,
                one.outcome.value if one.mayGate else f"({one.outcome.value})",
                f"{one.baseline:.3f}",
                f"{one.candidate:.3f}",
                f"{one.difference:+.3f}",
                f"{one.low:+.3f} {one.high:+.3f}",
                f"{one.pValue:.3f}",
                str(one.cases),
            )
        )
    return columns(rows, width)


def _explained(one: Comparison, width: int) -> str:
    lines, name = [], printable(one.scorer)
    if one.note:
        lines.append(f"{name}: {printable(one.note)}")
    if one.binary and (one.regressions or one.improvements):
        lines.append(f"{name}: {len(one.regressions)} cases worse, {len(one.improvements)} better")
    for kind, cases in (("worse", one.regressions), ("flaky", one.flaky)):
        if cases:
            more = f" and {len(cases) - MOST_CASES} more" if len(cases) > MOST_CASES else ""
            lines.append(f"{name}: {kind}: {', '.join(map(printable, cases[:MOST_CASES]))}{more}")
    lines.append(
        f"{name}: could have seen a drop of {one.detectable:.1%};"
        f" a drop of {one.margin:.1%} takes {one.neededCases} cases"
    )
    return "\n".join(part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  "))


def columns(rows: Sequence[Sequence[str]], width: int) -> str:
    """Write rows in columns; the first gives way where the terminal is too narrow, the others are kept."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    rest = sum(widths[1:]) + _GAP * (len(widths) - 1)
    widths[0] = max(min(widths[0], width - rest), 8)
    return "\n".join((" " * _GAP).join(_cells(row, widths)).rstrip() for row in rows)


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = row
    return [_pad(_fit(first, widths[0]), widths[0])] + [
        " " * (size - cells(cell)) + cell for cell, size in zip(others, widths[1:], strict=True)
    ]


def cells(text: str) -> int:
    """Give how many columns a terminal takes for a text: two for a wide sign, none for one that is put over another."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def printable(text: str) -> str:
    """Give a text without what a terminal would do something with, and without ends of lines."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - cells(text))


def _fit(text: str, width: int) -> str:
    """Cut a line to the width, with a sign that it was."""
    if cells(text) <= width:
        return text
    kept, room = "", width - 1
    for char in text:
        room -= cells(char)
        if room < 0:
            break
        kept += char
    return f"{kept}\u2026"
