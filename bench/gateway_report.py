"""The page of bench/gateway.py: tables of ratios first, then the numbers of every scenario."""

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

OURS, DIRECT = "Capstan, pass-through", "upstream, directly"
GOVERNED, ASKING, LITELLM_GOVERNED = "Capstan, governed", "Capstan, governed, asks Redis", "LiteLLM proxy, governed"
ROUTER_NAME = "vllm-router"
NOISE_MS: Final = 0.01
NOISE_SHARE: Final = 0.001
"""An added latency below this, or below this share of the upstream's own, is too little to make a ratio of."""

RESULTS: Final = Path(__file__).resolve().parent / "RESULTS.md"
_BEHIND: Final = "\n# The operator at scale\n"
"""In front of this comes a part that was not there."""
_NEXT: Final = re.compile(r"^##? ", re.MULTILINE)


def with_part(page: str, heading: str, lines: Sequence[str]) -> str:
    """Give the page with these lines under a heading, in place of those that were there, up to the next heading."""
    part = "\n".join((heading, *lines)) + "\n"
    begin = page.find(heading + "\n")
    if begin < 0:
        return page.replace(_BEHIND, "\n" + part + _BEHIND, 1)
    behind = _NEXT.search(page, begin + len(heading))
    return page[:begin] + part + ("" if behind is None else "\n" + page[behind.start() :])


def write_part(heading: str, lines: Sequence[str]) -> None:
    """Put tables into bench/RESULTS.md."""
    RESULTS.write_text(with_part(RESULTS.read_text(), heading, lines))


@dataclass(frozen=True)
class Scenario:
    """One closed loop."""

    upstream: str
    kind: str
    connections: int

    @property
    def name(self) -> str:
        return f"{self.upstream}, {self.kind}, c={self.connections}"


@dataclass
class Numbers:
    """What one gateway did in one scenario, one entry per round."""

    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)

    def middle(self, name: str) -> float:
        """Give the median of the rounds."""
        return float(statistics.median(getattr(self, name)))


@dataclass
class Results:
    """What was measured, and why something was not."""

    scenarios: list[Scenario]
    versions: dict[str, str] = field(default_factory=dict)
    table: dict[tuple[str, Scenario], Numbers] = field(default_factory=dict)
    failures: dict[tuple[str, Scenario], str] = field(default_factory=dict)

    def value(self, gateway: str, scenario: Scenario, name: str) -> float | None:
        """Give one number; 'added p50' and 'added p99' are milliseconds more than directly."""
        numbers, direct = self.table.get((gateway, scenario)), self.table.get((DIRECT, scenario))
        if numbers is None:
            return None
        if not name.startswith("added "):
            return numbers.middle(name)
        percentile = name.removeprefix("added ")
        return None if direct is None else (numbers.middle(percentile) - direct.middle(percentile)) / 1000

    def noise(self, scenario: Scenario, name: str) -> float:
        """Give what a number must exceed to be compared."""
        direct = self.table.get((DIRECT, scenario))
        if direct is None or not name.startswith("added "):
            return 0.0
        return max(NOISE_MS, NOISE_SHARE * direct.middle(name.removeprefix("added ")) / 1000)

    def busiest(self, gateway: str, upstream: str) -> float:
        """Give the largest share of its core that it used before an upstream."""
        return max(
            (
                numbers.middle("rate") * numbers.middle("cpu") / 1e6
                for (name, scenario), numbers in self.table.items()
                if name == gateway and scenario.upstream == upstream
            ),
            default=0.0,
        )


def ratio(results: Results, rival: str, scenario: Scenario, name: str) -> str:
    """Say how many times better Capstan does than a rival: more requests, or less of anything else."""
    ours, theirs = results.value(OURS, scenario, name), results.value(rival, scenario, name)
    if theirs is None:
        return "failed"
    noise = results.noise(scenario, name)
    if ours is None or max(ours, theirs) <= noise:
        return "-"
    times = ours / theirs if name == "rate" else max(theirs, noise) / max(ours, noise)
    bound = "> " if ours < noise else "< " if theirs < noise else ""
    return bound + (f"{times:.2f}" if times < 10 else f"{times:,.0f}")


def ratios(results: Results, title: str, name: str) -> list[str]:
    """Write one table of ratios: a row per scenario, a column per rival."""
    rivals = [gateway for gateway in results.versions if gateway not in (OURS, DIRECT)]
    lines = [f"### {title}", "", f"| scenario | {' | '.join(rivals)} |", "| --- |" + " ---: |" * len(rivals)]
    for scenario in results.scenarios:
        cells = [ratio(results, rival, scenario, name) for rival in rivals]
        lines.append(f"| {scenario.name} | {' | '.join(cells)} |")
    return [*lines, ""]


def governed(table: dict[tuple[str, Scenario], Numbers], scenarios: Iterable[Scenario]) -> list[str]:
    """Write what keys, limits and a budget cost, round by round; nothing where they were not measured."""
    rows = [scenario for scenario in scenarios if (GOVERNED, scenario) in table]
    if not rows:
        return []
    compared = [ROUTER_NAME, OURS, ASKING, LITELLM_GOVERNED]
    lines = [
        "| scenario | requests/s | p50 above pass-through, ms | " + " | ".join(f"of {one}" for one in compared) + " |"
    ]
    lines.append("| --- | ---: | ---: |" + " ---: |" * len(compared))
    for scenario in rows:
        mine, plain = table[GOVERNED, scenario], table.get((OURS, scenario))
        above = "" if plain is None else f"{(mine.middle('p50') - plain.middle('p50')) / 1000:.3f}"
        cells = [_share(mine, table.get((name, scenario))) for name in compared]
        lines.append(f"| {scenario.name} | {mine.middle('rate'):,.0f} | {above} | {' | '.join(cells)} |")
    return [*lines, ""]


def _share(mine: Numbers, other: Numbers | None) -> str:
    """Say which part of another one's rate it reaches: the median of the rounds, least to most."""
    if other is None or len(other.rate) != len(mine.rate):
        return "failed"
    found = [a / b for a, b in zip(mine.rate, other.rate, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def details(results: Results, scenario: Scenario) -> list[str]:
    """Write the numbers of one scenario."""
    lines = [f"### {scenario.name}", "", "| gateway | requests/s | added p50, ms | added p99, ms |"]
    lines[-1] += " CPU, us/request | RSS, MB |"
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for gateway in results.versions:
        numbers = results.table.get((gateway, scenario))
        if numbers is None:
            lines.append(f"| {gateway} | {results.failures.get((gateway, scenario), 'failed')} | | | | |")
            continue
        added = [results.value(gateway, scenario, f"added {p}") for p in ("p50", "p99")]
        cells = ["" if one is None or gateway == DIRECT else f"{one:.2f}" for one in added]
        lines.append(
            f"| {gateway} | {numbers.middle('rate'):,.0f} | {' | '.join(cells)} "
            f"| {numbers.middle('cpu'):.0f} | {numbers.middle('rss'):.0f} |"
        )
    return [*lines, ""]


def page(results: Results, about: list[str]) -> str:
    """Write the whole page; `about` says on what and how it was measured."""
    lines = [
        "# Gateways side by side",
        "",
        "Written by `python bench/gateway.py`, whose first lines say how it measures. Compare within a table only:",
        "another machine, or the same one at another time, gives other numbers.",
        "",
        *(f"- {line}" for line in about),
        "",
        "## How many times better Capstan does",
        "",
        "Above 1 Capstan does better, below 1 the other one. `-`: both add too little latency to tell; with `>` or `<`",
        "one of them does.",
        "",
        *ratios(results, "Requests/s", "rate"),
        *ratios(results, "Added latency, p50", "added p50"),
        *ratios(results, "CPU time a request", "cpu"),
        *ratios(results, "Resident memory", "rss"),
    ]
    limited = governed(results.table, results.scenarios)
    if limited:
        lines += [
            "## What keys, limits and budgets cost",
            "",
            "An API key, a limit on requests, one on tokens and a budget, counted in a Redis of the same machine.",
            "vllm-router and pass-through do nothing of it. Above 1 the governed gateway does better.",
            "",
            *limited,
        ]
    lines += ["## The numbers", ""]
    for scenario in results.scenarios:
        lines += details(results, scenario)
    return "\n".join(lines)
