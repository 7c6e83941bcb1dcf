"""Makes `score.json` of the semantic cache: how surely two questions mean the same, and where it is sure enough.

    python scripts/train_cache.py ../shared/data [--vectors FILE]

A logistic regression of six measures, each set with the same weight whatever its size, and as much of pairs that
are the same as of those that are not. It learns from pairs that no rule refuses. Thresholds are set with scores that a
pair got from weights which had not seen its set.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy
from cache_measures import Measured, Vectors, measured
from cache_sets import BY_INTENT, read_sets
from numpy.typing import NDArray

from capstan_gateway.caches.semantic import score

BUDGETS: Final = (0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
LEFT_OUT: Final = (BY_INTENT, "across languages")
"""In names of sets that are measured, and not learned from."""
MOST: Final = 1000
"""Pairs of a label that a set counts as, at most, where a threshold is set."""
RIDGE: Final = 0.01
SURE: Final = 20
"""Pairs of equal weight that a threshold is set by, at least."""
_ROUNDS: Final = 50
Rows = NDArray[numpy.float64]


def fit(rows: Rows, labels: Rows, weights: Rows) -> Rows:
    """Give the bias and a weight for each column: Newton's method, with a ridge on all but the bias."""
    x = numpy.column_stack((numpy.ones(len(rows)), rows))
    beta = numpy.zeros(x.shape[1])
    ridge = numpy.diag([0.0] + [RIDGE] * rows.shape[1])
    for _ in range(_ROUNDS):
        p = 1 / (1 + numpy.exp(-(x @ beta)))
        step = numpy.linalg.solve((x * (weights * p * (1 - p))[:, None]).T @ x + ridge,
                                  x.T @ (weights * (labels - p)) - ridge @ beta)  # fmt: skip
        beta += step
        if abs(step).max() < 1e-9:
            break
    return beta


def fit_rising(rows: Rows, labels: Rows, weights: Rows) -> Rows:
    """Do the same with no weight below 0: who is nearer in any way is never less sure."""
    columns = list(range(rows.shape[1]))
    while True:
        beta = fit(rows[:, columns], labels, weights)
        if (beta[1:] >= 0).all():
            break
        columns.pop(int(beta[1:].argmin()))
    found = numpy.zeros(rows.shape[1] + 1)
    found[[0, *(column + 1 for column in columns)]] = beta
    return found


def balanced(sets: Sequence[str], labels: Rows) -> Rows:
    """Weigh pairs: each set, and each label in it, as much as any other, but less where there are few of them."""
    weights = numpy.zeros(len(labels))
    names = numpy.array(sets)
    for name in set(sets):
        for label in (0.0, 1.0):
            there = (names == name) & (labels == label)
            if there.any():
                weights[there] = 10 * min(there.sum(), 400) ** 0.5 / there.sum()
    for label in (0.0, 1.0):
        weights[labels == label] *= 0.5 * weights.sum() / max(weights[labels == label].sum(), 1e-9)
    return weights


def capped(sets: Sequence[str], labels: Rows) -> Rows:
    """Weigh pairs one each, but those of a large set less."""
    names = numpy.array(sets)
    weights = numpy.ones(len(labels))
    for name in set(sets):
        for label in (0.0, 1.0):
            there = (names == name) & (labels == label)
            weights[there] = min(1.0, MOST / max(there.sum(), 1))
    return weights


def main() -> None:
    """Train, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path)
    given = parser.parse_args()
    vectors = Vectors(given.vectors)
    pairs = [
        one
        for one in measured(read_sets(given.data), vectors)
        if one.language is None and not any(word in one.pair.set for word in LEFT_OUT)
    ]
    vectors.save()
    found = train(pairs)
    Path(score.__file__).with_name("score.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def train(pairs: Sequence[Measured]) -> dict[str, Any]:
    """Give what `score.json` holds."""
    sets = [one.pair.set for one in pairs]
    labels = numpy.array([float(one.pair.label) for one in pairs])
    rows = numpy.array([one.measures for one in pairs])
    kept = numpy.array([one.refused is None for one in pairs])
    beta = _learn(sets, labels, rows, kept)
    unseen = unseen_scores(sets, labels, rows, kept)
    return {
        "weights": {name: round(float(value), 4) for name, value in zip(score.NAMES, beta[1:], strict=True)},
        "bias": round(float(beta[0]), 4),
        "verified": thresholds(unseen, labels, capped(sets, labels), kept),
        "unverified": thresholds(unseen, labels, capped(sets, labels), numpy.ones(len(kept), bool)),
    }


def unseen_scores(sets: Sequence[str], labels: Rows, rows: Rows, kept: Rows) -> Rows:
    """Give each pair the score it has with weights that were learned from the other sets."""
    names = numpy.array(sets)
    found = numpy.zeros(len(labels))
    for name in set(sets):
        others = names != name
        beta = _learn([one for one in sets if one != name], labels[others], rows[others], kept[others])
        mine = names == name
        found[mine] = 1 / (1 + numpy.exp(-(beta[0] + rows[mine] @ beta[1:])))
    return found


def fit_unseen(learned: Sequence[Measured], found: Sequence[Measured]) -> Rows:
    """Give each of `found` the score it has with weights learned from those of `learned` that are of other sets."""
    sets = numpy.array([one.pair.set for one in learned])
    labels = numpy.array([float(one.pair.label) for one in learned])
    rows = numpy.array([one.measures for one in learned])
    kept = numpy.array([one.refused is None for one in learned])
    betas: dict[str, Rows] = {}
    scores = []
    for one in found:
        name = one.pair.set
        if name not in betas:
            others = sets != name
            betas[name] = _learn(list(sets[others]), labels[others], rows[others], kept[others])
        beta = betas[name]
        scores.append(1 / (1 + numpy.exp(-(beta[0] + numpy.array(one.measures) @ beta[1:]))))
    return numpy.array(scores)


def _learn(sets: Sequence[str], labels: Rows, rows: Rows, kept: Rows) -> Rows:
    chosen = [name for name, keeps in zip(sets, kept, strict=True) if keeps]
    return fit_rising(rows[kept], labels[kept], balanced(chosen, labels[kept]))


def thresholds(scores: Rows, labels: Rows, weights: Rows, kept: Rows) -> list[list[float]]:
    """Give for each budget the least score above which that share of the weight, at most, is of pairs with label 0."""
    order = numpy.argsort(-scores[kept])
    sure, right, weight = scores[kept][order], labels[kept][order], weights[kept][order]
    wrong = numpy.cumsum(weight * (1 - right)) / numpy.cumsum(weight)
    first = int(numpy.argmin(right))  # What is above is not wrong once: less cannot be measured.
    found: list[list[float]] = []
    for budget in BUDGETS:
        within = numpy.flatnonzero((wrong <= budget) & (numpy.arange(len(wrong)) >= SURE))
        least = float(sure[within[-1]]) if len(within) and within[-1] > first else float(sure[max(first - 1, 0)])
        found.append([budget, round(min(least, found[-1][1]) if found else least, 4)])
    return found


if __name__ == "__main__":
    main()
