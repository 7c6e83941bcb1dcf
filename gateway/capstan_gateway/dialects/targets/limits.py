"""How long an answer may be: not longer than the model can answer, nor than its window has room for."""

from collections.abc import Mapping
from typing import Any, Final

from capstan_gateway.dialects.fields import Document, wrong
from capstan_gateway.dialects.targets.target import Target
from capstan_gateway.tokens.prompt import prompt_tokens

FIELDS: Final = ("max_completion_tokens", "max_tokens")
LEAST: Final = "min_tokens"
SPARE_TOKENS: Final = 256
"""Left free in a window: a template writes more around a prompt than an estimate knows."""


def within_limits(document: Document, target: Target, *, fields: tuple[str, ...] = FIELDS) -> Document:
    """Give the request with a limit that the model takes; the same object when it has one, or none.

    InvalidRequest where the model's owner wants too high a limit refused. A window that the prompt alone would fill
    changes nothing: its engine says so, in numbers that are no estimate.
    """
    if target.max_output_tokens is None and target.context_window is None:
        return document
    for field in fields:
        asked = document.get(field)
        if type(asked) is int and (most := _most(document, target, asked)) < asked:
            if not target.clamps:
                raise wrong(field, f"must be at most {most}, the most tokens that this model can answer with")
            document = {**document, field: most}
            if type(least := document.get(LEAST)) is int and least > most:
                document[LEAST] = most  # vLLM refuses a least length above the limit.
    return document


def _most(document: Mapping[str, Any], target: Target, asked: int) -> int:
    most, window = target.max_output_tokens or asked, target.context_window
    # NB: a window that is many times larger than the limit holds both; to count a prompt takes its time.
    if window is None or not target.clamps or min(asked, most) * 2 <= window:
        return most
    free = window - prompt_tokens(document)
    if free >= min(asked, most):
        return most  # It may fit: the engine knows better than an estimate.
    left = free - SPARE_TOKENS
    return min(most, left) if left > 0 else most


def lengths_of(document: Mapping[str, Any], target: Target) -> tuple[int, int, int] | None:
    """Give the tokens of the prompt, of the answer and of the window, for a chat request that an engine finds too long
    and does not say by how much; None where nobody has told the window.

    The prompt's are an estimate. Where by it there is room for both, it is too low, and the prompt is what is too long.
    """
    window = target.context_window
    if window is None:
        return None
    prompt = prompt_tokens(document)
    asked = [document[field] for field in FIELDS if type(document.get(field)) is int]
    answer = min([*asked, *([target.max_output_tokens] if asked and target.max_output_tokens else [])], default=0)
    if target.clamps and asked:
        answer = min(answer, max(window - prompt - SPARE_TOKENS, 0))  # As it was lowered.
    if prompt <= window < prompt + answer:
        return prompt, answer, window
    return max(prompt, window + 1), 0, window
