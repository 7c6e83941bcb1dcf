"""Several tests of one thing: the more there are, the more find something by chance."""

from collections.abc import Sequence


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p-values so that all that are alpha or less are wrong together with a probability of alpha at most.

    Holm (1979), Scandinavian Journal of Statistics 6:65. In the order given; never less than before, never above 1.
    """
    adjusted, least = list(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, values[index] * (len(values) - rank)))
        adjusted[index] = least
    return adjusted
