"""Numbers and verdicts in plain words."""

from collections.abc import Sequence
from typing import Final

from capstan_evaluation.records import Comparison, Outcome, Run, Verdict
from capstan_evaluation.reports.html.bounds import short_name

_MINUS: Final = "\u2212"
_THIN: Final = "\u202f"
_HEADLINES: Final = {
    Outcome.PASS: "No worse than the baseline",
    Outcome.FAIL: "Worse than the baseline",
    Outcome.INCONCLUSIVE: "Could not tell",
}
MOST_REASONS: Final = 8


def percent(value: float) -> str:
    """Give a score from 0 to 1 in percent."""
    return f"{100 * value:.1f}{_THIN}%"


def points(value: float) -> str:
    """Give a difference of scores in points of 100, with its sign."""
    rounded = round(100 * value, 1)
    sign = "+" if rounded > 0 else _MINUS if rounded < 0 else ""
    return f"{sign}{abs(rounded):.1f}"


def size(value: float) -> str:
    """Give a difference of scores in points of 100, without a sign."""
    return f"{abs(100 * value):.1f}"


def number(value: int) -> str:
    """Give a whole number with its thousands apart."""
    return f"{value:,}"


def counted(value: int, one: str, many: str | None = None) -> str:
    """Give a number of things, in words."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def seconds(value: float) -> str:
    """Give a time in the unit that suits it."""
    if value < 1:
        return f"{1000 * value:.0f}{_THIN}ms"
    return f"{value:.2f}{_THIN}s" if value < 10 else f"{value:.1f}{_THIN}s"


def dollars(value: float) -> str:
    """Give a sum of money; small ones with the digits that count."""
    if value == 0 or value >= 0.1:
        return f"${value:,.2f}"
    return f"${value:.2g}" if value >= 0.0001 else f"${value:.1e}"


def probability(value: float) -> str:
    """Give a p-value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def level(alpha: float) -> str:
    """Give the level of an interval in percent."""
    return f"{100 * (1 - alpha):g}{_THIN}%"


def interval(low: float, high: float) -> str:
    """Give an interval of differences, in points."""
    return f"{points(low)} to {points(high)}"


def headline(verdict: Verdict | None) -> str:
    """Give the verdict in a few words."""
    return "Nothing to compare with" if verdict is None else _HEADLINES[verdict.outcome]


def reasons(verdict: Verdict) -> list[str]:
    """Give the sentences that say why: those of the scorers that decided."""
    if not verdict.comparisons:
        return ["No scorer has given a score in both runs."]
    gating = [comparison for comparison in verdict.comparisons if comparison.mayGate]
    if not gating:
        return ["No scorer may decide: each of them informs only."]
    deciding = [comparison for comparison in gating if comparison.outcome is verdict.outcome] or gating
    said = [_reason(comparison, verdict.alpha) for comparison in deciding[:MOST_REASONS]]
    if len(deciding) > MOST_REASONS:
        said.append(f"And {counted(len(deciding) - MOST_REASONS, 'more scorer')}, in the table below.")
    return said


def _reason(comparison: Comparison, alpha: float) -> str:
    around = f"{level(alpha)} interval {interval(comparison.low, comparison.high)}"
    found = (
        f"\u201c{short_name(comparison.scorer)}\u201d {_moved(comparison.difference)}, from "
        f"{percent(comparison.baseline)} to {percent(comparison.candidate)} ({around}). "
        f"The suite puts up with a loss of {size(comparison.margin)} points."
    )
    if comparison.outcome is not Outcome.INCONCLUSIVE:
        return found
    return f"{found} {what_it_takes(comparison)}"


def what_it_takes(comparison: Comparison) -> str:
    """Say what this number of cases could have seen, and how many cases would see the margin."""
    seen = (
        f"With {counted(comparison.cases, 'case')} a drop below {size(comparison.detectable)} points is easily missed"
    )
    if comparison.neededCases <= comparison.cases:
        return f"{seen}."
    return f"{seen}; it takes about {counted(comparison.neededCases, 'case')} to see one of {size(comparison.margin)}."


def _moved(difference: float) -> str:
    moved = size(difference)
    if moved == "0.0":
        return "stayed where it was"
    return f"{'gained' if difference > 0 else 'lost'} {moved} points"


def title(run: Run, baseline: Run | None) -> str:
    """Give the title of the page."""
    against = "" if baseline is None else f" against {name(baseline)}"
    return f"{run.header.suite}: {name(run)}{against}"


def name(run: Run) -> str:
    """Give what a person calls the model of a run."""
    return f"{run.header.target} ({run.header.revision})" if run.header.revision else run.header.target


def listed(items: Sequence[str]) -> str:
    """Give a list as a person writes it."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
