"""The page, put together. Pure: the same runs and verdict give the same bytes."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from capstan_evaluation.records import Run, Verdict
from capstan_evaluation.reports.html import words
from capstan_evaluation.reports.html.bounds import MOST_FLAKY, MOST_NAME, MOST_PLOTS, short_name
from capstan_evaluation.reports.html.cases import STANDINGS, Case, Standing, all_cases, scorers, tallies
from capstan_evaluation.reports.html.charts import paired_differences, taken
from capstan_evaluation.reports.html.listing import Listing, common_tags, filter_bar, list_cases
from capstan_evaluation.reports.html.markup import Child, Html, element, join
from capstan_evaluation.reports.html.tables import mean_table, scorer_table, tag_table, tone
from capstan_process.settings import without_password

_HERE: Final = Path(__file__).parent
_STYLE: Final = (_HERE / "page.css").read_text(encoding="utf-8")
_SCRIPT: Final = (_HERE / "page.js").read_text(encoding="utf-8")


def render_html(run: Run, baseline: Run | None, verdict: Verdict | None) -> str:
    """Give one page of HTML that needs nothing besides itself: the verdict, the plots, and the cases to read.

    It asks no network for anything and runs no script but its own (a Content-Security-Policy says so to the browser).
    All that models and users wrote stands in it as text. Its size is bounded (`bounds`), whatever the runs hold, and
    what is left out is counted.
    """
    cases = all_cases(run, baseline, verdict)
    names = scorers(run)
    listing = list_cases(cases, compared=baseline is not None)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", words.title(run, baseline)[: 2 * MOST_NAME]),
        element("style", Html(_STYLE)),
    )
    body = element(
        "body",
        element("a", "Skip to the cases", href="#cases", class_="skip"),
        _masthead(run, baseline, verdict),
        element("main", _sections(run, baseline, verdict, cases, names), _cases(cases, listing), id="main"),
        element("footer", _footer(run, baseline)),
        element("script", Html(_SCRIPT)),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _policy() -> str:
    """Give what the browser is allowed to do: this style and this script, and nothing else."""
    return (
        f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _masthead(run: Run, baseline: Run | None, verdict: Verdict | None) -> Html:
    header = run.header
    against = None if baseline is None else [" against ", element("b", short_name(words.name(baseline)))]
    return element(
        "header",
        element("p", f"Evaluation report \u00b7 {short_name(header.suite)}", class_="kicker"),
        element("h1", words.headline(verdict), class_=tone(None if verdict is None else verdict.outcome)),
        element("p", element("b", short_name(words.name(run))), against, f" \u00b7 {_size(run)}", class_="subject"),
        _why(run, verdict),
    )  # fmt: skip


def _size(run: Run) -> str:
    repeats = f", each asked {words.number(run.header.repeats)} times" if run.header.repeats > 1 else ""
    began = f" \u00b7 began {short_name(run.header.began)}" if run.header.began else ""
    return f"{words.counted(run.header.cases, 'case')}{repeats}{began}"


def _why(run: Run, verdict: Verdict | None) -> Html:
    if verdict is None:
        return element("p", "No baseline was given, so this page says how the run stands, and not whether it is better "
                       "or worse than another.", class_="why")  # fmt: skip
    said = words.reasons(verdict)
    parts = [element("p", said[0])] if len(said) == 1 else [element("ul", [element("li", reason) for reason in said])]
    missing = run.header.cases * run.header.repeats - len(run.results)
    if missing > 0:
        parts.append(element("p", f"The run is not complete: {words.counted(missing, 'answer')} missing."))
    return element("div", parts, class_="why")


def _sections(
    run: Run, baseline: Run | None, verdict: Verdict | None, cases: Sequence[Case], names: Sequence[str]
) -> list[Html | None]:
    by_scorer = scorer_table(verdict) if verdict is not None and verdict.comparisons else mean_table(cases, names)
    paired = None if baseline is None else paired_differences(cases, names)
    return [
        _section("summary", "Cases at a glance", _tallies(cases), _flaky(cases)),
        _section("scorers", "Scorers", by_scorer) if names else None,
        _section("tags", "Score by tag", _by_tag(cases, names)),
        _section("paired", "The same case in both runs", paired),
        _section("taken", "Latency and cost", taken(run, baseline)),
    ]


def _section(name: str, title: str, *children: Child) -> Html | None:
    inner = join(*children)
    if not inner:
        return None
    return element("section", element("h2", title, id=f"{name}-title"), inner, id=name, aria_labelledby=f"{name}-title")


def _by_tag(cases: Sequence[Case], names: Sequence[str]) -> Html | None:
    """Give the table of the first scorer, and those of further ones to be opened."""
    tables = [(name, table) for name in names[:MOST_PLOTS] if (table := tag_table(cases, name)) is not None]
    if not tables:
        return None
    (first, table), *others = tables
    more = [
        element("details", element("summary", element("h3", short_name(name))), other, class_="more")
        for name, other in others
    ]
    return join(element("h3", short_name(first)), table, more)


def _flaky(cases: Sequence[Case]) -> Html | None:
    """Name the cases that contradict themselves."""
    named = [short_name(case.id) for case in cases if case.standing is Standing.FLAKY]
    if not named:
        return None
    more = f" and {words.number(len(named) - MOST_FLAKY)} more" if len(named) > MOST_FLAKY else ""
    return element("p", element("b", "Flaky: "), f"{', '.join(named[:MOST_FLAKY])}{more}.", class_="note")


def _tallies(cases: Sequence[Case]) -> Html:
    counts = tallies(cases)
    items = [
        element(
            "div",
            element("dt", standing.value),
            element("dd", element("b", words.number(counts[standing])), element("small", STANDINGS[standing])),
            class_=f"tally {standing.name.lower().replace('_', '-')}",
        )
        for standing in Standing
        if counts[standing]
    ]
    return element("dl", items, class_="tallies")


def _cases(cases: Sequence[Case], listing: Listing) -> Html:
    left = tallies(listing.left_out)
    out = [f"{words.number(count)} \u201c{standing.value}\u201d" for standing, count in left.items() if count]
    return element(
        "section",
        element("h2", "Cases", id="cases-title"),
        filter_bar(listing.shown, common_tags(cases)) if listing.shown else None,
        element("div", listing.markup, id="list"),
        element(
            "p",
            f"Left out here, to keep the page small: {words.listed(out)}. The run's own file has them.",
            class_="note",
        )
        if out
        else None,
        id="cases",
        aria_labelledby="cases-title",
        tabindex="-1",
    )


def _footer(run: Run, baseline: Run | None) -> Html:
    about = [("Suite", f"{run.header.suite} ({run.header.suiteHash[:12]})"), ("Run", run.header.id)]
    if baseline is not None:
        about.append(("Baseline", baseline.header.id))
    if run.header.judge:
        about.append(("Judge", run.header.judge))
    if run.judging.asks:
        paid = words.dollars(run.judging.cost)
        about.append(("Judging", f"{words.counted(run.judging.asks, 'ask')}, {paid}"))
    if run.header.url:
        about.append(("Asked at", without_password(run.header.url)))
    return element("dl", [element("div", element("dt", name), element("dd", short_name(text))) for name, text in about])
