"""What `POST /v1/moderations` is asked and answers, in OpenAI's form. Pure.

https://platform.openai.com/docs/api-reference/moderations. What models find in categories of their own is said in
those, and in the ones of OpenAI's thirteen that they are nearest to.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.guards.prompts.openai import CATEGORIES

MOST_INPUTS: Final = 32
NEAREST: Final[Mapping[str, tuple[str, ...]]] = {
    "violent-crimes": ("violence", "illicit/violent"), "non-violent-crimes": ("illicit",),
    "sex-related-crimes": ("sexual", "illicit"), "child-sexual-exploitation": ("sexual/minors",),
    "indiscriminate-weapons": ("illicit/violent",), "suicide-self-harm": ("self-harm",),
    "sexual-content": ("sexual",), "violence-and-hate": ("violence", "hate"), "criminal-planning": ("illicit",),
    "guns-and-illegal-weapons": ("illicit/violent",), "regulated-or-controlled-substances": ("illicit",),
    "dangerous-content": ("illicit",), "hate-speech": ("hate",), "sexually-explicit": ("sexual",),
}  # fmt: skip


def inputs_of(document: Mapping[str, Any]) -> list[str]:
    """Give the texts of a request, one for each result. InvalidRequest for what is none, or cannot be looked at."""
    given = document.get("input")
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise _fault("input", "must be a text, or a list of texts or of parts")
    if all(isinstance(one, str) for one in given):
        if len(given) > MOST_INPUTS:
            raise _fault("input", f"must be at most {MOST_INPUTS} texts")
        return given
    return ["\n\n".join(_text_of(part, number) for number, part in enumerate(given))]


def _text_of(part: Any, number: int) -> str:
    if not isinstance(part, dict):
        raise _fault(f"input.{number}", "must be a part with a type, as the others are")
    if part.get("type") == "image_url":
        raise _fault(f"input.{number}", "is an image, and no model here looks at images")
    text = part.get("text")
    if part.get("type") != "text" or not isinstance(text, str):
        raise _fault(f"input.{number}", "must be a part of type text, with a `text`")
    return text


def _fault(field: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{field}` {must}", code="invalid_value", param=field)


def answer_of(
    request_id: str, model: str, results: Sequence[tuple[Iterable[tuple[str, float]], Mapping[str, float]]]
) -> dict[str, Any]:
    """Write the answer: of each text what is found in it, with scores, and the scores of what is not found."""
    return {"id": f"modr-{request_id}", "model": model, "results": [_result(*one) for one in results]}


def _result(found: Iterable[tuple[str, float]], scores: Mapping[str, float]) -> dict[str, Any]:
    categories, told = dict.fromkeys(CATEGORIES, False), dict.fromkeys(CATEGORIES, 0.0)
    for name, score in scores.items():
        _note(told, name, score)
    flagged = False
    for name, score in found:
        flagged = True
        for one in (name, *NEAREST.get(name, ())):
            categories[one] = True
        _note(told, name, score)
    return {
        "flagged": flagged, "categories": categories, "category_scores": told,
        "category_applied_input_types": {name: ["text"] for name in categories},
    }  # fmt: skip


def _note(told: dict[str, float], name: str, score: float) -> None:
    for one in (name, *NEAREST.get(name, ())):
        told[one] = max(score, told.get(one, 0.0))
