"""Several scores of one answer put together."""

from collections.abc import Iterable
from typing import Final

from capstan_contract.config import EstimatorType

USES: Final = {
    EstimatorType.CHECKS: frozenset((EstimatorType.CHECKS,)),
    EstimatorType.LOG_PROBABILITY: frozenset((EstimatorType.LOG_PROBABILITY,)),
    EstimatorType.JUDGE: frozenset((EstimatorType.JUDGE,)),
    EstimatorType.ENSEMBLE: frozenset((EstimatorType.CHECKS, EstimatorType.LOG_PROBABILITY, EstimatorType.JUDGE)),
}
"""Which single estimators each type asks."""


def combine(scores: Iterable[float | None]) -> float | None:
    """The mean of the scores that are there; None when none is."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None
