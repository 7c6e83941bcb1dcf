"""How many paraphrases a semantic cache finds, and how often what it gives is wrong: tables for docs/cache.md.

    python scripts/eval_cache.py ../shared/data [--vectors FILE] [--write docs/cache.md]

Each pair is one question that is kept and one that is asked. A hit on a pair of label 1 is right, on one of label 0
wrong. The score of a pair comes from weights that have not seen its set. Beside it stand GPTCache 0.1.44's own rules (a
cosine of 0.6, which is what its default threshold of 0.8 comes to for vectors of length 1 in its FAISS index) with the
same vectors, and at the threshold that is best for it: the one with most hits at precision 0.95 on these very pairs.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy
from cache_measures import Measured, Vectors, measured
from cache_sets import read_sets
from train_cache import LEFT_OUT, fit_unseen

from capstan_gateway.caches.semantic.evidence import rate_of
from capstan_gateway.caches.semantic.score import load_scale

POINTS: Final = (0.01, 0.02, 0.05)
"""Error budgets that are measured."""
GPTCACHE_LEAST: Final = 0.6
PRECISION: Final = 0.95
BEGIN: Final = "<!-- begin: scripts/eval_cache.py -->"
END: Final = "<!-- end -->"


class Row(NamedTuple):
    """A pair, and what says yes to it."""

    set: str
    label: int
    cosine: float
    score: float
    refused: bool
    foreign: bool


class Way(NamedTuple):
    """One way to decide."""

    name: str
    hits: Callable[[Row], bool]


def main() -> None:
    """Measure, and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    vectors = Vectors(given.vectors)
    found = measured(read_sets(given.data), vectors)
    vectors.save()
    text = tables(rows_of(found))
    if given.write is None:
        print(text)
        return
    page = given.write.read_text(encoding="utf-8")
    new = re.sub(f"(?s){re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n\n{text}\n{END}", page)
    given.write.write_text(new, encoding="utf-8")


def rows_of(found: Sequence[Measured]) -> list[Row]:
    """Give pairs with scores of weights that had not seen their set."""
    learned = [one for one in found if one.language is None and not any(word in one.pair.set for word in LEFT_OUT)]
    scores = fit_unseen(learned, found)
    return [
        Row(
            one.pair.set,
            one.pair.label,
            one.measures[0],
            float(score),
            one.refused is not None,
            one.language is not None,
        )
        for one, score in zip(found, scores, strict=True)
    ]


def ways() -> list[Way]:
    """Give ours at three operating points, with rules and without."""
    found = []
    scale = load_scale()
    for verified in (True, False):
        for budget in POINTS:
            least = scale.least(budget, verified=True)
            name = f"budget {budget}, {'rules' if verified else 'no rules'}"
            found.append(Way(name, _ours(least, verified=verified)))
    return found


def _ours(least: float, *, verified: bool) -> Callable[[Row], bool]:
    return lambda row: row.score >= least and not row.foreign and not (verified and row.refused)


def best_cosine(rows: Sequence[Row]) -> float:
    """Give the least cosine at which hits on these rows are right often enough; above 1 where there is none."""
    order = sorted(rows, key=lambda row: -row.cosine)
    right = numpy.cumsum([row.label for row in order])
    enough = numpy.flatnonzero(right / numpy.arange(1, len(order) + 1) >= PRECISION)
    return order[enough[-1]].cosine if len(enough) else 1.1


def tables(rows: Sequence[Row]) -> str:
    """Give all of it as Markdown."""
    labels: dict[str, set[int]] = {}
    for row in rows:
        labels.setdefault(row.set, set()).add(row.label)
    mixed = [name for name, both in labels.items() if both == {0, 1} and "across" not in name]
    parts = ["### Pairs that people have labelled", ""]
    for name in mixed:
        parts += [*_mixed(name, [row for row in rows if row.set == name]), ""]
    parts += ["### Pairs that are never the same", "", *_never(rows, mixed)]
    return "\n".join(parts)


def _mixed(name: str, rows: Sequence[Row]) -> Iterable[str]:
    same = sum(row.label for row in rows)
    yield f"**{name}**: {same} pairs that mean the same, {len(rows) - same} that do not."
    yield ""
    yield "| | hits of those that mean the same | precision of hits | wrong hits |"
    yield "| --- | --- | --- | --- |"
    least = best_cosine(rows)
    gptcache = [
        Way("GPTCache's default", lambda row: row.cosine >= GPTCACHE_LEAST),
        Way(f"GPTCache's best at precision {PRECISION} (cosine {least:.3f})", lambda row: row.cosine >= least),
    ]
    for way in (*ways(), *gptcache):
        hits = [row for row in rows if way.hits(row)]
        right = sum(row.label for row in hits)
        yield f"| {way.name} | {_share(right, same)} | {_share(right, len(hits))} | {len(hits) - right} |"


def _never(rows: Sequence[Row], mixed: Sequence[str]) -> Iterable[str]:
    chosen = [*ways(), Way("GPTCache's default", lambda row: row.cosine >= GPTCACHE_LEAST)]
    yield f"| hits of | pairs | {' | '.join(way.name for way in chosen)} |"
    yield f"| --- |{' --- |' * (len(chosen) + 1)}"
    names = [name for name in dict.fromkeys(row.set for row in rows) if name not in mixed]
    for name in names:
        mine = [row for row in rows if row.set == name]
        yield f"| {name} | {len(mine)} | {' | '.join(str(sum(map(way.hits, mine))) for way in chosen)} |"


def _share(part: int, whole: int) -> str:
    if not whole:
        return "-"
    rate = rate_of(whole, part)
    return f"{part / whole:.3f} ({rate.low:.3f} to {rate.high:.3f})"


if __name__ == "__main__":
    main()
