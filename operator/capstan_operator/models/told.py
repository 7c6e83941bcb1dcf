"""What the models that depend on others were told last."""

from collections.abc import Iterable

from capstan_operator.resources.resource import ObjectKey
from capstan_operator.status.standings import Standing


class ToldStandings:
    """The standing of each model that those who depend on it know."""

    def __init__(self) -> None:
        self._told: dict[ObjectKey, Standing] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._told)

    def is_news(self, key: ObjectKey, standing: Standing) -> bool:
        """Take up the standing of a model; say whether it is another one than before."""
        if self._told.get(key) == standing:
            return False
        self._told[key] = standing
        return True

    def forget(self, key: ObjectKey) -> None:
        """A model has gone."""
        self._told.pop(key, None)

    def keep_only(self, keys: Iterable[ObjectKey]) -> None:
        """Forget every other model: a watch may have missed that one went."""
        kept = set(keys)
        self._told = {key: standing for key, standing in self._told.items() if key in kept}
