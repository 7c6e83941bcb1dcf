"""How sure a model was of its answer: the mean log-probability of its tokens, as a probability."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from capstan_contract.guards import Aggregate


def ask_for_logprobs(request: dict[str, Any], *, chat: bool) -> dict[str, Any]:
    """The request with log-probabilities asked for, in the way of its route. Those of the client stay."""
    if asks_for_logprobs(request, chat=chat):
        return request
    return {**request, "logprobs": True if chat else 1}


def asks_for_logprobs(request: Mapping[str, Any], *, chat: bool) -> bool:
    """Whether a request asks for them. To completions 0 does: it is the number of other tokens that are told."""
    asked = request.get("logprobs")
    return bool(asked) if chat else asked is not None and asked is not False


def mean_probability(answer: Mapping[str, Any]) -> float | None:
    """Exp of the mean token log-probability, of the worst choice; None when the engine gave none."""
    choices = answer.get("choices")
    scores = [_of_choice(choice) for choice in choices] if isinstance(choices, list) else []
    known = [score for score in scores if score is not None]
    return min(known) if known and len(known) == len(scores) else None


def _of_choice(choice: Any) -> float | None:
    values = list(_values(choice.get("logprobs"))) if isinstance(choice, dict) else []
    return math.exp(min(0.0, sum(values) / len(values))) if values else None


def _values(logprobs: Any) -> Iterator[float]:
    """Read both forms: `content[].logprob` of chats, `token_logprobs[]` of completions."""
    if not isinstance(logprobs, dict):
        return
    found = logprobs.get("content") or logprobs.get("token_logprobs")
    for item in found if isinstance(found, list) else ():
        value = item.get("logprob") if isinstance(item, dict) else item
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield float(value)


class Confidence:
    """How sure a model is of an answer that comes in one piece or in chunks: of its least sure choice."""

    def __init__(self) -> None:
        self._choices: dict[int, tuple[int, float, float]] = {}
        """Of each choice: how many tokens had a log-probability, their sum, and the least of them."""

    def feed(self, document: Mapping[str, Any]) -> None:
        """Take in an answer, or a chunk of a stream: both have the same form."""
        choices = document.get("choices")
        for place, choice in enumerate(choices if isinstance(choices, list) else ()):
            if not isinstance(choice, dict):
                continue
            number = choice.get("index")
            number = number if isinstance(number, int) and len(self._choices) < MOST_CHOICES else place
            count, total, least = self._choices.get(number, (0, 0.0, 0.0))
            for value in map(_at_most_sure, _values(choice.get("logprobs"))):
                count, total, least = count + 1, total + value, min(least, value)
            self._choices[number] = count, total, least

    def probability(self, aggregate: Aggregate) -> float | None:
        """Give it, from 0 to 1; None when the engine told nothing of some choice."""
        if not self._choices or any(count == 0 for count, _, _ in self._choices.values()):
            return None
        least = aggregate is Aggregate.MINIMUM
        return math.exp(min(low if least else total / count for count, total, low in self._choices.values()))


MOST_CHOICES: Final = 128


def _at_most_sure(value: float) -> float:
    return min(0.0, value)


def confidence(answer: Mapping[str, Any], aggregate: Aggregate) -> float | None:
    """Give the mean or the least probability of an answer's tokens; None when the engine told none."""
    told = Confidence()
    told.feed(answer)
    return told.probability(aggregate)


def without_logprobs(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer as it would be if nobody had asked for log-probabilities."""
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return answer
    return {
        **answer,
        "choices": [{**choice, "logprobs": None} if "logprobs" in choice else choice for choice in choices],
    }
