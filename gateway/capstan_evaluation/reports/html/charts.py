"""The plots with their words: paired differences, and what answers took."""

from collections.abc import Callable, Sequence

from capstan_evaluation.records import Answer, Run
from capstan_evaluation.reports.html import words
from capstan_evaluation.reports.html.bounds import MOST_PLOTS, short_name
from capstan_evaluation.reports.html.cases import PASSING, Case, Pair, pairs
from capstan_evaluation.reports.html.figures import Line, draw_histogram, draw_pairs, draw_spread, quantile
from capstan_evaluation.reports.html.markup import Html, element, join
from capstan_evaluation.reports.html.tables import plain_table

_NOTHING = "\u2013"


def paired_differences(cases: Sequence[Case], scorers: Sequence[str]) -> Html | None:
    """Give a plot for each scorer of what became of the same cases; None: no case has two scores."""
    found = [(scorer, pairs(cases, scorer)) for scorer in scorers]
    figures = [_paired(scorer, both) for scorer, both in found if both]
    return element("div", figures[:MOST_PLOTS], class_="figures") if figures else None


def _paired(scorer: str, both: Sequence[Pair]) -> Html:
    title = element("figcaption", element("b", short_name(scorer)))
    if all(pair.baseline in (0, 1) and pair.candidate in (0, 1) for pair in both):
        return element("figure", title, _flips(both))
    differences = [pair.candidate - pair.baseline for pair in both]
    worse, better = sum(value < 0 for value in differences), sum(value > 0 for value in differences)
    said = f"{worse:,} worse, {better:,} better, {len(both) - worse - better:,} the same"
    return element(
        "figure", title, draw_histogram(differences), element("p", f"Points per case: {said}.", class_="note")
    )


def _flips(both: Sequence[Pair]) -> Html:
    """Give the four things that may become of a case with a yes or no."""
    kinds = [(pair.baseline >= PASSING, pair.candidate >= PASSING) for pair in both]
    parts = [
        ("both", "Both pass", kinds.count((True, True))),
        ("loss", "Only the baseline passes", kinds.count((True, False))),
        ("gain", "Only this run passes", kinds.count((False, True))),
        ("neither", "Neither passes", kinds.count((False, False))),
    ]
    key = [
        element(
            "li", element("span", class_=f"key {style}", aria_hidden="true"), f"{name} ", element("b", f"{count:,}")
        )
        for style, name, count in parts
    ]
    return join(draw_pairs([(style, count) for style, _, count in parts]), element("ul", key, class_="keys"))


def taken(run: Run, baseline: Run | None) -> Html | None:
    """Give what answers took, as plots and as numbers; None: there are no answers."""
    runs = [(name, style, _answers(some)) for name, style, some in _both(run, baseline)]
    if not any(answers for _, _, answers in runs):
        return None
    figures = [
        _spread("Time to the first token", runs, lambda answer: answer.firstTokenSeconds, words.seconds),
        _spread("Time to the whole answer", runs, lambda answer: answer.seconds, words.seconds),
        _spread("Cost of an answer", runs, lambda answer: answer.usage.cost, words.dollars),
    ]
    key = _key([(name, style) for name, style, answers in runs if answers]) if len(runs) > 1 else None
    heads = ("Run", "First token, median", "95th percentile", "Whole answer, median", "95th percentile ", "Tokens in",
             "Tokens out", "Cost", "Cost per answer")  # fmt: skip
    rows = [_numbers(name, answers) for name, _, answers in runs]
    return join(
        element("p", "The share of answers that took at most so much.", class_="note"),
        key,
        element("div", figures, class_="figures"),
        plain_table("What the answers took. Those that were not given do not count.", heads, rows),
    )


def _both(run: Run, baseline: Run | None) -> list[tuple[str, str, Run]]:
    before = [] if baseline is None else [("Baseline", "before", baseline)]
    return [*before, ("This run", "now", run)]


def _answers(run: Run) -> list[Answer]:
    """Give those that were given; of cases whose requests are identical, which were asked once, one."""
    asked = {(result.request, result.repeat): result.answer for result in run.results}
    return [answer for answer in asked.values() if not answer.error]


def _spread(
    title: str,
    runs: Sequence[tuple[str, str, Sequence[Answer]]],
    value: Callable[[Answer], float | None],
    shown: Callable[[float], str],
) -> Html | None:
    lines = [Line(name, _ordered(answers, value), style) for name, style, answers in runs]
    lines = [line for line in lines if line.values and line.values[-1] > 0]
    if not lines:
        return None
    drawn, beyond = draw_spread(lines, shown=shown)
    said = "; ".join(f"{line.name}: median {shown(quantile(line.values, 0.5))}" for line in lines)
    more = f" {words.counted(beyond, 'answer')} beyond the right edge." if beyond else ""
    return element(
        "figure", element("figcaption", element("b", title)), drawn,
        element("p", f"{said}.{more}", class_="note"),
    )  # fmt: skip


def _ordered(answers: Sequence[Answer], value: Callable[[Answer], float | None]) -> list[float]:
    return sorted(known for answer in answers if (known := value(answer)) is not None)


def _numbers(name: str, answers: Sequence[Answer]) -> list[str]:
    first = _ordered(answers, lambda answer: answer.firstTokenSeconds)
    whole = _ordered(answers, lambda answer: answer.seconds)
    costs = _ordered(answers, lambda answer: answer.usage.cost)
    times = [
        words.seconds(quantile(some, share)) if some else _NOTHING for some in (first, whole) for share in (0.5, 0.95)
    ]
    return [
        name,
        *times,
        words.number(sum(answer.usage.inputTokens for answer in answers)),
        words.number(sum(answer.usage.outputTokens for answer in answers)),
        words.dollars(sum(costs)) if costs else _NOTHING,
        words.dollars(sum(costs) / len(costs)) if costs else _NOTHING,
    ]


def _key(names: Sequence[tuple[str, str]]) -> Html:
    items = [
        element("li", element("span", class_=f"key {style}", aria_hidden="true"), short_name(name))
        for name, style in names
    ]
    return element("ul", items, class_="keys")
