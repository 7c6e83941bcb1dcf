"""The cases themselves: each a block that opens, with the answers of both runs side by side, and the bar to filter."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from capstan_evaluation.records import Result, Score, ScoreState
from capstan_evaluation.reports.html import words
from capstan_evaluation.reports.html.bounds import (
    MOST_BYTES,
    MOST_CASES,
    MOST_REASON,
    MOST_REPEATS,
    MOST_TAGS,
    short_name,
    shorten,
)
from capstan_evaluation.reports.html.cases import STANDINGS, Case, Standing, passes, tallies
from capstan_evaluation.reports.html.diffs import mark_differences
from capstan_evaluation.reports.html.markup import Child, Html, element, join

_TONES = {
    Standing.REGRESSED: "bad", Standing.NO_ANSWER: "bad", Standing.FAILS: "bad", Standing.FLAKY: "open",
    Standing.UNDECIDED: "open", Standing.IMPROVED: "good", Standing.PASSES: "good",
}  # fmt: skip
_SNIPPET = 140


@dataclass(frozen=True)
class Listing:
    """What of the cases is on the page."""

    markup: Html
    shown: tuple[Case, ...]
    left_out: tuple[Case, ...]


def list_cases(cases: Sequence[Case], *, compared: bool) -> Listing:
    """Show the cases that need a reader first, and as many as the bounds allow."""
    order = list(Standing)
    wanted = sorted(cases, key=lambda case: (order.index(case.standing), case.place))
    if len(wanted) > MOST_CASES:
        wanted = [case for case in wanted if case.standing is not Standing.PASSES]
    tags = {tag: place for place, tag in enumerate(common_tags(cases))}
    blocks: list[Html] = []
    used = 0
    for case in wanted[:MOST_CASES]:
        block = _block(case, tags, compared=compared, opened=not blocks and not case.standing.calm)
        used += len(block.encode())
        if used > MOST_BYTES:
            break
        blocks.append(block)
    shown = tuple(wanted[: len(blocks)])
    named = {case.place for case in shown}
    return Listing(join(blocks), shown, tuple(case for case in cases if case.place not in named))


def common_tags(cases: Iterable[Case]) -> list[str]:
    """Give the tags that a reader may filter by: the most frequent ones, in the order of the alphabet."""
    counts: dict[str, int] = {}
    for case in cases:
        for tag in dict.fromkeys(case.tags):
            counts[tag] = counts.get(tag, 0) + 1
    return sorted(sorted(counts, key=lambda tag: (-counts[tag], tag))[:MOST_TAGS])


def filter_bar(cases: Sequence[Case], tags: Sequence[str]) -> Html:
    """Give the bar that filters the cases: shown once its script runs, since it does nothing without."""
    counts = tallies(cases)
    standings = [
        element("option", f"{standing.value} ({counts[standing]:,})", value=standing.name)
        for standing in Standing
        if counts[standing]
    ]
    options = [element("option", short_name(tag), value=place) for place, tag in enumerate(tags)]
    return element(
        "form",
        element("label", "Search", element("input", type="search", id="search", autocomplete="off")),
        element("label", "Outcome", element("select", element("option", "All", value=""), standings, id="standing")),
        element("label", "Tag", element("select", element("option", "All", value=""), options, id="tag"))
        if options
        else None,
        element("button", "Open all", type="button", id="open", class_="quiet"),
        element("button", "Close all", type="button", id="close", class_="quiet"),
        element("p", id="found", role="status", aria_live="polite"),
        id="filter", role="search", aria_label="Filter the cases", hidden=True,
    )  # fmt: skip


def _block(case: Case, tags: dict[str, int], *, compared: bool, opened: bool) -> Html:
    result = case.telling
    known = " ".join(str(tags[tag]) for tag in dict.fromkeys(case.tags) if tag in tags)
    head = element(
        "summary",
        element("span", case.standing.value, class_=f"badge {_TONES[case.standing]}"),
        element("span", short_name(case.id), class_="id"),
        element("span", _snippet(result.prompt), class_="snippet"),
    )
    return element(
        "details", head, element("div", _body(case, compared=compared), class_="body"),
        class_="case", id=f"case-{case.place + 1}", data_standing=case.standing.name, data_tags=known, open=opened,
    )  # fmt: skip


def _body(case: Case, *, compared: bool) -> Html:
    now, before = case.telling, case.telling_before
    facts = [STANDINGS[case.standing].capitalize(), *_facts(case)]
    return join(
        element("p", ". ".join(facts) + ".", class_="note"),
        _text("Prompt", now.prompt),
        _text("Expected", now.expected) if now.expected else None,
        element("div", _answers(now, before, compared=compared), class_="pair" if compared else "single"),
        _scores(now, before),
    )


def _facts(case: Case) -> list[str]:
    facts = []
    if case.tags:
        more = f" and {len(case.tags) - MOST_TAGS:,} more" if len(case.tags) > MOST_TAGS else ""
        facts.append(f"Tags: {', '.join(short_name(tag) for tag in case.tags[:MOST_TAGS])}{more}")
    if len(case.results) > 1:
        repeat = case.results.index(case.telling) + 1
        marks = "".join("\u2713" if passes(result) else "\u2717" for result in case.results[:MOST_REPEATS])
        facts.append(
            f"Repeat {repeat} of {len(case.results)} is shown; "
            f"{words.number(sum(map(passes, case.results)))} of them pass ({marks})"
        )
    if case.results[0].weight != 1:
        facts.append(f"Weight {case.results[0].weight:g}")
    return facts


def _answers(now: Result, before: Result | None, *, compared: bool) -> list[Html]:
    new = _said(now)
    if not compared:
        return [_answer("Answer", now, join(new))]
    if before is None:
        missing = element("p", "The baseline has not asked this case.", class_="note")
        return [element("section", element("h4", "Baseline"), missing), _answer("This run", now, join(new))]
    left, right = mark_differences(_said(before), new)
    return [_answer("Baseline", before, left), _answer("This run", now, right)]


def _said(result: Result) -> str:
    return shorten(result.answer.text or result.answer.refusal)


def _answer(title: str, result: Result, marked: Html) -> Html:
    answer = result.answer
    notes = []
    if answer.error:
        notes.append(f"No answer: {answer.error}")
    elif answer.refusal and not answer.text:
        notes.append("Refused")
    elif not answer.text:
        notes.append("An empty answer")
    if answer.finishReason not in ("", "stop"):
        notes.append(f"ended by {answer.finishReason}")
    notes.append(words.seconds(answer.seconds))
    notes.append(words.counted(answer.usage.outputTokens, "token"))
    if answer.usage.cost is not None:
        notes.append(words.dollars(answer.usage.cost))
    return element(
        "section",
        element("h4", title, element("small", shorten(" \u00b7 ".join(notes), MOST_REASON))),
        element("pre", marked, dir="auto", role="group", aria_label=title) if marked else None,
    )


def _text(title: str, text: str) -> Html:
    return element(
        "section", element("h4", title), element("pre", shorten(text), dir="auto", role="group", aria_label=title)
    )


def _scores(now: Result, before: Result | None) -> Html | None:
    earlier = {score.scorer: score for score in before.scores} if before is not None else {}
    items = [
        element("li", element("b", short_name(score.scorer)), " ", _score(score, earlier.get(score.scorer)))
        for score in now.scores
    ]
    return element("ul", items, class_="scores", aria_label="Scores") if items else None


def _score(score: Score, before: Score | None) -> Child:
    said = _value(score)
    against = None if before is None else f" (baseline: {_value(before)})"
    reason = element("small", shorten(score.reason, MOST_REASON), dir="auto") if score.reason else None
    passed = score.value is not None and score.value >= 0.5
    style = "undecided" if score.value is None else "right" if passed else "wrong"
    return [element("span", said, class_=style), against, reason]


def _value(score: Score) -> str:
    if score.value is None:
        return "the scorer failed" if score.state is ScoreState.FAILED else "could not tell"
    if score.binary:
        return "yes" if score.value >= 0.5 else "no"
    return f"{score.value:.2f}"


def _snippet(prompt: str) -> str:
    line = " ".join(prompt[: 4 * _SNIPPET].split())
    return line if len(line) <= _SNIPPET else line[: _SNIPPET - 1] + "\u2026"
