"""How the prompts of a model compare with their estimates, learnt from what its engine tells with every answer.

    ratio       told / estimate, a moving average of prompts that are long enough to tell something
    deviation   how far prompts are from it, a moving average too
    corrected   estimate * (ratio + 2 * deviation)
    range       estimate * (ratio -+ 4 * deviation), which is as far as the timer's own margin goes

The averages and their weights are those of TCP's timer (RFC 6298, section 2: an eighth, and a quarter of the newest),
with half of its margin: what is reserved too low is taken all the same when the request is settled. Everything is whole
numbers; a ratio is in parts of 1024.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

ONE: Final = 1024
MAX_MODELS: Final = 20_000
"""Models whose ratio is known; the one that was told of first goes first."""
LEAST_TOKENS: Final = 64
"""Of shorter prompts most is what the template puts around them: they tell nothing of longer ones."""
LEAST_PROMPTS: Final = 8
"""So many are seen before any estimate is corrected."""
LEAST_RATIO: Final = ONE // 4
MOST_RATIO: Final = 4 * ONE
"""No tokenizer is further from the rule with a text of any language; what is further is no text, and no one client can
make a model's prompts cost others more than that."""
EVERY: Final = 8
"""Of a model of which enough was seen one prompt in so many is told: to learn takes longer than to correct."""
_MEAN_SHARE: Final = 8
_DEVIATION_SHARE: Final = 4
_MARGIN: Final = 2
_WIDE_MARGIN: Final = 4


class PromptRatios:
    """The ratios of all models. In the loop's thread only."""

    def __init__(self, limit: int = MAX_MODELS) -> None:
        self._limit = limit
        self._known: OrderedDict[str, list[int]] = OrderedDict()
        """The mean, the deviation, the number of prompts, and of those that might have been told since. Both averages
        are scaled by their share, so that small differences move them."""
        self._factors: dict[str, int] = {}
        """What estimates are multiplied with, of models that were seen often enough."""

    def wants(self, model_id: str, estimate: int) -> bool:
        """Whether to tell of the next prompt of this model, which has this estimate."""
        if estimate < LEAST_TOKENS:
            return False
        known = self._known.get(model_id)
        if known is None or known[2] < LEAST_PROMPTS:
            return True
        known[3] += 1
        if known[3] < EVERY:
            return False
        known[3] = 0
        return True

    def observe(self, model_id: str, *, estimate: int, told: int) -> None:
        """Take what an engine told of one prompt, pictures and what came out of its cache included."""
        if estimate < LEAST_TOKENS or told <= 0:
            return
        ratio = min(max(told * ONE // estimate, LEAST_RATIO), MOST_RATIO)
        known = self._known.get(model_id)
        if known is None:
            self._begin(model_id, ratio)
            return
        mean = known[0] // _MEAN_SHARE
        known[0] += ratio - mean
        known[1] += abs(ratio - mean) - known[1] // _DEVIATION_SHARE
        known[2] += 1
        if known[2] >= LEAST_PROMPTS:
            factor = known[0] // _MEAN_SHARE + _MARGIN * (known[1] // _DEVIATION_SHARE)
            self._factors[model_id] = min(factor, MOST_RATIO)

    def _begin(self, model_id: str, ratio: int) -> None:
        self._known[model_id] = [ratio * _MEAN_SHARE, 0, 1, 0]
        if len(self._known) > self._limit:
            oldest, _ = self._known.popitem(last=False)
            self._factors.pop(oldest, None)

    def corrected(self, model_id: str, estimate: int) -> int:
        """Give how many tokens a prompt with this estimate probably has for this model; the estimate itself as long as
        too little is known. Never negative, and 0 only where the estimate is."""
        factor = self._factors.get(model_id)
        return estimate if factor is None else -(-estimate * factor // ONE)

    def range_of(self, model_id: str, estimate: int) -> tuple[int, int]:
        """Give the fewest and the most tokens that such a prompt has, as far as anybody can tell: what a template puts
        around it may be `LEAST_TOKENS` more. The corrected estimate is among them."""
        known = self._known.get(model_id)
        if known is None or known[2] < LEAST_PROMPTS:
            least, most = LEAST_RATIO, MOST_RATIO
        else:
            mean, deviation = known[0] // _MEAN_SHARE, known[1] // _DEVIATION_SHARE
            least = min(max(mean - _WIDE_MARGIN * deviation, LEAST_RATIO), self._factors[model_id])
            most = min(mean + _WIDE_MARGIN * deviation, MOST_RATIO)
        return estimate * least // ONE, -(-estimate * most // ONE) + LEAST_TOKENS

    def retain(self, model_ids: Iterable[str]) -> None:
        """Forget every other model."""
        kept = frozenset(model_ids)
        self._known = OrderedDict((name, known) for name, known in self._known.items() if name in kept)
        self._factors = {name: factor for name, factor in self._factors.items() if name in kept}

    def __len__(self) -> int:
        return len(self._known)
