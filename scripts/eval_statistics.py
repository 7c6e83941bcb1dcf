"""Whether the statistics of `capstan eval` keep what they promise, by simulation: tables for docs/evaluation.md.

    python scripts/eval_statistics.py [--write docs/evaluation.md] [--trials 200]
    python scripts/eval_statistics.py --check docs/evaluation.md --trials 20

`--check` writes nothing. It fails when a promise does not hold beyond what chance makes of so few trials, or when the
page has not the rows of this script.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import statistics_trials as trials_of
from scipy.stats import binom
from statistics_trials import DROP, HORIZON, PILOT, Watched, planted

from capstan_evaluation.records import Outcome
from capstan_evaluation.statistics.closed.proportions import wilson
from capstan_evaluation.statistics.compare import compare
from capstan_evaluation.statistics.pairing import Pairs

TRIALS: Final = 200
CASES: Final = 400
CHANCE: Final = 0.001
"""A promise that is kept looks broken in so many of all checks. Seeds are fixed, so that none is by chance."""
BEGIN: Final = "<!-- begin: scripts/eval_statistics.py -->"
END: Final = "<!-- end -->"
Random = np.random.Generator


@dataclass(frozen=True)
class Promise:
    """How often something may be, or must be."""

    outcome: Outcome
    most: float | None = None
    least: float | None = None

    def __str__(self) -> str:
        bound = f"at most {self.most:.1%}" if self.most is not None else f"at least {self.least:.0%}"
        return f"{self.outcome.value}: {bound.replace('.0%', '%')}"

    def holds(self, seen: int, trials: int) -> bool:
        """Whether so many of so many may be chance."""
        if self.most is not None:
            return bool(binom.sf(seen - 1, trials, self.most) > CHANCE)
        return bool(binom.cdf(seen, trials, self.least) > CHANCE)


@dataclass(frozen=True)
class Row:
    """Two runs, again and again."""

    name: str
    draw: Callable[[Random], Sequence[Pairs]]
    promise: Promise | None
    cases: int | None = CASES
    margin: float = DROP


@dataclass(frozen=True)
class Watch:
    """Traffic, again and again."""

    name: str
    draw: Callable[[Random], Watched]
    same: bool
    """Whether both groups are the same: what is seen then is a false alarm."""


def _asking(draw: Callable[[Random, int], Pairs], *, others: int = 0) -> Callable[[Random], Sequence[Pairs]]:
    """A first run of 200 cases says how many it takes, a second one has so many."""

    def drawn(random: Random) -> Sequence[Pairs]:
        rest = [planted(random, PILOT, 0.0, scorer=f"other{index}") for index in range(others)]
        count = trials_of.asked(draw(random, PILOT), others=rest)
        return [draw(random, count), *(planted(random, count, 0.0, scorer=one.scorer) for one in rest)]

    return drawn


def _rows() -> Iterator[Row]:
    fails, caught = Promise(Outcome.FAIL, most=0.05), Promise(Outcome.FAIL, least=0.8)
    passes = Promise(Outcome.PASS, most=0.05)
    yield Row(
        "pass or not: the same model twice, 10 % of cases differ", lambda random: [planted(random, CASES, 0.0)], fails
    )
    yield Row("the same with 40 cases", lambda random: [planted(random, 40, 0.0)], fails, cases=40)
    yield Row(
        "pass or not: 5 points worse, 10 % of cases differ",
        _asking(lambda random, count: planted(random, count, DROP)),
        caught,
        cases=None,
    )
    yield Row("the same with 80 cases", lambda random: [planted(random, 80, DROP)], None, cases=80)
    yield Row("pass or not: worse by just the margin", lambda random: [planted(random, 2000, DROP)], passes, cases=2000)
    yield Row(
        "three repeats, margin 1 point: the same model twice",
        lambda random: [trials_of.repeated(random, CASES)],
        fails,
        margin=0.01,
    )
    yield Row(
        "the same, with flaky cases left out (not what is done)",
        lambda random: [trials_of.without_flaky(trials_of.repeated(random, CASES))],
        None,
        margin=0.01,
    )
    yield Row(
        "as good, but one of twelve cases is not answered",
        lambda random: [trials_of.silent(random, CASES)],
        passes,
    )
    yield Row(
        "scores, margin 1 point: the same model twice",
        lambda random: [trials_of.scored(random, CASES, 0.0)],
        fails,
        margin=0.01,
    )
    yield Row(
        "scores: 5 points worse",
        _asking(lambda random, count: trials_of.scored(random, count, DROP)),
        caught,
        cases=None,
    )
    yield Row(
        "scores, ten cases of each source, margin 1 point: the same model twice",
        lambda random: [trials_of.scored(random, CASES, 0.0, source=10)],
        fails,
        margin=0.01,
    )
    yield Row(
        "the same, the sources not known (not what is done)",
        lambda random: [trials_of.scored(random, CASES, 0.0, source=10, known=False)],
        None,
        margin=0.01,
    )
    yield Row(
        "scores, ten cases of each source: 5 points worse",
        _asking(lambda random, count: trials_of.scored(random, count, DROP, source=10)),
        caught,
        cases=None,
    )
    yield Row(
        "five scorers: the same model twice",
        lambda random: [planted(random, CASES, 0.0, scorer=f"scorer{index}") for index in range(5)],
        fails,
    )
    yield Row(
        "five scorers: 5 points worse by one of them",
        _asking(lambda random, count: planted(random, count, DROP), others=4),
        caught,
        cases=None,
    )


def _watches() -> Iterator[Watch]:
    for more, same in ((0.0, True), (0.04, False)):
        worse = "" if same else ", beside 6 %"
        yield Watch(f"errors: 2 % of requests{worse}", partial(trials_of.watch_shares, rate=0.02, more=more), same)
    for times, same in ((1.0, True), (0.85, False)):
        worse = "" if same else ", beside 15 % less"
        yield Watch(
            f"scores of a judge, 0.75{worse}",
            lambda random, times=times: trials_of.watch_means(lambda: random.beta(3, 1, HORIZON), times, span=1.0),
            same,
        )
    for times, same in ((1.0, True), (1.25, False)):
        worse = "" if same else ", beside 25 % more"
        yield Watch(
            f"cost of a request, lognormal with sigma 1{worse}",
            lambda random, times=times: trials_of.watch_means(
                lambda: random.lognormal(0, 1, HORIZON), times, span=None
            ),
            same,
        )
    for users in (2000, 500):
        yield Watch(
            f"feedback of {users:,} users, some of whom ask much",
            partial(trials_of.watch_users, users=users),
            same=True,
        )
    for times, same in ((1.0, True), (1.5, False)):
        worse = "" if same else ", beside 1.5 times"
        yield Watch(f"95th percentile of latency{worse}", partial(trials_of.watch_latency, times=times), same)


def _of(seen: int, trials: int) -> str:
    high = wilson(seen, trials).high
    return f"{seen / trials:.1%} ({'up to ' + format(high, '.1%')})" if seen else f"0 (up to {high:.1%})"


def compared(trials: int, broken: list[str]) -> Iterator[str]:
    """Give the table of comparisons; what does not hold is put into `broken`."""
    yield "| what is true | cases | Fail | Pass | Inconclusive | promised |\n| --- | ---: | ---: | ---: | ---: | --- |"
    for index, row in enumerate(_rows()):
        random = np.random.default_rng([index, 1])
        counts, sizes = dict.fromkeys(Outcome, 0), []
        for _ in range(trials):
            pairs = row.draw(random)
            sizes.append(len(pairs[0].cases))
            counts[compare(pairs, margin=row.margin).outcome] += 1
        if row.promise and not row.promise.holds(counts[row.promise.outcome], trials):
            broken.append(f"{row.name}: {row.promise}, and it is {counts[row.promise.outcome]} of {trials}")
        size = f"{row.cases:,}" if row.cases else f"asked for: {int(np.median(sizes)):,}"
        shares = " | ".join(f"{counts[one] / trials:.1%}" for one in (Outcome.FAIL, Outcome.PASS, Outcome.INCONCLUSIVE))
        yield f"| {row.name} | {size} | {shares} | {row.promise or ''} |"


def watched(trials: int, broken: list[str]) -> Iterator[str]:
    """Give the table of what is looked at all the time."""
    yield (
        "| traffic | told: always valid | told: an interval for one look | after so many requests (median) |\n"
        "| --- | ---: | ---: | ---: |"
    )
    for index, watch in enumerate(_watches()):
        random = np.random.default_rng([index, 2])
        seen = [watch.draw(random) for _ in range(trials)]
        valid = [one.valid for one in seen if one.valid == one.valid]
        naive = sum(one.naive == one.naive for one in seen)
        if watch.same and not Promise(Outcome.FAIL, most=0.05).holds(len(valid), trials):
            broken.append(f"{watch.name}: false alarms in {len(valid)} of {trials}")
        after = "" if watch.same else f"{int(np.median(valid)):,}" if valid else "none"
        told = f"false alarm: {_of(len(valid), trials)}" if watch.same else f"{len(valid) / trials:.0%}"
        other = f"false alarm: {naive / trials:.0%}" if watch.same else f"{naive / trials:.0%}"
        yield f"| {watch.name} | {told} | {other} | {after} |"


def tables(trials: int, broken: list[str]) -> str:
    """Give both tables."""
    first, second = "\n".join(compared(trials, broken)), "\n".join(watched(trials, broken))
    return (
        f"{trials} simulated comparisons in each row, margin 5 points unless named, alpha 5 %:\n\n{first}\n\n"
        f"{trials} simulated streams in each row, {HORIZON:,} requests to each group, looked at after every "
        f"one (users: every 10, latency: every 100), alpha 5 %:\n\n{second}\n"
    )


def missing_rows(page: str) -> list[str]:
    """Say which rows of this script a page has not."""
    names = [row.name for row in (*_rows(), *_watches())]
    return [f"the page has no row of {name!r}: make eval-statistics" for name in names if f"| {name} |" not in page]


def main() -> int:
    """Simulate; print, write or check. Give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--check", type=Path)
    parser.add_argument("--trials", type=int, default=TRIALS)
    given = parser.parse_args()
    broken: list[str] = []
    text = tables(given.trials, broken)
    page = given.check or given.write
    if given.check:
        broken += missing_rows(given.check.read_text(encoding="utf-8"))
    elif page is None:
        print(text)
    else:
        new = re.sub(
            f"(?s){re.escape(BEGIN)}.*?{re.escape(END)}",
            lambda _: f"{BEGIN}\n\n{text}\n{END}",
            page.read_text(encoding="utf-8"),
        )
        page.write_text(new, encoding="utf-8")
    for line in broken:
        print(f"error: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
