"""Simulated runs, and simulated traffic, for eval_statistics.py: what is true is known, so that it can be counted how
often Capstan says otherwise. Seeded: the same number of trials gives the same counts.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from capstan_evaluation.records import Outcome, Verdict
from capstan_evaluation.statistics.closed import always_valid, exact
from capstan_evaluation.statistics.closed.always_valid import Bucket, Moments
from capstan_evaluation.statistics.closed.quantiles import quantile_ratio
from capstan_evaluation.statistics.compare import compare
from capstan_evaluation.statistics.pairing import Missing, PairedCase, Pairs

Numbers = NDArray[np.float64]
DROP: Final = 0.05
DISCORDANCE: Final = 0.10
PILOT: Final = 200
"""Cases of the first run, whose report says how many it takes."""
HORIZON: Final = 2_000
"""Observations of each group, looked at after each."""
FEWEST: Final = 30
"""Below it nobody would use the naive test either."""
BOUNDS: Final = [0.01 * 2 ** (index / 8) for index in range(97)]
GROUPS: Final = 128


def run_of(
    old: Sequence[Sequence[float]], new: Sequence[Sequence[float]], *, scorer: str = "exact", source: int = 0
) -> Pairs:
    """Make two runs of scores by case and repeat; `source` cases each share one."""
    binary = all(score in (0, 1) for scores in (*old, *new) for score in scores)
    cases = tuple(
        PairedCase(f"{index:06}", tuple(before), tuple(after), f"{index // source:06}" if source else "")
        for index, (before, after) in enumerate(zip(old, new, strict=True))
    )
    return Pairs(scorer, binary, cases)


def planted(random: np.random.Generator, count: int, drop: float, *, scorer: str = "exact") -> Pairs:
    """A scorer that passes or does not: 10 % of cases differ, and the candidate is worse by `drop`."""
    shares = [(DISCORDANCE + drop) / 2, (DISCORDANCE - drop) / 2]
    kinds = random.choice(4, size=count, p=[*shares, (1 - sum(shares)) * 0.8, (1 - sum(shares)) * 0.2])
    old, new = np.isin(kinds, (0, 2)).astype(float), np.isin(kinds, (1, 2)).astype(float)
    return run_of(old[:, None].tolist(), new[:, None].tolist(), scorer=scorer)


def repeated(random: np.random.Generator, count: int) -> Pairs:
    """The same model twice, three repeats: a third of the cases is right four times of five."""
    rates = random.choice([0.8, 1.0, 0.0], size=count, p=[1 / 3, 1 / 2, 1 / 6])
    runs = (random.random((2, count, 3)) < rates[None, :, None]).astype(float)
    return run_of(runs[0].tolist(), runs[1].tolist())


def without_flaky(pairs: Pairs) -> Pairs:
    """Leave out what contradicts itself on the baseline: what is not done, because it is wrong."""
    return Pairs(pairs.scorer, pairs.binary, tuple(case for case in pairs.cases if len(set(case.baseline)) == 1))


def scored(random: np.random.Generator, count: int, drop: float, *, source: int = 0, known: bool = True) -> Pairs:
    """Scores of a judge between 0 and 1; with sources, what makes an answer good or bad is shared by their cases."""
    quality = 0.35 + 0.3 * random.beta(2, 2, size=count)
    noise = random.uniform(-0.2, 0.2, size=(2, count))
    if source:
        shared = random.uniform(-0.1, 0.1, size=(2, -(-count // source)))
        noise = noise / 2 + np.repeat(shared, source, axis=1)[:, :count]
    runs = quality[None, :] + noise
    runs[1] -= drop
    return run_of(runs[0, :, None].tolist(), runs[1, :, None].tolist(), source=source if known else 0)


def silent(random: np.random.Generator, count: int) -> Pairs:
    """As good where it answers, and without an answer to one case of twelve."""
    pairs = planted(random, count, 0.0)
    gone = random.random(count) < 1 / 12
    cases = (
        PairedCase(case.case, case.baseline, (Missing.UNANSWERED,)) if lost else case
        for case, lost in zip(pairs.cases, gone, strict=True)
    )
    return Pairs(pairs.scorer, pairs.binary, tuple(cases))


def outcomes(trials: int, draw: Callable[[], Verdict]) -> Counter[Outcome]:
    """Count what verdicts say."""
    return Counter(draw().outcome for _ in range(trials))


def asked(pilot: Pairs, *, others: Sequence[Pairs] = ()) -> int:
    """Give the number of cases that the report of a first run asks for."""
    return compare([pilot, *others], margin=DROP).comparisons[0].neededCases


@dataclass(frozen=True)
class Watched:
    """Traffic of two groups that was looked at all the time."""

    valid: float
    """After how many observations of each group the always-valid interval says that they differ; NaN: never."""
    naive: float
    """The same for an interval that is right for one look."""


def watch_shares(random: np.random.Generator, rate: float, more: float) -> Watched:
    """Errors: yes or no."""
    old, new = (np.cumsum(random.random(HORIZON) < share) for share in (rate, rate + more))
    seen = np.arange(1, HORIZON + 1)

    def told(count: int) -> bool:
        return exact.rules_out(0.0, int(old[count - 1]), count, int(new[count - 1]), count)

    # The bets are averages of likelihood ratios: none says something before the largest of those reaches 1 / alpha.
    ratio = _likelihood(seen, old) + _likelihood(seen, new) - _likelihood(2 * seen, old + new)
    looks = np.flatnonzero(ratio >= -np.log(0.05)) + 1
    return Watched(
        next((float(count) for count in looks if told(int(count))), nan), _naive(_z(seen, old, old, new, new))
    )


def _likelihood(count: NDArray[np.int64], successes: NDArray[np.int64]) -> Numbers:
    """The logarithm of the likelihood of shares under the share that was seen."""
    share = successes / count
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = successes * np.log(share), (count - successes) * np.log1p(-share)
    return sum(np.nan_to_num(part, nan=0.0) for part in parts)


def watch_means(draw: Callable[[], Numbers], times: float, *, span: float | None) -> Watched:
    """Scores with a `span`, costs or seconds without: the candidate's are `times` as much."""
    old, new = draw(), times * draw()
    sums = [np.cumsum(values) for values in (old, old**2, new, new**2)]
    z = _z(np.arange(1, HORIZON + 1), *sums)

    def told(count: int) -> bool:
        first, second, third, fourth = (float(one[count - 1]) for one in sums)
        found = always_valid.mean_difference(
            Moments(count, first, first and second), Moments(count, third, fourth), span=span
        )
        return found.low > 0 or found.high < 0

    return Watched(_first(z, told), _naive(z))


def watch_users(random: np.random.Generator, users: int, *, every: int = 10) -> Watched:
    """The same model twice. Users differ in how often they say that an answer is good, and in how much they ask.

    The always-valid interval is looked at every 10 observations.
    """
    activity = random.pareto(1.5, users) + 1
    taste = random.beta(2, 1, size=users)
    arm, group = np.arange(users) % 2, random.integers(0, GROUPS, size=users)
    user = random.choice(users, size=2 * HORIZON, p=activity / activity.sum())
    good = (random.random(2 * HORIZON) < taste[user]).astype(float)
    sums = [np.cumsum(np.where(arm[user] == side, good, 0.0)) for side in (0, 1)]
    counts = [np.cumsum(arm[user] == side) for side in (0, 1)]
    z = _z_of(counts[0], sums[0], sums[0], counts[1], sums[1], sums[1])
    totals = np.zeros((2, GROUPS, 2))
    done = 0

    def told(count: int) -> bool:
        nonlocal done
        for index in range(done, count):
            totals[arm[user[index]], group[user[index]]] += (1, good[index])
        done = count
        old, new = ([Bucket(float(n), float(total)) for n, total in side] for side in totals)
        found = always_valid.clustered_difference(old, new, span=1.0)
        return found.low > 0 or found.high < 0

    return Watched(next((count / 2 for count in _looks(z) if count % every == 0 and told(count)), nan), _naive(z) / 2)


def watch_latency(random: np.random.Generator, times: float, *, every: int = 100) -> Watched:
    """Seconds: the 95th percentile of one beside that of the other, looked at every 100 observations."""
    old = random.lognormal(-1.0, 0.6, size=HORIZON)
    new = times * random.lognormal(-1.0, 0.6, size=HORIZON)
    edges = [0.0, *BOUNDS, np.inf]
    valid = naive = nan
    for count in range(every, HORIZON + 1, every):
        before, after = (np.histogram(values[:count], edges)[0].tolist() for values in (old, new))
        found = quantile_ratio(BOUNDS, before, after).interval
        if np.isnan(valid) and (found.low > 1 or found.high < 1):
            valid = count
        if np.isnan(naive):
            slow = np.quantile(np.concatenate((old[:count], new[:count])), 0.95)
            over = [np.array([np.sum(values[:count] > slow)]) for values in (old, new)]
            if (
                count >= 100
                and abs(_z_of(np.array([count]), over[0], over[0], np.array([count]), over[1], over[1])[0]) > 1.96
            ):
                naive = count
        if not np.isnan(valid) and not np.isnan(naive):
            break
    return Watched(valid, naive)


def _z(seen: NDArray[np.int64], *sums: NDArray[np.generic]) -> Numbers:
    return _z_of(seen, sums[0], sums[1], seen, sums[2], sums[3])


def _z_of(*of: NDArray[np.generic]) -> Numbers:
    """How many standard errors two means are apart, by the sums of each group: counts, values, squares."""
    parts = []
    for count, total, squares in (of[:3], of[3:]):
        held = np.maximum(count.astype(float), 1.0)
        mean = total / held
        parts.append((mean, np.maximum(squares / held - mean**2, 0.0) / held, count))
    (old, first, few), (new, second, many) = parts
    error = np.sqrt(first + second)
    z = np.divide(new - old, error, out=np.zeros_like(error), where=error > 0)
    return np.where(np.minimum(few, many) >= 2, z, 0.0)


def _first(z: Numbers, told: Callable[[int], bool]) -> float:
    """The first look that says something. No always-valid interval is narrower than two standard errors."""
    return next((float(count) for count in _looks(z) if told(count)), nan)


def _looks(z: Numbers) -> Iterator[int]:
    return (int(index) + 1 for index in np.flatnonzero(np.abs(z) > 2.0))


def _naive(z: Numbers) -> float:
    found = np.flatnonzero(np.abs(z[FEWEST:]) > 1.96)
    return float(found[0] + 1 + FEWEST) if len(found) else nan
