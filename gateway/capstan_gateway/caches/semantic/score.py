"""How surely two questions mean the same: a few measures of their vectors, weighed, and where it is sure enough.

`score.json` is made by `scripts/train_cache.py` of public pairs of questions: the weights of a logistic regression, and
for each error budget the least score that kept it there, with rules (`verified`) and without them.
"""

import json
from functools import cache
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from capstan_gateway.embed.sentences import Sentence

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

_FILE: Final = Path(__file__).with_name("score.json")
NAMES: Final = ("cosine", "aligned_less", "aligned_more", "worst", "worst_more", "worst_three")
"""Of the measures, in the order of the weights."""
_COMMON: Final = 1900
"""Word pieces are numbered by how common they are, the first after this."""


class Scale(NamedTuple):
    """The packaged weights."""

    weights: tuple[float, ...]
    bias: float
    verified: tuple[tuple[float, float], ...]
    """Error budgets, rising, each with the least score that keeps it."""
    unverified: tuple[tuple[float, float], ...]

    def score(self, one: Sentence, other: Sentence) -> float:
        """Give how surely they mean the same: 0 to 1; it is the same whichever comes first."""
        return self.of(measures(one, other))

    def of(self, measured: tuple[float, ...]) -> float:
        """Do the same with measures that were taken."""
        said = self.bias + sum(weight * value for weight, value in zip(self.weights, measured, strict=True))
        return 1.0 / (1.0 + exp(-max(min(said, 60.0), -60.0)))

    def least(self, budget: float, *, verified: bool) -> float:
        """Give the least score of a hit, of which at most this share may be wrong: that of the next smaller budget."""
        table = self.verified if verified else self.unverified
        kept = [least for share, least in table if share <= budget]
        return kept[-1] if kept else table[0][1]


def measures(one: Sentence, other: Sentence) -> tuple[float, ...]:
    """Give what is measured, in the order of NAMES.

    Each word piece is held against the one of the other question that is nearest in its context (the idea of BERTScore,
    arXiv 1904.09675); rare pieces count more. What has no counterpart shows in the worst of these.
    """
    import numpy

    near = one.pieces @ other.pieces.T
    mine, theirs = near.max(1), near.max(0)
    aligned = sorted((_weighed(mine, one.ids), _weighed(theirs, other.ids)))
    worst = sorted((float(mine.min()), float(theirs.min())))
    three = min(float(numpy.sort(mine)[:3].mean()), float(numpy.sort(theirs)[:3].mean()))
    return (float(one.vector @ other.vector), *aligned, *worst, three)


def _weighed(near: "NDArray[numpy.float32]", ids: tuple[int, ...]) -> float:
    import numpy

    weights = numpy.log(numpy.maximum(numpy.array(ids) - _COMMON, 2))
    return float((near * weights).sum() / weights.sum())


@cache
def load_scale() -> Scale:
    """Read the packaged weights."""
    found = json.loads(_FILE.read_text(encoding="utf-8"))
    return Scale(
        tuple(found["weights"][name] for name in NAMES), found["bias"],
        tuple(map(tuple, found["verified"])), tuple(map(tuple, found["unverified"])),
    )  # fmt: skip
