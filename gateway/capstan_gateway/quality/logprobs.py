"""How sure a model was of its answer: the mean log-probability of its tokens, as a probability."""

import math
from collections.abc import Iterator, Mapping
from typing import Any


def ask_for_logprobs(request: dict[str, Any], *, chat: bool) -> dict[str, Any]:
    """The request with log-probabilities asked for, in the way of its route. Those of the client stay."""
    if request.get("logprobs"):
        return request
    return {**request, "logprobs": True if chat else 1}


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


def without_logprobs(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer as it would be if nobody had asked for log-probabilities."""
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return answer
    return {
        **answer,
        "choices": [{**choice, "logprobs": None} if "logprobs" in choice else choice for choice in choices],
    }
