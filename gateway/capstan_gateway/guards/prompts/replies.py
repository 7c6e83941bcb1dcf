"""The text, the object and the first token of a model's answer; Unreadable where it has none."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from capstan_gateway.guards.prompts.unreadable import Unreadable

MOST_CHARS: Final = 64 * 1024
_THOUGHTS: Final = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCE: Final = re.compile(r"\A```[a-z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


def text_of(answer: Mapping[str, Any]) -> str:
    """Give the text of a chat completion or a completion, without thoughts."""
    choice = _choice(answer)
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    if not isinstance(text, str) or len(text) > MOST_CHARS:
        raise Unreadable("the model answered without a text")
    return _THOUGHTS.sub("", text).strip()


def object_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Give the JSON object that the text of an answer is, alone or in a fence; nothing may stand around it."""
    text = text_of(answer)
    fenced = _FENCE.match(text)
    try:
        found = orjson.loads(fenced[1] if fenced else text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise Unreadable("the model answered something else than a JSON object")
    return found


def first_token(answer: Mapping[str, Any]) -> dict[str, float]:
    """Give how likely each of the first tokens was that the model told of: without their white space, in lower case.

    Empty when no probabilities were told. In both forms: `content[].top_logprobs` of chats, `top_logprobs[]` of
    completions. White space in front of the first token is passed over.
    """
    logprobs = _choice(answer).get("logprobs")
    for place in _places(logprobs) if isinstance(logprobs, dict) else ():
        likely: dict[str, float] = {}
        for token, value in place:
            word = token.strip().lower() if isinstance(token, str) else ""
            if word and isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
                likely[word] = min(1.0, likely.get(word, 0.0) + math.exp(min(0.0, value)))
        if likely:
            return likely
    return {}


def _places(logprobs: Mapping[str, Any]) -> Iterator[list[tuple[Any, Any]]]:
    content, top = logprobs.get("content"), logprobs.get("top_logprobs")
    if isinstance(content, list):
        for place in content:
            if isinstance(place, dict):
                said = place.get("top_logprobs")
                others = [one for one in said if isinstance(one, dict)] if isinstance(said, list) and said else [place]
                yield [(one.get("token"), one.get("logprob")) for one in others]
    elif isinstance(top, list):
        for place in top:
            if isinstance(place, dict):
                yield list(place.items())


def _choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise Unreadable("the model answered without a choice")
    return choice


def rows_of(answer: Mapping[str, Any], count: int, field: str = "data") -> list[Mapping[str, Any]]:
    """Give the rows of an answer about `count` texts in their order, by `index` where all have one."""
    rows = answer.get(field)
    if not isinstance(rows, list) or len(rows) != count or not all(isinstance(row, dict) for row in rows):
        raise Unreadable("the model answered about another number of texts")
    numbers = [row.get("index") for row in rows]
    if all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        if sorted(numbers) != list(range(count)):
            raise Unreadable("the model answered about other texts")
        rows = sorted(rows, key=lambda row: int(row["index"]))
    return rows
