"""What a request will probably use and cost, before it is sent: for limits, budgets, and the caller's own bound.

    input    by `tokens.prompt`
    output   the most that the client accepts, times the answers that it asks for, and never more than the model gives;
             else the most that the model gives; else the mean of the model's answers so far
    cost     of a virtual model: that of its dearest member. What a cascade asks beyond that, its judge too, is on the
             bill in the end

It is one answer's worth. Whoever reserves by it settles to what was used.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from capstan_contract.config import Task
from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.pipeline.bounds import answers_of, bound_of
from capstan_gateway.pipeline.request import Request
from capstan_gateway.selection.needs import USUAL_OUTPUT_TOKENS
from capstan_gateway.tokens.price import Rates, dollars_text
from capstan_gateway.tokens.prompt import SOUND_TOKENS_PER_SECOND, prompt_tokens, sound_tokens
from capstan_gateway.tokens.usage import Usage

MAX_MODELS: Final = 20_000
"""Models whose mean is known; the one that was measured longest ago goes first."""
NEWEST_SHARE: Final = 8
"""The newest answer counts one part in so many."""
_WITHOUT_OUTPUT: Final = frozenset((Task.EMBED, Task.CLASSIFY, Task.SCORE))


class MeanOutputs:
    """How long answers of models are, as a moving average in whole tokens. In the loop's thread only."""

    def __init__(self, limit: int = MAX_MODELS) -> None:
        self._limit = limit
        self._means: OrderedDict[str, int] = OrderedDict()
        """Scaled, so that the average of small numbers moves."""

    def observe(self, model_id: str, tokens: int) -> None:
        """Take the length of one answer."""
        before = self._means.pop(model_id, None)
        scaled = tokens * NEWEST_SHARE
        self._means[model_id] = scaled if before is None else before + tokens - before // NEWEST_SHARE
        if len(self._means) > self._limit:
            self._means.popitem(last=False)

    def of(self, model_id: str) -> int:
        """Give the mean, at least 1; of a model that was not measured yet the usual length."""
        scaled = self._means.get(model_id)
        return USUAL_OUTPUT_TOKENS if scaled is None else max(1, scaled // NEWEST_SHARE)

    def retain(self, model_ids: Iterable[str]) -> None:
        """Forget every other model."""
        kept = frozenset(model_ids)
        self._means = OrderedDict((name, mean) for name, mean in self._means.items() if name in kept)


def asked_tokens(request: Request, model: ServedModel | None = None) -> int:
    """Estimate the input of a request to a model; the time that takes is in proportion to it.

    Who makes vectors reads a query once, whatever it is compared with; of any other model it is not known.
    """
    native = request.native
    pairs = model is None or model.task is not Task.EMBED or model.plan is not None
    # NB: the document of a request that cannot be translated holds nothing of it.
    unread = request.untranslatable is not None and native is not None
    tokens = prompt_tokens(native.document if unread and native is not None else request.document, pairs=pairs)
    return tokens if request.form is None else tokens + sound_tokens(len(request.form.file))


def with_sound(usage: Usage, request: Request) -> Usage:
    """Give a usage with the sound that was heard, of which what was not told is estimated by its file."""
    if request.form is None:
        return usage
    tokens = sound_tokens(len(request.form.file))
    return usage._replace(
        audio_tokens=usage.audio_tokens or tokens,
        sound_seconds=usage.sound_seconds or -(-tokens // SOUND_TOKENS_PER_SECOND),
    )


def price_of(request: Request, rates: Rates, prompt: int, output: int) -> int:
    """Give what a request with so many tokens probably costs at these rates, in nano-dollars."""
    if request.form is None:
        return rates.of_tokens(prompt, output)
    return rates.cost(with_sound(Usage(prompt, output), request))


def asked_output(request: Request) -> int | None:
    """Give the most output that the client accepts, in all choices; None where it does not say, 0 of vectors.

    InvalidRequest where it says that with what is no number.
    """
    if not request.route.tasks.isdisjoint(_WITHOUT_OUTPUT):
        return 0
    return bound_of(request)


def output_tokens(request: Request, model: ServedModel, means: MeanOutputs) -> int:
    """Estimate the output of this model, in all choices."""
    asked, most = asked_output(request), model.max_output_tokens
    if asked == 0 or (asked is not None and most is None):
        return asked
    most_of_all = (means.of(model.id) if most is None else most) * answers_of(request)
    return most_of_all if asked is None else min(asked, most_of_all)


@dataclass(frozen=True, slots=True)
class CostBound:
    """What a request may cost."""

    nano_dollars: int | None
    """None: whatever it costs, as long as somebody knows that."""
    prompt_tokens: int
    means: MeanOutputs

    def allows(self, request: Request, runtime: Runtime, model: ServedModel) -> bool:
        """Whether this model will probably not cost more; never one of which nobody knows what it costs."""
        costs = cost(request, runtime, model, self.prompt_tokens, self.means, known_only=True)
        return costs is not None and (self.nano_dollars is None or costs <= self.nano_dollars)

    @property
    def words(self) -> str:
        """What the models do that it allows."""
        if self.nano_dollars is None:
            return "have a price"
        return f"cost at most ${dollars_text(self.nano_dollars).decode()}"


def cost(
    request: Request, runtime: Runtime, model: ServedModel, prompt: int, means: MeanOutputs, *,
    known_only: bool = False, first: Callable[[Request, int], int] = lambda _, output: output,
) -> int | None:  # fmt: skip
    """Give what the request will probably cost in nano-dollars with a prompt of so many tokens.

    None when nobody knows what the model costs; of a virtual one, when that is so of a member, or with `known_only` of
    all members. `first` says how much of an output counts.
    """
    if model.plan is None:
        rates = model.rates
        if rates is None:
            return None
        return price_of(request, rates, prompt, first(request, output_tokens(request, model, means)))
    dearest: int | None = None
    for member in runtime.members(model, request.route.tasks):
        costs = cost(request, runtime, member.model, prompt, means, known_only=known_only, first=first)
        if costs is not None:
            dearest = max(dearest or 0, costs)
        elif not known_only:
            return None
    return dearest
