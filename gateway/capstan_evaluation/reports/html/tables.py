"""The tables: what each scorer says, and the score by tag. Each row of numbers has its drawing beside it."""

from collections.abc import Sequence

from capstan_evaluation.records import Comparison, Outcome, Verdict
from capstan_evaluation.reports.html import words
from capstan_evaluation.reports.html.bounds import MOST_SCORERS, MOST_TAGS, short_name
from capstan_evaluation.reports.html.cases import Case, TagScore, mean_scores, tag_scores
from capstan_evaluation.reports.html.figures import draw_difference, draw_share
from capstan_evaluation.reports.html.markup import Child, Html, element, join
from capstan_evaluation.statistics.closed.proportions import wilson

_TONES = {Outcome.PASS: "good", Outcome.FAIL: "bad", Outcome.INCONCLUSIVE: "open"}


def badge(outcome: Outcome) -> Html:
    """Give an outcome as a word in its colour."""
    return element("span", outcome.value, class_=f"badge {_TONES[outcome]}")


def tone(outcome: Outcome | None) -> str:
    """Give the class that an outcome is coloured by."""
    return "none" if outcome is None else _TONES[outcome]


def scorer_table(verdict: Verdict) -> Html:
    """Give one row for each scorer of a comparison."""
    shown = verdict.comparisons[:MOST_SCORERS]
    reach = max((max(abs(c.low), abs(c.high), c.margin) for c in shown), default=0.0) * 1.08 or 0.01
    level = words.level(verdict.alpha)
    heads = (
        "Scorer", "Verdict", "Baseline", "This run", f"Difference in points ({level} interval)", "Cases", "p",
        "Cases that changed",
    )  # fmt: skip
    rows = [_scorer_row(comparison, reach, heads) for comparison in shown]
    return join(
        _table(
            "This run beside the baseline. Dashed: the loss that the suite puts up with. p: of a worse run.",
            heads,
            rows,
        ),
        _left_out(len(verdict.comparisons) - len(shown), "scorer"),
    )


def _scorer_row(comparison: Comparison, reach: float, heads: Sequence[str]) -> Html:
    drawn = draw_difference(
        comparison.low, comparison.difference, comparison.high,
        margin=comparison.margin, reach=reach, tone=_TONES[comparison.outcome],
    )  # fmt: skip
    notes = [*([] if comparison.mayGate else ["informs only"]), *([comparison.note] if comparison.note else [])]
    cells: list[Child] = [
        [element("b", short_name(comparison.scorer)), _note(notes)],
        badge(comparison.outcome),
        words.percent(comparison.baseline),
        words.percent(comparison.candidate),
        [
            element("span", element("b", words.points(comparison.difference)), " (",
                    words.interval(comparison.low, comparison.high), ")", class_="numbers"),
            drawn,
            element("small", words.what_it_takes(comparison)) if comparison.outcome is Outcome.INCONCLUSIVE else None,
        ],
        [words.number(comparison.cases), _missing(comparison)],
        words.probability(comparison.pValue),
        _changed(comparison),
    ]  # fmt: skip
    return _row(heads, cells)


def _missing(comparison: Comparison) -> Html | None:
    return element("small", f"{words.number(comparison.missing)} without") if comparison.missing else None


def _changed(comparison: Comparison) -> str:
    if not comparison.binary and not (comparison.regressions or comparison.improvements or comparison.flaky):
        return "\u2013"
    changed = f"{len(comparison.regressions):,} worse, {len(comparison.improvements):,} better"
    return f"{changed}, {len(comparison.flaky):,} flaky" if comparison.flaky else changed


def mean_table(cases: Sequence[Case], names: Sequence[str]) -> Html:
    """Give one row for each scorer of a run that is compared with nothing."""
    heads = ("Scorer", "This run", "")
    rows = []
    for name, mean in mean_scores(cases, names[:MOST_SCORERS]).items():
        around = wilson(mean * len(cases), len(cases))
        drawn = draw_share(mean, around.low, around.high, None)
        rows.append(_row(heads, [element("b", short_name(name)), _share(mean, around.low, around.high), drawn]))
    return join(
        _table("Each scorer's mean over all cases, with its 95 % interval.", heads, rows),
        _left_out(len(names) - MOST_SCORERS, "scorer"),
    )


def tag_table(cases: Sequence[Case], scorer: str) -> Html | None:
    """Give one row for each tag; None: no case has one."""
    scored = tag_scores(cases, scorer)
    if not scored:
        return None
    compared = any(tag.baseline is not None for tag in scored)
    heads = ("Tag", "Cases", *(("Baseline",) if compared else ()), "This run", "From 0 to 100 %")
    rows = [_tag_row(tag, heads, compared=compared) for tag in scored[:MOST_TAGS]]
    caption = "Mean score of the cases with each tag, with its 95 % interval"
    return join(
        _table(f"{caption}; the diamond is the baseline." if compared else f"{caption}.", heads, rows),
        _left_out(len(scored) - MOST_TAGS, "tag"),
    )


def _tag_row(tag: TagScore, heads: Sequence[str], *, compared: bool) -> Html:
    # A score between 0 and 1 varies no more than a yes or no of the same mean does: this holds for both.
    around = wilson(min(tag.candidate, 1.0) * tag.cases, tag.cases)
    before = "\u2013" if tag.baseline is None else words.percent(tag.baseline)
    return _row(
        heads,
        [
            element("b", short_name(tag.tag)),
            words.number(tag.cases),
            *([before] if compared else []),
            _share(tag.candidate, around.low, around.high),
            draw_share(tag.candidate, around.low, around.high, tag.baseline),
        ],
    )


def _share(value: float, low: float, high: float) -> Html:
    around = f" ({100 * low:.0f} to {100 * high:.0f})"
    return element("span", element("b", words.percent(value)), around, class_="numbers")


def plain_table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Child]]) -> Html:
    """Give a table of numbers without drawings."""
    return _table(caption, heads, [_row(heads, row) for row in rows])


def _table(caption: str, heads: Sequence[str], rows: Sequence[Html]) -> Html:
    """Give a table that a narrow screen shows as one block a row, and that stays a table for a screen reader."""
    head = element("tr", [element("th", text, scope="col", role="columnheader") for text in heads], role="row")
    return element(
        "table", element("caption", caption), element("thead", head, role="rowgroup"),
        element("tbody", rows, role="rowgroup"), role="table",
    )  # fmt: skip


def _row(heads: Sequence[str], cells: Sequence[Child]) -> Html:
    first, *others = cells
    return element(
        "tr",
        element("th", first, scope="row", role="rowheader"),
        [
            element("td", element("span", head, class_="head", aria_hidden="true"), element("div", cell), role="cell")
            for head, cell in zip(heads[1:], others, strict=True)
        ],
        role="row",
    )


def _note(notes: Sequence[str]) -> Html | None:
    return element("small", "; ".join(notes)) if notes else None


def _left_out(count: int, what: str) -> Html | None:
    return element("p", f"{words.counted(count, f'more {what}')} left out.", class_="note") if count > 0 else None
