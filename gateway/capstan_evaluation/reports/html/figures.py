"""Plots as inline SVG. What a plot shows stands in words beside it; its colours come from the style sheet."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10

from capstan_evaluation.reports.html.markup import Html, element

_WIDE, _STEPS = 240.0, 120
_PLOT_WIDE, _PLOT_HIGH = 360.0, 210.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 10.0, 10.0, 30.0


@dataclass(frozen=True)
class Line:
    """One run's values in a plot."""

    name: str
    values: Sequence[float]
    """In order of size."""
    style: str
    """`now` or `before`."""


def draw_difference(low: float, point: float, high: float, *, margin: float, reach: float, tone: str) -> Html:
    """Draw the interval of a difference around zero, with the loss that is put up with as a dashed line.

    `reach` is what stands at both ends, so that rows can be compared.
    """

    def at(value: float) -> str:
        return _short(_WIDE * (min(max(value / reach, -1), 1) + 1) / 2)

    return _svg(
        _WIDE, 24, f"plot interval {tone}",
        _line("zero", at(0), 1, at(0), 23),
        _line("margin", at(-margin), 1, at(-margin), 23) if margin > 0 else None,
        _line("whisker", at(low), 12, at(high), 12),
        _line("end", at(low), 7, at(low), 17),
        _line("end", at(high), 7, at(high), 17),
        element("circle", class_="point", cx=at(point), cy="12", r="5"),
    )  # fmt: skip


def draw_share(now: float, low: float, high: float, before: float | None) -> Html:
    """Draw a score from 0 to 1 with its interval, and the baseline's as a hollow diamond."""

    def at(value: float) -> float:
        return 8 + (_WIDE - 16) * min(max(value, 0), 1)

    diamond = None if before is None else element("path", class_="diamond", d=_diamond(at(before), 12))
    return _svg(
        _WIDE, 24, "plot share",
        _line("rail", _short(at(0)), 12, _short(at(1)), 12),
        _line("whisker", _short(at(low)), 12, _short(at(high)), 12),
        diamond,
        element("circle", class_="point", cx=_short(at(now)), cy="12", r="5"),
    )  # fmt: skip


def draw_pairs(counts: Sequence[tuple[str, int]]) -> Html:
    """Draw counts as parts of one bar. The first of each pair is the part's class."""
    total = sum(count for _, count in counts) or 1
    parts, left = [], 0.0
    for style, count in counts:
        width = _PLOT_WIDE * count / total
        parts.append(
            element("rect", class_=style, x=_short(left), y="0", width=_short(max(width - 1.5, 0)), height="20")
        )
        left += width
    return _svg(_PLOT_WIDE, 20, "plot bar", *parts)


def draw_histogram(differences: Sequence[float], *, bins: int = 20) -> Html:
    """Draw how often which difference from -1 to 1 occurs; losses, gains and what is about nothing by colour."""
    counts = [0] * (bins + 1)
    for difference in differences:
        counts[round((difference + 1) / 2 * bins)] += 1
    most, middle = max(counts) or 1, bins / 2
    bars = []
    for place, count in enumerate(counts):
        high = (_PLOT_HIGH - _TOP - _BOTTOM) * count / most
        style = "loss" if place < middle else "gain" if place > middle else "same"
        x = _LEFT + (_PLOT_WIDE - _LEFT - _RIGHT) * place / (bins + 1)
        width = (_PLOT_WIDE - _LEFT - _RIGHT) / (bins + 1) - 2
        bars.append(
            element(
                "rect",
                class_=style,
                x=_short(x + 1),
                y=_short(_PLOT_HIGH - _BOTTOM - high),
                width=_short(width),
                height=_short(high),
            )
        )
    ends = [(0.5 / (bins + 1), f"\u2212{100}"), (0.5, "0"), (1 - 0.5 / (bins + 1), "+100")]
    return _svg(_PLOT_WIDE, _PLOT_HIGH, "plot", _frame(ends, [(1.0, f"{most:,}")]), *bars)


def draw_spread(lines: Sequence[Line], *, shown: Callable[[float], str]) -> tuple[Html, int]:
    """Draw the share of values that are at most so large. Give how many are beyond the right edge as well.

    The edge is at the larger 99th percentile, so that one straggler does not squeeze all others together.
    """
    edge = _round_up(max(quantile(line.values, 0.99) for line in lines))
    beyond = sum(len(line.values) - bisect_right(line.values, edge) for line in lines)
    below = [(step / 4, shown(edge * step / 4)) for step in (0, 2, 4)]
    beside = [(share, f"{100 * share:.0f}%") for share in (0.5, 0.95)]
    paths = [element("path", class_=f"curve {line.style}", d=_steps(line.values, edge)) for line in lines]
    return _svg(_PLOT_WIDE, _PLOT_HIGH, "plot", _frame(below, beside), *paths), beyond


def quantile(ordered: Sequence[float], share: float) -> float:
    """Give the value that so large a share of all is at most: a value that occurs (nearest rank)."""
    return ordered[min(max(-int(-share * len(ordered) // 1) - 1, 0), len(ordered) - 1)]


def _frame(below: Sequence[tuple[float, str]], beside: Sequence[tuple[float, str]]) -> Html:
    bottom, right = _PLOT_HIGH - _BOTTOM, _PLOT_WIDE - _RIGHT
    parts = [_line("axis", _short(_LEFT), bottom, _short(right), bottom)]
    for share, text in beside:
        y = bottom - share * (bottom - _TOP)
        parts.append(_line("grid", _short(_LEFT), y, _short(right), y))
        parts.append(element("text", text, x=_short(_LEFT - 5), y=_short(y + 4), text_anchor="end"))
    for share, text in below:
        x = _LEFT + share * (right - _LEFT)
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        parts.append(element("text", text, x=_short(x), y=_short(bottom + 18), text_anchor=anchor))
    return element("g", *parts, class_="frame")


def _steps(values: Sequence[float], edge: float) -> str:
    """Give the path of a distribution, at so many places that nobody sees the corners."""
    bottom, right = _PLOT_HIGH - _BOTTOM, _PLOT_WIDE - _RIGHT
    points = []
    for step in range(_STEPS + 1):
        share = bisect_right(values, edge * step / _STEPS) / len(values)
        points.append(f"{_short(_LEFT + (right - _LEFT) * step / _STEPS)} {_short(bottom - (bottom - _TOP) * share)}")
    return "M" + "L".join(points)


def _round_up(value: float) -> float:
    """Give the next number with one or two digits that count."""
    if value <= 0:
        return 1.0
    unit: float = 10.0 ** floor(log10(value))
    return next(step * unit for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * unit >= value * (1 - 1e-12))


def _svg(width: float, height: float, style: str, *children: Html | None) -> Html:
    """Give a drawing that says nothing to a screen reader: words beside it do."""
    return element(
        "svg", *children, class_=style, viewBox=f"0 0 {_short(width)} {_short(height)}", aria_hidden="true",
        focusable="false",
    )  # fmt: skip


def _line(style: str, x1: str, y1: float, x2: str, y2: float) -> Html:
    return element("line", class_=style, x1=x1, y1=_short(y1), x2=x2, y2=_short(y2))


def _diamond(x: float, y: float) -> str:
    corners = ((x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y))
    return f"M{'L'.join(f'{_short(across)} {_short(down)}' for across, down in corners)}Z"


def _short(value: float) -> str:
    """Write a coordinate: the tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")
